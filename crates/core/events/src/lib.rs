//! The vocabulary of llama-warden: identifiers, events, commands, envelopes, process ends and reasons.
//!
//! Components exchange nothing but these types. The crate has no runtime, no clock and no file access: times are passed to it.
//!
//! * An **event** ([`Event`]) says what happened: a noun and a past participle. It travels in an [`Envelope`].
//! * A **command** (a [`CommandSet`]) asks its one owner to do something: a verb and a noun.
//! * A **reason** ([`FailureReason`], [`RefusalReason`], [`StopReason`], …) is a closed enum, so that it can be a label.

// Here, since everything else is built after this crate.
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("llama-warden runs on Linux, on x86-64 and aarch64: it needs pidfds, parent-death signals and /proc");

mod argument_list;
mod canary;
mod command;
mod detail;
mod envelope;
mod event;
mod file_refusal;
mod hook;
mod id;
mod process;
mod reason;
mod signal;
mod time;
mod totals;
mod trace;
mod words;

pub use argument_list::ArgumentList;
pub use canary::{BuildFigures, CanaryCommand, CanaryOutcome, CanaryReport, CompletionAnswer, OptionDifference};
pub use command::{
    CommandSet, HealthCommand, HookCommand, LaunchCommand, NoCommand, Refused, RouteCommand, SuperviseCommand,
    TerminateCommand,
};
pub use detail::{
    BinaryIdentity, BuildChange, CommandOutcome, CommandSummary, LeftFailure, ListenerOwner, MemoryEstimate,
    OptionNote, OptionTreatment, ProfileCard, RouterCard, Rung, ServerCard, StreamName, SwitchPlan,
};
pub use envelope::Envelope;
pub use event::{Event, ExtensionEvent};
pub use file_refusal::FileRefusal;
pub use hook::HookOutcome;
pub use id::{BootId, EventPosition, Incarnation, InvalidBootId, InvalidEventPosition, InvalidServerId, Seq, ServerId};
pub use process::ProcessEnd;
pub use reason::{EvictionCause, ExitOutcome, FailureReason, HookPoint, ReadyVia, RefusalReason, StopReason, Warning};
pub use signal::{InvalidSignal, Signal};
pub use time::{Timestamp, Uptime};
pub use totals::{HistogramTotals, ServerTotals};
pub use trace::{InvalidTraceParent, LaunchTraceId, TraceParent};
