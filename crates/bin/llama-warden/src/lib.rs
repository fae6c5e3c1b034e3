//! llama-warden as a library: the program, and the types that a compiled plug-in needs.
//!
//! [`Program`] is all of it, for a `main` of one line. The command line lives in `llama-warden-cli`, the daemon in
//! `llama-warden-daemon`, and everything that decides or acts in the crates of the components.

mod program;

pub use program::Program;

/// The types of a compiled plug-in: the trait to implement, and what it receives and returns.
///
/// ```
/// use llama_warden::plugin::{Matcher, StreamName, Verdict};
///
/// /// Reads a fork that announces itself in one line.
/// struct Fork;
///
/// impl Matcher for Fork {
///     fn on_line(&mut self, _stream: StreamName, line: &[u8]) -> Verdict {
///         if line == b"at your service" { Verdict::Ready } else { Verdict::Nothing }
///     }
/// }
///
/// assert_eq!(Fork.on_line(StreamName::Stdout, b"at your service"), Verdict::Ready);
/// ```
pub mod plugin {
    pub use llama_warden_config::ServerSpec;
    pub use llama_warden_detectors::{Matcher, Verdict};
    pub use llama_warden_events::{FailureReason, StreamName};
}

/// The types of a component of your own: the traits to implement, what they receive, and what they publish. The crate
/// `llama-warden-component` explains them, with an example; `examples/custom-component` is a whole program.
pub mod component {
    pub use llama_warden_bus::{
        BusClosed, Clock, CommandRequest, CommandSender, CommandSetId, Delivery, EventDraft, Inbox, Incoming,
        OutputLane, PendingReply, Publisher, ReceivedCommand, Subscription,
    };
    pub use llama_warden_component::{
        Built, CancellationToken, Component, Context, LaunchChange, LaunchReadiness, LaunchTracker, LaunchedProcess,
        Ports, TrackedLaunch, Transition, Worker, next_task,
    };
    pub use llama_warden_config::{ConfigProblem, Configuration, Fleet, ServerSpec};
    pub use llama_warden_events::{
        CommandSet, Envelope, Event, Incarnation, NoCommand, RefusalReason, Refused, Seq, ServerId, SuperviseCommand,
        Uptime,
    };
    pub use llama_warden_state::Snapshot;
    pub use llama_warden_support::{BlockingError, blocking};
}
