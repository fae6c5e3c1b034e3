//! Parses the command line as the builds do: an unknown option or a bad value is an error.

use std::{collections::BTreeMap, io, path::PathBuf, process::ExitCode};

use crate::{
    arguments::Arguments,
    eras::Era,
    help,
    options::{self, CliOption, OptionArgument},
    output::{self, Stream},
    renames::Renames,
};

/// The task that the command line asks for.
#[derive(Debug)]
pub(crate) enum Invocation {
    Version,
    Help,
    Serve(Settings),
}

/// The settings of a server.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// `argv[0]`. Children are started with it, so that llama-warden recognises its stand-in.
    pub(crate) program: std::ffi::OsString,
    /// The path as it was given, since the log and the endpoints repeat it.
    pub(crate) model: String,
    pub(crate) alias: Option<String>,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) reuse_port: bool,
    pub(crate) context_size: u64,
    pub(crate) slots: u64,
    pub(crate) slot_folder: Option<PathBuf>,
    pub(crate) api_keys: Vec<String>,
    pub(crate) metrics: bool,
    /// Seconds between pings of a stream; negative for none.
    pub(crate) sse_ping_interval: i64,
    pub(crate) log: ServerLogSettings,
}

/// Destination and format of the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerLogSettings {
    pub(crate) disabled: bool,
    pub(crate) json_lines: bool,
    pub(crate) colors: bool,
    pub(crate) bare: bool,
    pub(crate) file: Option<PathBuf>,
}

