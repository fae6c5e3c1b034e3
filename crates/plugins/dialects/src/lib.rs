//! Translates the options of a server into the command line of the llama-server build that runs it.
//!
//! llama-server renames and removes options every few months. A configuration says what the user means; this crate finds
//! out how one build spells it, and reports each difference:
//!
//! 1. [`OptionList::parse`] reads the options that `--help` lists, [`BuildVersion::parse`] the build number that `--version`
//!    prints. Both make a [`BinaryProfile`].
//! 2. [`choose_dialect`] takes the most specific [`Dialect`] of a [`DialectSet`] that fits the profile. A dialect is a TOML
//!    file with rules, synonyms and examples; the one called `llama-server` is built in and the fallback of all others.
//! 3. [`build_command_line`] makes the [`CommandLine`], with a note for each option that is not passed as it was written.
//!
//! The crate is pure: it runs no executable and uses neither a runtime nor the bus. The launcher runs executables.
//!
//! A user means "flash attention on, memory mapping off". The build below takes `on` as a value, and replaced `--no-mmap` by a
//! load mode:
//!
//! ```
//! use llama_warden_config::{Configuration, Environment, HostEnvironment, ConfigSource};
//! use llama_warden_dialects::{BinaryProfile, BuildVersion, DialectSet, OptionList, build_command_line, choose_dialect};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let help = "-m, --model FNAME                 model path\n\
//!             --host HOST                       address to listen on\n\
//!             --port PORT                       port to listen on\n\
//!             -fa, --flash-attn [on|off|auto]   use flash attention\n\
//!             -lm, --load-mode MODE             how the model is loaded\n";
//! let version = BuildVersion::parse("version: 0.7.0 (build 11669, commit Debian)");
//! let binary = BinaryProfile::new("/opt/llama-server".into(), version, Some(OptionList::parse(help)));
//!
//! let text = "[flags]\nflash-attn = true\nmmap = false\n\
//!             [[servers]]\nid = 'tiny'\nport = 8001\nmodel = '/models/tiny.gguf'\n";
//! let environment: Environment = std::env::vars_os().collect();
//! let fleet = Configuration::parse(&ConfigSource::text("/", text), &environment)
//!     .and_then(|configuration| configuration.resolve(None, &HostEnvironment::current()))
//!     .map_err(|problems| problems.to_string())?;
//! let server = fleet.get("tiny").ok_or("is configured")?;
//!
//! let dialect = choose_dialect(&DialectSet::built_in(), &binary, None).ok_or("one is built in")?.file;
//! let line = build_command_line(server, &binary, &dialect)?;
//! let shown = line.redacted().join(" ");
//! assert!(shown.ends_with("--model /models/tiny.gguf --host 127.0.0.1 --port 8001"), "{shown}");
//! assert!(shown.contains("--flash-attn on --load-mode none"), "{shown}");
//! let mmap = line.notes.iter().find(|note| &*note.option == "mmap").ok_or("is translated")?;
//! assert_eq!(mmap.spelled.to_vec(), ["--load-mode", "none"]);
//! # Ok(())
//! # }
//! ```

mod allowed_values;
mod arguments;
mod command_line;
mod dialect;
mod file;
#[cfg(test)]
mod fixtures;
mod flag_value;
mod help;
mod http_threads;
mod load;
mod option_error;
mod own_settings;
mod profile;
mod redact;
#[cfg(test)]
mod tests;
mod translate;
mod variables;

pub use arguments::InputFile;
pub use command_line::{CommandLine, build_command_line, draft_command_line};
pub use dialect::Dialect;
pub use file::dialect_schema;
pub use help::{HostForms, OptionList, ValueKind};
pub use load::{DialectSet, choose_dialect};
pub use option_error::{OptionError, OptionErrors};
pub use profile::{BinaryProfile, BuildVersion};
pub use redact::server_secrets;
pub use variables::named_variables;
