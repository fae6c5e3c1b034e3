//! The bus: events in one numbered line, commands to one named owner, output bytes past taps.
//!
//! **Events.** Anyone publishes a [`EventDraft`]; one task, the sequencer, numbers it, folds it into the snapshot, keeps it in
//! a ring and only then makes it visible. A [`Subscription`] starts from a snapshot and yields every later event once, in
//! order, or says how many it missed and hands over a snapshot that contains them. Nobody's slowness holds up the line.
//!
//! **Commands.** Each set of commands has exactly one owner, which the host checks before anything runs. A command is accepted or
//! refused at once; that it is done is learnt from events. Stops and kills overtake what is queued. An [`Inbox`] delivers a command
//! behind every event that its sender could have seen.
//!
//! **Output.** Lines go through an [`OutputSink`], which never waits: taps see each line in order and without loss,
//! everybody else reads a ring that forgets the oldest lines and counts what a slow reader lost.

mod clock;
mod commands;
mod inbox;
mod output;
mod publish;
mod sequencer;
mod subscription;

pub use clock::Clock;
pub use commands::{
    Accepted, CommandReceiver, CommandRequest, CommandRouter, CommandSender, CommandSetId, OwnerError, PendingReply,
    ReceivedCommand,
};
pub use inbox::{Inbox, Incoming};
pub use output::{
    Followed, FollowedLine, LogLine, OutputCounters, OutputKey, OutputLane, OutputSink, OutputTap, StreamFollower,
    TapFactory,
};
pub use publish::{BusClosed, EventDraft, Publisher};
pub use sequencer::Bus;
pub use subscription::{Delivery, Subscription};
