//! Builds the command line of a server for one build, with a note for every option that is not passed as it was written.
//!
//! Invariants: no secret appears in a note, in a warning or in [`CommandLine::redacted`]; every argument is one that the kernel
//! can pass and that a server reads as what it is.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use llama_warden_config::{FlagOrigin, ServerSpec};
use llama_warden_events::{OptionNote, OptionTreatment};
use llama_warden_support::REDACTED;

use crate::dialect::Dialect;
use crate::flag_value::{self, PROTECTION_UNLISTED};
use crate::help::{HostForms, OptionList};
use crate::option_error::OptionError;
use crate::profile::BinaryProfile;
use crate::redact;
use crate::translate::{self, Spelling, SpellingChange, Translator};

/// A program with its arguments, and how the arguments differ from the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The absolute path of the executable.
    pub program: PathBuf,
    /// The arguments after the program's name.
    pub arguments: Vec<OsString>,
    /// One note per option that is not passed as it was written; secrets redacted.
    pub notes: Vec<OptionNote>,
    /// One sentence per option that the user set and that is not passed.
    pub warnings: Vec<String>,
    /// Values of secret options. A dialect may pass them under another name, so that the arguments alone do not show them.
    secrets: Vec<String>,
}

/// Seconds between pings on a stream. With the default of 30, a server that streams to a client ends up to 30 s after TERM
/// (measured).
const PING_INTERVAL: &str = "1";

/// The option by which a build downloads its model from Hugging Face.
const REPOSITORY: &str = "hf-repo";

/// Why a model that is a repository cannot be passed.
const NO_DOWNLOADS: &str = "this build cannot download a model by name: it does not list --hf-repo; download it, and write the \
                            path of the file";

/// Builds the command line of `server` for the build that `binary` describes.
///
/// `--model`, `--host` and `--port` come first, then the options that llama-warden adds for itself, then the flags by name,
/// then the verbatim arguments. llama-server uses the last of equal options, so that the user's verbatim arguments win.
///
/// # Errors
/// If an option is not known to any build, has a value that cannot be passed, or protects the server and is not listed; if the server
/// should listen on a unix socket and the build cannot.
pub fn build_command_line(
    server: &ServerSpec,
    binary: &BinaryProfile,
    dialect: &Dialect,
) -> Result<CommandLine, OptionError> {
    check_server(server)?;
    check_host(server, binary)?;
    let mut line = CommandLine::new(binary.path.clone());
    match &binary.options {
        Some(listed) => {
            let flags = translate::merge_names(&server.flags, dialect);
            line.add_translated(server, &Translator { dialect, listed, flags: &flags })?;
        }
        None => line.add_as_written(server)?,
    }
    line.push(&server.args);
    Ok(line)
}

impl CommandLine {
    fn new(program: PathBuf) -> Self {
        Self { program, arguments: Vec::new(), notes: Vec::new(), warnings: Vec::new(), secrets: Vec::new() }
    }

    /// The program and its arguments, secrets redacted.
    pub fn redacted(&self) -> Vec<String> {
        let program = self.program.to_string_lossy().into_owned();
        std::iter::once(program).chain(self.redact(self.texts())).collect()
    }

    /// The secret values in it, for redacting the output of the process.
    pub fn secrets(&self) -> Vec<String> {
        let by_name = redact::secrets(self.texts());
        by_name.into_iter().chain(self.secrets.iter().cloned()).collect()
    }

    fn texts(&self) -> impl Iterator<Item = String> {
        self.arguments.iter().map(|argument| argument.to_string_lossy().into_owned())
    }

    /// Replaces arguments that are secret by their own name, or by the name under which the user set their value.
    fn redact(&self, arguments: impl IntoIterator<Item = String>) -> impl Iterator<Item = String> {
        // A secret of up to three bytes would match parts of ordinary arguments: it has to be the whole argument.
        let is_in =
            |argument: &str, secret: &str| argument == secret || (secret.len() > 3 && argument.contains(secret));
        let hides = move |argument: &str| self.secrets.iter().any(|secret| is_in(argument, secret));
        redact::arguments(arguments).map(move |argument| if hides(&argument) { REDACTED.to_owned() } else { argument })
    }

    fn push<T: Into<OsString>>(&mut self, arguments: impl IntoIterator<Item = T>) {
        self.arguments.extend(arguments.into_iter().map(Into::into));
    }

