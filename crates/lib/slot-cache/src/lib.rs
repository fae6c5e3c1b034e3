//! Keeps what the slots of a llama-server hold in files while the server is down: which launch may use which file, and what must not be
//! tried.
//!
//! A file that llama-server writes says nothing about the model, the build or the options: restored into another server of the same
//! shape, it gives wrong answers, and one that was cut ends four of the measured builds. So a file is bound to the launch that wrote it:
//!
//! * [`LaunchFingerprint`]: the code, every file that the command line names, the arguments and the environment. One difference, and the
//!   file is not used.
//! * [`refused_before`]: what is known to fail, or to give other answers, by the command line alone.
//! * [`SavedLaunch`]: the files of one launch, each with its length and a checksum. They are used once.
//! * [`SlotStore`]: those of all servers within a limit of size, and the launches for which it is off, each with the reason.
//! * [`AnsweredTurn`]: the last request of a launch, by which the next one is known to continue it; [`judge()`] says whether that was any use.
//!
//! The manifest of a file is in memory: no file outlives the run of the daemon, and nothing on the disk is believed.

mod answers;
mod fingerprint;
mod judge;
mod refusals;
mod saved;
mod store;

pub use answers::{RestoreAnswer, SaveAnswer};
pub use fingerprint::{FingerprintError, LaunchFingerprint, LaunchIdentity, start_time};
pub use judge::{AnsweredTurn, PromptText, SlotProof, TurnTokens, judge};
pub use refusals::refused_before;
pub use saved::{FileFault, SavedLaunch, SavedSlot, WrittenSlot};
pub use store::{SlotStore, Stored, clear, remove};
