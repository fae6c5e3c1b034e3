//! The output lane: lines of servers go past taps into rings.
//!
//! Pushing never waits. Taps are called in the task that reads the pipe, in order and without loss. Followers read the ring of a
//! stream with a cursor of their own; lines that the ring dropped before a follower read them are counted and reported.

mod lane;
mod ring;

pub use lane::{
    Followed, FollowedLine, LogLine, OutputCounters, OutputKey, OutputLane, OutputSink, OutputTap, StreamFollower,
    TapFactory,
};