    /// Adds everything as it is written, for a build whose help could not be read.
    fn add_as_written(&mut self, server: &ServerSpec) -> Result<(), OptionError> {
        for (name, value) in required_options(server) {
            self.push([OsString::from(format!("--{name}")), value]);
        }
        if let Some(file) = &server.api_key_file {
            self.push(["--api-key-file".into(), file.clone().into_os_string()]);
        }
        for (name, flag) in server.flags.iter() {
            translate::check(name, &flag.value)?;
            self.push(flag_value::as_written(name, &flag.value));
        }
        Ok(())
    }

    fn add_translated(&mut self, server: &ServerSpec, translator: &Translator<'_>) -> Result<(), OptionError> {
        for (name, value) in required_options(server) {
            if name == REPOSITORY && translator.spell_internal(name, &value.to_string_lossy()).is_none() {
                return Err(OptionError::new("model", NO_DOWNLOADS));
            }
            // Every build has the others, whatever its help says. A path that is not UTF-8 is passed as it is.
            match value.to_str().and_then(|value| translator.spell_internal(name, value)) {
                Some(spelling) => self.add(name, FlagOrigin::User, spelling),
                None => self.push([OsString::from(format!("--{name}")), value]),
            }
        }
        if let Some(file) = &server.api_key_file {
            let spelling = translator.spell_internal("api-key-file", &file.to_string_lossy());
            let spelling = spelling.ok_or_else(|| OptionError::new("api-key-file", PROTECTION_UNLISTED))?;
            self.add("api-key-file", FlagOrigin::User, spelling);
        }
        self.add_internal(server, translator);
        for (name, flag) in translator.flags {
            let spelling = translator.spell(name, &flag.value)?;
            // Before the note is made, which is redacted by these.
            if redact::is_secret_option(name) {
                flag_value::texts(&flag.value).iter().for_each(|value| redact::add_secret(&mut self.secrets, value));
            }
            self.add(name, flag.origin, spelling);
        }
        Ok(())
    }

    /// Adds the options that llama-warden needs, unless the user set them or the build has no way to pass them.
    fn add_internal(&mut self, server: &ServerSpec, translator: &Translator<'_>) {
        let internal = [
            ("alias", "-a", server.id.as_str(), "the model is recognised by it"),
            ("sse-ping-interval", "", PING_INTERVAL, "a stop waits for the next ping while a client streams"),
        ];
        for (name, short_name, value, because) in internal {
            let long_name = format!("--{name}");
            let is_set = server.flags.contains_key(name)
                || server.args.iter().any(|argument| *argument == long_name || argument == short_name);
            if let Some(spelling) = translator.spell_internal(name, value).filter(|_| !is_set) {
                self.add_changed(
                    name,
                    OptionTreatment::Added,
                    SpellingChange::by_help(spelling.into_arguments(), because),
                );
            }
        }
    }

    fn add(&mut self, name: &str, origin: FlagOrigin, spelling: Spelling) {
        match spelling {
            Spelling::Kept(spelled) => self.push(spelled),
            Spelling::Translated(change) => self.add_changed(name, OptionTreatment::Translated, change),
            Spelling::Dropped(change) => {
                // A default that a build does not support is dropped without a warning.
                if origin == FlagOrigin::User {
                    self.warnings.push(format!("option `{name}` is not passed: {}", change.because));
                }
                self.add_changed(name, OptionTreatment::Dropped, change);
            }
        }
    }

    fn add_changed(&mut self, option: &str, treatment: OptionTreatment, change: SpellingChange) {
        let SpellingChange { spelled, because, dialect } = change;
        self.push(&spelled);
        let spelled = self.redact(spelled).collect();
        let (because, dialect) = (because.into(), dialect.map(Into::into));
        self.notes.push(OptionNote { option: option.into(), treatment, spelled, because, dialect });
    }
}

