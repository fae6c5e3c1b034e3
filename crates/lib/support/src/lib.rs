//! Small tools that several crates need, without any knowledge of servers.

mod blocking;
mod fail_point;
mod find_program;
mod interner;
mod key_file;
mod line_splitter;
mod lock;
mod notices;
mod open_input;
mod program_name;
mod read_regular;
mod redact;
mod redact_arguments;
mod replace_file;
mod runtime;
mod slot_channel;
mod terminal_text;
mod token_file;

pub use blocking::{BlockingError, blocking};
pub use fail_point::{fail_point, fail_point_of};
pub use find_program::{NotInPath, find_program, is_executable, without_arguments};
pub use interner::Interner;
pub use key_file::KeyFile;
pub use line_splitter::{LineSplitter, head_and_tail};
pub use lock::lock;
pub use notices::{KernelNotices, WantedChanges, next_notice};
pub use open_input::{is_descriptor, open_input};
pub use program_name::{naming_program, program_name, set_program_name};
pub use read_regular::{open_if_regular, open_own_file, open_regular, read_bounded, read_regular};
pub use redact::{REDACTED, Redactor, mask, masked_variable, secrets_in, variable_secrets};
pub use redact_arguments::{argument_secrets, is_secret_option, list_secrets, masked_arguments};
pub use replace_file::{Durability, is_disk_full, replace_file};
pub use runtime::build_runtime;
pub use slot_channel::{SlotClosed, SlotReceiver, SlotSender, slot_channel};
pub use terminal_text::{for_cell, for_terminal};
pub use token_file::{open_to_others, read_token_line};