/// The reason why the command line is refused.
#[derive(Debug)]
pub(crate) enum ArgumentError {
    Unknown(String),
    NoValue { option: &'static CliOption, given: String },
    BadValue { option: &'static CliOption, given: String, problem: String },
    KeyFile { path: String, source: io::Error },
    NoModel,
}

impl Invocation {
    /// Reads the arguments as a build of `era` does.
    pub(crate) fn parse(era: Era, renames: &Renames, arguments: &Arguments) -> Result<Self, ArgumentError> {
        let given = Given::parse(era, renames, arguments)?;
        if given.has("--help") {
            return Ok(Self::Help);
        }
        if given.has("--version") {
            return Ok(Self::Version);
        }
        Ok(Self::Serve(given.into_settings(era, arguments)?))
    }
}

/// The given options with their last values.
struct Given(BTreeMap<&'static str, String>);

impl Given {
    fn parse(era: Era, renames: &Renames, arguments: &Arguments) -> Result<Self, ArgumentError> {
        let mut values = BTreeMap::new();
        // As in the builds, an option that takes a value takes the next argument, even if it looks like an option.
        let mut rest = arguments.rest.iter();
        while let Some(given) = rest.next() {
            let option = renames.old_name(given).and_then(|name| options::named(era, name));
            let option = option.ok_or_else(|| ArgumentError::Unknown(given.clone()))?;
            let value = match option.argument {
                OptionArgument::Nothing => String::new(),
                OptionArgument::Text(_) | OptionArgument::Number(_) | OptionArgument::Switch => {
                    let no_value = || ArgumentError::NoValue { option, given: given.clone() };
                    rest.next().ok_or_else(no_value)?.clone()
                }
            };
            check(option, given, &value)?;
            // The builds act on these at once and ignore the rest of the command line.
            let ends = matches!(option.key(), "--help" | "--version");
            values.insert(option.key(), value);
            if ends {
                break;
            }
        }
        Ok(Self(values))
    }

    fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    fn text(&self, key: &str) -> Option<String> {
        self.0.get(key).cloned()
    }

    fn number<N: TryFrom<i64>>(&self, key: &str, default: N) -> N {
        let number = self.0.get(key).and_then(|value| leading_integer(value));
        number.and_then(|number| N::try_from(number).ok()).unwrap_or(default)
    }

    fn into_settings(self, era: Era, arguments: &Arguments) -> Result<Settings, ArgumentError> {
        Ok(Settings {
            program: arguments.program.clone(),
            model: self.text("--model").ok_or(ArgumentError::NoModel)?,
            alias: self.text("--alias"),
            host: self.text("--host").unwrap_or_else(|| "127.0.0.1".into()),
            port: self.number("--port", if era == Era::B11669 { 9931 } else { 8080 }),
            reuse_port: self.has("--reuse-port"),
            context_size: self.number("--ctx-size", 0),
            slots: self.number("--parallel", if era == Era::B11669 { 4 } else { 1 }),
            slot_folder: self.text("--slot-save-path").map(PathBuf::from),
            api_keys: self.api_keys()?,
            metrics: self.has("--metrics"),
            sse_ping_interval: self.number("--sse-ping-interval", 30),
            log: ServerLogSettings {
                // Before late 2024 the option concerned a log file.
                disabled: self.has("--log-disable") && era >= Era::November2024,
                json_lines: self.has("--log-jsonl"),
                colors: self.text("--log-colors").is_some_and(|value| value == "on"),
                bare: self.has("--no-log-prefix") || era < Era::B11669,
                file: self.text("--log-file").map(PathBuf::from),
            },
        })
    }

    fn api_keys(&self) -> Result<Vec<String>, ArgumentError> {
        let listed = self.text("--api-key").unwrap_or_default();
        let mut keys: Vec<String> = listed.split(',').filter(|key| !key.is_empty()).map(str::to_owned).collect();
        if let Some(path) = self.text("--api-key-file") {
            let text = std::fs::read_to_string(&path).map_err(|source| ArgumentError::KeyFile { path, source })?;
            keys.extend(text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned));
        }
        Ok(keys)
    }
}

fn check(option: &'static CliOption, given: &str, value: &str) -> Result<(), ArgumentError> {
    let problem = match option.argument {
        OptionArgument::Number(_) if leading_integer(value).is_none() => "stoi".to_owned(),
        OptionArgument::Switch if !matches!(value, "on" | "off" | "auto") => {
            format!("error: unknown value for {given}: '{value}'")
        }
        OptionArgument::Nothing | OptionArgument::Text(_) | OptionArgument::Number(_) | OptionArgument::Switch => {
            return Ok(());
        }
    };
    Err(ArgumentError::BadValue { option, given: given.to_owned(), problem })
}

/// The number at the beginning of `text`, as C++'s `stoi` parses it.
fn leading_integer(text: &str) -> Option<i64> {
    let text = text.trim_start();
    let digits_at = usize::from(text.starts_with(['-', '+']));
    let end = text[digits_at..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |at| at + digits_at);
    text[..end].parse().ok()
}

impl ArgumentError {
    /// Prints the message of the era, and returns its exit code.
    pub(crate) fn report(&self, era: Era, renames: &Renames) -> ExitCode {
        output::write(Stream::Stderr, self.message(era, renames));
        if era <= Era::July2024 && matches!(self, Self::Unknown(_)) {
            output::write(Stream::Stdout, help::usage(era, renames));
        }
        ExitCode::FAILURE
    }

    fn message(&self, era: Era, renames: &Renames) -> String {
        let old = era <= Era::July2024;
        match self {
            Self::Unknown(given) if old => format!("error: unknown argument: {given}\n"),
            Self::Unknown(given) => format!("error: invalid argument: {given}\n"),
            Self::NoValue { given, .. } if old => format!("error: invalid parameter for argument: {given}\n"),
            Self::NoValue { option, given } => {
                with_usage(&help::entry(era, renames, option), given, "expected value for argument")
            }
            Self::BadValue { problem, .. } if old => format!("{problem}\n"),
            Self::BadValue { option, given, problem } => with_usage(&help::entry(era, renames, option), given, problem),
            Self::KeyFile { path, source } => {
                format!(
                    "error while handling argument \"--api-key-file\": error: failed to open file '{path}': {source}\n"
                )
            }
            Self::NoModel => "stand-in: the router mode of a server without a model is not imitated\n".into(),
        }
    }
}

fn with_usage(entry: &str, given: &str, problem: &str) -> String {
    format!(
        "error while handling argument \"{given}\": {problem}\n\nusage:\n{entry}\n\nto show complete usage, run with -h\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(era: Era, line: &str) -> Result<Invocation, ArgumentError> {
        let args: Vec<std::ffi::OsString> = line.split_whitespace().map(Into::into).collect();
        Invocation::parse(era, &Renames::default(), &Arguments::split(&args))
    }

    fn refusal(era: Era, line: &str) -> String {
        parse(era, line).unwrap_err().message(era, &Renames::default())
    }

    #[test]
    fn the_seed_flags_meet_the_fate_that_was_recorded() {
        let exact = "s -m x --ctx-size 32768 --n-gpu-layers 99 --threads 8 --batch-size 512 --ubatch-size 256 \
                     --flash-attn --no-mmap --log-disable";
        assert_eq!(refusal(Era::December2023, exact), "error: unknown argument: --ubatch-size\n");
        assert!(matches!(parse(Era::July2024, exact), Ok(Invocation::Serve(_))));
        assert!(matches!(parse(Era::August2025, exact), Ok(Invocation::Serve(_))));
        assert!(refusal(Era::B11669, exact).starts_with(
            "error while handling argument \"--flash-attn\": error: unknown value for --flash-attn: '--no-mmap'\n\nusage:"
        ));
        let on = exact.replace("--flash-attn", "--flash-attn on");
        assert_eq!(refusal(Era::August2025, &on), "error: invalid argument: on\n");
        assert_eq!(refusal(Era::B11669, &on), "error: invalid argument: --no-mmap\n");
    }

    #[test]
    fn bad_and_missing_values_are_reported_with_the_options_usage() {
        let usage = help::entry(Era::B11669, &Renames::default(), options::named(Era::B11669, "-c").unwrap());
        assert_eq!(
            refusal(Era::B11669, "s -m x --ctx-size abc"),
            format!(
                "error while handling argument \"--ctx-size\": stoi\n\nusage:\n{usage}\n\nto show complete usage, run with -h\n"
            )
        );
        assert!(refusal(Era::B11669, "s -m x -c").contains("\"-c\": expected value for argument"));
    }

    #[test]
    fn a_number_is_read_as_far_as_it_goes_and_the_last_one_counts() {
        let Ok(Invocation::Serve(settings)) = parse(Era::B11669, "s -m x -c 512 -c 1024tokens") else {
            panic!("serves")
        };
        assert_eq!(settings.context_size, 1024);
    }

    #[test]
    fn the_version_is_unknown_to_2023() {
        assert_eq!(refusal(Era::December2023, "s --version"), "error: unknown argument: --version\n");
        assert!(matches!(parse(Era::July2024, "s --version"), Ok(Invocation::Version)));
    }
}
