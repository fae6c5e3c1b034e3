//! The bus: numbered events, commands with one owner each, and the output of servers.
//!
//! **Events.** Anyone publishes an [`EventDraft`]. One task, the sequencer, numbers it, folds it into the snapshot, keeps it in a
//! ring and only then makes it visible. A [`Subscription`] starts from a snapshot and yields every later event once and in order;
//! a slow one gets a gap with the number of missed events and the snapshot that contains them. The sequencer waits for no reader.
//!
//! **Commands.** Each set of commands has exactly one owner; the host checks that before anything runs. A command is accepted or
//! refused at once, and events report its completion. Stops and kills overtake queued commands. An [`Inbox`] delivers a command
//! behind every event that its sender could have seen.
//!
//! **Output.** Lines go through an [`OutputSink`], which never waits. Taps see each line in order and without loss; followers read
//! a ring that drops the oldest lines and counts the lines that a slow follower lost.
//!
//! ```
//! use llama_warden_bus::{Bus, Delivery, EventDraft};
//! use llama_warden_events::{BootId, Event};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let (bus, publisher) = Bus::start(BootId::from_random(1), 1024);
//! let mut subscription = bus.subscribe("example");
//! let stopping = Event::DaemonStopping { trigger: "signal TERM".to_owned() };
//! let seq = publisher.publish_acked(EventDraft::daemon(stopping)).await.unwrap();
//! // The snapshot contains the event before anybody can read it.
//! assert_eq!(bus.snapshot().seq, seq);
//! let Some(Delivery::Event(envelope)) = subscription.next().await else { panic!("no gap after one event") };
//! assert_eq!(envelope.event.kind(), "DaemonStopping");
//! # });
//! ```

mod clock;
mod commands;
mod event_ring;
mod extension_rate;
mod inbox;
mod lock;
mod output;
mod publish;
mod sequencer;
mod subscription;

pub use clock::{Clock, wall_time};
pub use commands::{
    Accepted, CommandReceiver, CommandRequest, CommandRouter, CommandSender, CommandSetId, OwnerError, PendingReply,
    ReceivedCommand,
};
pub use extension_rate::MAX_EXTENSION_EVENTS_PER_SECOND;
pub use inbox::{Inbox, Incoming};
pub use output::{
    Followed, FollowedLine, LogLine, OutputCounters, OutputKey, OutputLane, OutputSink, OutputTap, StreamFollower,
    TapFactory,
};
pub use publish::{BusClosed, EventDraft, Publisher};
pub use sequencer::Bus;
pub use subscription::{Delivery, Subscription};