/// The options that every server is started with.
fn required_options(server: &ServerSpec) -> [(&'static str, OsString); 3] {
    let (host, port) = ((*server.host).into(), server.port.to_string().into());
    let model = match server.model_repository() {
        Some(repository) => (REPOSITORY, repository.into()),
        None => ("model", server.model.clone().into_os_string()),
    };
    [model, ("host", host), ("port", port)]
}

/// Checks the values that are not flags: the model, the host and the verbatim arguments.
fn check_server(server: &ServerSpec) -> Result<(), OptionError> {
    let is_one_line = |bytes: &[u8]| !bytes.iter().any(|byte| matches!(byte, 0 | b'\n'));
    if !is_one_line(server.model.as_os_str().as_bytes()) {
        return Err(OptionError::new("model", "the path contains a line end or a NUL byte"));
    }
    if !server.model.is_absolute() && server.model_repository().is_none() {
        return Err(OptionError::new("model", "the path is not absolute"));
    }
    if !is_one_line(server.host.as_bytes()) || server.host.is_empty() || server.host.starts_with('-') {
        return Err(OptionError::new("host", format!("`{}` is not an address", server.host.escape_debug())));
    }
    if server.args.iter().any(|argument| argument.contains('\0')) {
        return Err(OptionError::new("args", "an argument contains a NUL byte"));
    }
    Ok(())
}

/// Refuses a unix socket for a build that would take its path for the name of a host.
fn check_host(server: &ServerSpec, binary: &BinaryProfile) -> Result<(), OptionError> {
    let hosts = binary.options.as_ref().map_or(HostForms::Unknown, OptionList::hosts);
    let asks_for_socket = server.host.split(',').any(|host| host.trim().ends_with(".sock"));
    if asks_for_socket && hosts == HostForms::Addresses {
        let detail =
            "this build cannot listen on a unix socket; set `host` to an address, or `binary` to a newer build";
        return Err(OptionError::new("host", detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use llama_warden_config::{Flag, FlagValue};

    use super::*;
    use crate::fixtures::{self, user_flag};
    use crate::load::DialectSet;
    use crate::profile::BuildVersion;

    fn profile(build: &str) -> BinaryProfile {
        let options = Some(OptionList::parse(&fixtures::help(build)));
        BinaryProfile::new("/opt/llama-server".into(), BuildVersion::default(), options)
    }

    fn planned(server: &ServerSpec, binary: &BinaryProfile) -> Result<CommandLine, OptionError> {
        build_command_line(server, binary, &fixtures::dialect())
    }

    /// The flags of the `seed-flags` recordings in `tests/fixtures/transcripts`.
    fn seed(log_disable: bool) -> ServerSpec {
        let mut server = fixtures::server("tiny");
        let flag = |value| Flag { value, origin: FlagOrigin::BuiltIn };
        let numbers =
            [("ctx-size", 32768), ("n-gpu-layers", 99), ("threads", 8), ("batch-size", 512), ("ubatch-size", 256)];
        let switches = [("flash-attn", true), ("mmap", false), ("log-disable", log_disable)];
        Arc::make_mut(&mut server.flags)
            .extend(numbers.map(|(name, number)| (name.to_owned(), flag(FlagValue::Integer(number)))));
        Arc::make_mut(&mut server.flags)
            .extend(switches.map(|(name, on)| (name.to_owned(), flag(FlagValue::Switch(on)))));
        server
    }

    #[test]
    fn the_seed_flags_are_spelled_for_every_recorded_build() {
        let start = "/opt/llama-server --model /models/tiny.gguf --host 127.0.0.1 --port 8001";
        let cases = [
            (
                "2024-07-py0.2.80",
                "--batch-size 512 --ctx-size 32768 --flash-attn --log-disable --no-mmap --threads 8 --ubatch-size 256",
            ),
            (
                "2024-11-py0.3.2",
                "--alias tiny --batch-size 512 --ctx-size 32768 --flash-attn --log-disable --no-mmap --n-gpu-layers 99 \
                 --threads 8 --ubatch-size 256",
            ),
            (
                "2025-08-py0.3.16",
                "--alias tiny --batch-size 512 --ctx-size 32768 --flash-attn --log-disable --no-mmap --n-gpu-layers 99 \
                 --threads 8 --ubatch-size 256",
            ),
            (
                "b11669-debian",
                "--alias tiny --sse-ping-interval 1 --batch-size 512 --ctx-size 32768 --flash-attn on --log-disable \
                 --load-mode none --n-gpu-layers 99 --threads 8 --ubatch-size 256",
            ),
        ];
        for (build, expected) in cases {
            let line = planned(&seed(true), &profile(build)).expect(build);
            assert_eq!(line.redacted().join(" "), format!("{start} {expected}"), "{build}");
            assert_eq!(line.warnings, [""; 0], "{build}: defaults are dropped quietly");
            let silent = planned(&seed(false), &profile(build)).expect(build);
            assert!(!silent.redacted().contains(&"--log-disable".to_owned()), "{build}");
        }
    }

    #[test]
    fn a_model_of_hugging_face_goes_to_builds_that_list_the_option() {
        let mut server = fixtures::server("tiny");
        server.model = "hf:org/repo:Q4_K_M".into();
        let start = "/opt/llama-server --hf-repo org/repo:Q4_K_M --host 127.0.0.1 --port 8001";
        for build in ["2024-11-py0.3.2", "b11669-debian"] {
            let line = planned(&server, &profile(build)).expect(build).redacted().join(" ");
            assert!(line.starts_with(start) && !line.contains("--model"), "{build}: {line}");
        }
        let line = planned(&server, &BinaryProfile::unknown("/opt/llama-server".into())).expect("as written");
        assert!(line.redacted().join(" ").starts_with(start));
        let options = Some(OptionList::parse("--model FNAME  x\n--port N  x\n--host H  x\n"));
        let old = BinaryProfile::new("/opt/llama-server".into(), BuildVersion::default(), options);
        let error = planned(&server, &old).expect_err("must be refused");
        assert!(error.to_string().contains("does not list --hf-repo"), "{error}");
    }

    #[test]
    fn what_changed_is_noted_and_what_a_user_loses_is_warned_about() {
        let mut server = seed(false);
        Arc::make_mut(&mut server.flags).insert("sse-ping-interval".into(), user_flag(FlagValue::Integer(5)));
        let line = planned(&server, &profile("2024-07-py0.2.80")).expect("planned");
        let notes: Vec<(&str, OptionTreatment)> =
            line.notes.iter().map(|note| (&*note.option, note.treatment)).collect();
        let expected = [
            ("log-disable", OptionTreatment::Translated),
            ("n-gpu-layers", OptionTreatment::Dropped),
            ("sse-ping-interval", OptionTreatment::Dropped),
        ];
        assert_eq!(notes, expected);
        assert_eq!(line.warnings, ["option `sse-ping-interval` is not passed: this build does not list it"]);
    }

    #[test]
    fn what_the_user_sets_is_not_added() {
        let mut server = seed(false);
        Arc::make_mut(&mut server.flags).insert("alias".into(), user_flag(FlagValue::Text("mine".into())));
        server.args = vec!["--sse-ping-interval".into(), "-1".into(), "--verbose".into()];
        let line = planned(&server, &profile("b11669-debian")).expect("planned").redacted().join(" ");
        assert_eq!(line.matches("--alias").count(), 1, "{line}");
        assert!(line.contains("--alias mine"), "{line}");
        assert!(line.ends_with(" --sse-ping-interval -1 --verbose"), "{line}");
        assert_eq!(line.matches("--sse-ping-interval").count(), 1, "{line}");
    }

    #[test]
    fn a_build_without_readable_help_gets_everything_as_written() {
        let mut server = seed(false);
        Arc::make_mut(&mut server.flags).insert("no-such-option".into(), user_flag(FlagValue::Switch(true)));
        server.api_key_file = Some("/keys".into());
        let line = planned(&server, &BinaryProfile::unknown("/opt/llama-server".into())).expect("planned");
        assert_eq!(
            line.redacted().join(" "),
            "/opt/llama-server --model /models/tiny.gguf --host 127.0.0.1 --port 8001 --api-key-file /keys \
             --batch-size 512 --ctx-size 32768 --flash-attn --no-log-disable --no-mmap --n-gpu-layers 99 \
             --no-such-option --threads 8 --ubatch-size 256"
        );
    }

    #[test]
    fn protection_is_never_dropped() {
        let bare = BinaryProfile::new(
            "/opt/llama-server".into(),
            BuildVersion::default(),
            Some(OptionList::parse("--model FNAME  x")),
        );
        let mut with_file = fixtures::server("tiny");
        with_file.api_key_file = Some("/keys".into());
        let mut with_key = fixtures::server("tiny");
        Arc::make_mut(&mut with_key.flags).insert("api-key".into(), user_flag(FlagValue::Text("sk-secret".into())));
        let mut with_certificate = fixtures::server("tiny");
        Arc::make_mut(&mut with_certificate.flags)
            .insert("ssl-cert-file".into(), user_flag(FlagValue::Text("/cert".into())));
        for server in [with_file, with_key, with_certificate] {
            let error = planned(&server, &bare).expect_err("must be refused");
            assert!(error.detail.contains("protects") && !error.to_string().contains("sk-secret"), "{error}");
            planned(&server, &profile("b11669-debian")).expect("listed there");
        }
    }

    #[test]
    fn a_dialect_renames_what_llama_warden_passes_itself_and_a_secret_stays_one() {
        let text = r#"
            name = "renamed"
            synonyms = [["port", "listen-port"]]
            [[option]]
            name = "api-key-file"
            rule = [{ spell = ["--keys=@{value}"], because = "renamed" }]
            [[option]]
            name = "api-key"
            rule = [{ spell = ["--pass={value}"], because = "renamed" }]
        "#;
        let dialect = DialectSet::built_in().parse("/d.toml".as_ref(), text).expect("valid");
        let options = Some(OptionList::parse("--model F  x\n--host H  x\n--listen-port N  x\n--alias S  x\n"));
        let binary = BinaryProfile::new("/bin/x".into(), BuildVersion::default(), options);
        let mut server = fixtures::server("tiny");
        server.api_key_file = Some("/keys".into());
        Arc::make_mut(&mut server.flags).insert("api-key".into(), user_flag(FlagValue::Text("sk-one,sk-two".into())));
        let line = build_command_line(&server, &binary, &dialect).expect("planned");
        assert_eq!(
            line.redacted().join(" "),
            "/bin/x --model /models/tiny.gguf --host 127.0.0.1 --listen-port 8001 --keys=@/keys --alias tiny [redacted]"
        );
        assert_eq!(line.arguments.last().and_then(|last| last.to_str()), Some("--pass=sk-one,sk-two"));
        assert!(!format!("{:?}", line.notes).contains("sk-one"), "{:?}", line.notes);
        assert_eq!(line.secrets(), ["sk-one,sk-two", "sk-one", "sk-two"]);
        let dialects: Vec<_> = line.notes.iter().map(|note| (&*note.option, note.dialect.as_deref())).collect();
        let renamed = Some("renamed");
        let expected = [("port", renamed), ("api-key-file", renamed), ("alias", None), ("api-key", renamed)];
        assert_eq!(dialects, expected);
    }

    #[test]
    fn a_secret_shows_nowhere() {
        let mut server = fixtures::server("tiny");
        Arc::make_mut(&mut server.flags).insert("api-key".into(), user_flag(FlagValue::Text("sk-one,sk-two".into())));
        server.args = vec!["--hf-token".into(), "hf_three".into()];
        let line = planned(&server, &profile("b11669-debian")).expect("planned");
        let shown = format!("{:?} {:?} {:?}", line.redacted(), line.notes, line.warnings);
        for secret in ["sk-one", "sk-two", "hf_three"] {
            assert!(!shown.contains(secret), "{shown}");
            assert!(line.secrets().iter().any(|known| known == secret), "{:?}", line.secrets());
        }
    }

    #[test]
    fn a_unix_socket_is_refused_for_a_build_that_has_none() {
        let mut server = fixtures::server("tiny");
        server.host = "/run/a.sock".into();
        for build in ["2024-07-py0.2.80", "2024-11-py0.3.2"] {
            let error = planned(&server, &profile(build)).expect_err("must be refused");
            assert!(error.detail.starts_with("this build cannot listen on a unix socket"), "{error}");
        }
        for build in ["2025-08-py0.3.16", "b11669-debian"] {
            planned(&server, &profile(build)).expect("newer builds have them");
        }
        planned(&server, &BinaryProfile::unknown("/bin/x".into())).expect("nobody knows");
    }

    #[test]
    fn texts_that_are_no_single_argument_are_refused() {
        let change = |change: fn(&mut ServerSpec)| {
            let mut server = fixtures::server("tiny");
            change(&mut server);
            planned(&server, &profile("b11669-debian")).expect_err("must be refused").option
        };
        assert_eq!(change(|server| server.model = "/a\nb.gguf".into()), "model");
        assert_eq!(change(|server| server.model = "--host".into()), "model");
        assert_eq!(change(|server| server.host = "--port".into()), "host");
        assert_eq!(change(|server| server.host = "".into()), "host");
        assert_eq!(change(|server| server.args = vec!["a\0b".into()]), "args");
    }
}
