//! The output lane: lines of the servers, past taps into rings.
//!
//! Pushing never waits. Taps are called in the reader's own task, in order and without loss. Everybody else reads the
//! ring of a stream with a cursor of their own; what the ring forgot before they came is counted, never silent.

mod lane;
mod ring;

pub use lane::{
    Followed, FollowedLine, LogLine, OutputCounters, OutputKey, OutputLane, OutputSink, OutputTap, StreamFollower,
    TapFactory,
};
