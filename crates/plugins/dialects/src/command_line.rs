//! Builds the command line of a server for one build, with a note for every option that is not passed as it was written.
//!
//! Invariants: no secret appears in a note, in a warning or in [`CommandLine::redacted`]; every argument is one that the kernel
//! can pass and that a server reads as what it is.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use llama_warden_config::{Flag, FlagOrigin, SLOTS_OPTION, ServerSpec, WrittenAt, written_options};
use llama_warden_events::{OptionNote, OptionTreatment};
use llama_warden_plugin_files::PluginFile as _;
use llama_warden_support::{REDACTED, argument_secrets, is_secret_option, list_secrets, masked_arguments};

use crate::arguments::{Certainty, InputFile};
use crate::dialect::Dialect;
use crate::flag_value::{self, PROTECTION_UNLISTED};
use crate::help::{HostForms, OptionList};
use crate::http_threads;
use crate::option_error::{OptionError, OptionErrors};
use crate::own_settings;
use crate::profile::BinaryProfile;
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
    /// Settings that are passed, and probably not as meant.
    pub doubts: Vec<OptionError>,
    /// The files and folders that the server reads when it starts, besides its model and its keys.
    pub files: Vec<InputFile>,
    /// Values of secret options. A dialect may pass them under another name, so that the arguments alone do not show them.
    secrets: Vec<String>,
}

/// Seconds between pings on a stream. With the default of 30, a server that streams to a client ends up to 30 s after TERM
/// (measured).
const PING_INTERVAL: &str = "1";

/// Why a default is not passed to a build whose help cannot be read.
const DEFAULT_UNREAD: &str = "a default, and the help that would list the option cannot be read";

/// The option by which a build downloads its model from Hugging Face.
const REPOSITORY: &str = "hf-repo";

/// An option of June 2025. Builds without it may never answer a save or a restore, and are dead after a few of them (measured).
const SAVES_SAFELY: &str = "swa-full";

/// Why slots are not saved with such a build.
const SAVES_UNSAFELY: &str = "builds of before June 2025 can hang when slots are saved";

/// Why a model that is a repository cannot be passed.
const NO_DOWNLOADS: &str = "this build cannot download a model by name: it does not list --hf-repo; download it, and write the \
                            path of the file";

/// Builds the command line of `server` for the build that `binary` describes.
///
/// The options that llama-warden adds come first, then the flags by name, then the verbatim arguments, then `--model`, `--host`
/// and `--port`: llama-server uses the last of equal options, and a preset among the arguments sets a port.
///
/// # Errors
/// Every option that is not known to any build, has a value that cannot be passed, protects the server and is not listed, or
/// sets what llama-warden itself passes.
pub fn build_command_line(
    server: &ServerSpec,
    binary: &BinaryProfile,
    dialect: &Dialect,
) -> Result<CommandLine, OptionErrors> {
    let (line, errors) = draft_command_line(server, binary, dialect);
    if errors.is_empty() { Ok(line) } else { Err(OptionErrors(errors)) }
}

/// Like [`build_command_line`], with the command line without its errors, so that its doubts can be told beside them.
pub fn draft_command_line(
    server: &ServerSpec,
    binary: &BinaryProfile,
    dialect: &Dialect,
) -> (CommandLine, Vec<OptionError>) {
    let is_named = server.dialect.as_deref() == Some(dialect.name());
    let expected = if is_named { dialect.expected_options() } else { OptionList::default() };
    let flags = translate::merge_names(&server.flags, dialect);
    let translator = Translator {
        dialect,
        listed: binary.options.as_ref().unwrap_or(&expected),
        flags: &flags,
        directory: &server.directory,
    };
    let is_read = binary.options.is_some();
    let mut line = CommandLine::new(binary.path.clone());
    let mut errors = check_server(server);
    errors.extend(check_host(server, binary));
    line.add_protection(server, &translator, is_read, &mut errors);
    if is_read {
        line.add_internal(server, &translator);
    }
    for (name, flag) in &flags {
        let spelling = match (is_read, flag.origin) {
            (true, FlagOrigin::BuiltIn) if name == SLOTS_OPTION && !translator.listed.lists(SAVES_SAFELY) => {
                Ok(Spelling::Dropped(SpellingChange::by_help(Vec::new(), SAVES_UNSAFELY)))
            }
            (true, _) => translator.spell(name, &flag.value),
            (false, FlagOrigin::User) => {
                line.doubts.extend(translator.doubt_unread(name));
                translator.spell_unread(name, &flag.value, is_named)
            }
            // No build has all of the defaults, and this one does not say which it has.
            (false, FlagOrigin::BuiltIn) => Ok(Spelling::Dropped(SpellingChange::by_help(Vec::new(), DEFAULT_UNREAD))),
        };
        match spelling {
            Ok(spelling) => {
                if flag.origin == FlagOrigin::User {
                    let arguments = spelling.arguments();
                    line.doubts.extend(translator.value_doubts(name, arguments));
                    line.files.extend(translator.input_files(arguments, |_| WrittenAt::Flag(name.clone())));
                }
                line.add_flag(name, flag, spelling);
            }
            Err(error) => errors.push(error),
        }
    }
    if is_read {
        for (problem, certainty) in translator.argument_problems(&server.args) {
            let ends = binary.refuses_unlisted && certainty == Certainty::Sure;
            if ends { errors.push(problem) } else { line.doubts.push(problem) }
        }
    }
    line.files.extend(translator.input_files(&server.args, WrittenAt::Argument));
    line.files.extend(translator.input_files_of_variables(&server.env));
    line.push(&server.args);
    line.add_required(server, &translator, is_read, &mut errors);
    line.doubts.extend(own_settings::doubtful_variables(server));
    line.doubts.extend(http_threads::doubt(server, &flags, binary));
    (line, errors)
}

impl CommandLine {
    fn new(program: PathBuf) -> Self {
        let (arguments, notes, warnings, doubts, files, secrets) = Default::default();
        Self { program, arguments, notes, warnings, doubts, files, secrets }
    }

    /// The program and its arguments, secrets redacted.
    pub fn redacted(&self) -> Vec<String> {
        let program = self.program.to_string_lossy().into_owned();
        std::iter::once(program).chain(self.redact(self.texts())).collect()
    }

    /// The secret values in it, for redacting the output of the process.
    pub fn secrets(&self) -> Vec<String> {
        let by_name = argument_secrets(self.texts());
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
        masked_arguments(arguments).map(move |argument| if hides(&argument) { REDACTED.to_owned() } else { argument })
    }

    fn push<T: Into<OsString>>(&mut self, arguments: impl IntoIterator<Item = T>) {
        self.arguments.extend(arguments.into_iter().map(Into::into));
    }

    /// Adds the key file. A build that does not list it would answer everybody.
    fn add_protection(
        &mut self,
        server: &ServerSpec,
        translator: &Translator<'_>,
        is_read: bool,
        errors: &mut Vec<OptionError>,
    ) {
        let Some(file) = &server.api_key_file else { return };
        match translator.spell_internal("api-key-file", &file.to_string_lossy()) {
            Some(spelling) => self.add("api-key-file", FlagOrigin::User, spelling),
            None if is_read => {
                let error = OptionError::new("api-key-file", PROTECTION_UNLISTED);
                errors.push(error.at(WrittenAt::Key("api-key-file")));
            }
            None => self.push(["--api-key-file".into(), file.clone().into_os_string()]),
        }
    }

    /// Adds the options that every server is started with.
    fn add_required(
        &mut self,
        server: &ServerSpec,
        translator: &Translator<'_>,
        is_read: bool,
        errors: &mut Vec<OptionError>,
    ) {
        for (name, value) in required_options(server) {
            match value.to_str().and_then(|value| translator.spell_internal(name, value)) {
                Some(spelling) => self.add(name, FlagOrigin::User, spelling),
                None if is_read && name == REPOSITORY => {
                    errors.push(OptionError::new("model", NO_DOWNLOADS).at(WrittenAt::Key("model")));
                }
                // Every build has the others, whatever its help says. A path that is not UTF-8 is passed as it is.
                None => self.push([OsString::from(format!("--{name}")), value]),
            }
        }
    }

    fn add_flag(&mut self, name: &str, flag: &Flag, spelling: Spelling) {
        // Before the note is made, which is redacted by these.
        if is_secret_option(name) {
            self.secrets.extend(flag_value::texts(&flag.value).iter().flat_map(|value| list_secrets(value)));
        }
        self.add(name, flag.origin, spelling);
    }

    /// Adds the options that llama-warden needs, unless the user set them or the build has no way to pass them.
    fn add_internal(&mut self, server: &ServerSpec, translator: &Translator<'_>) {
        let internal = [
            ("alias", "a", server.id.as_str(), "the model is recognised by it"),
            ("sse-ping-interval", "", PING_INTERVAL, "a stop waits for the next ping while a client streams"),
        ];
        for (name, short_name, value, because) in internal {
            let is_set = translator.flags.contains_key(name)
                || written_options(&server.args).any(|option| option.name == name || option.name == short_name);
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

/// Checks the values that are not flags: the model, the host, the verbatim arguments, and the keys that stand on no line of a file.
fn check_server(server: &ServerSpec) -> Vec<OptionError> {
    let mut errors = Vec::new();
    let mut refuse = |at, option: &str, detail: String| errors.push(OptionError::new(option, detail).at(at));
    let is_one_line = |bytes: &[u8]| !bytes.iter().any(|byte| matches!(byte, 0 | b'\n'));
    if !is_one_line(server.model.as_os_str().as_bytes()) {
        refuse(WrittenAt::Key("model"), "model", "the path contains a line end or a NUL byte".to_owned());
    } else if !server.model.is_absolute() && server.model_repository().is_none() {
        refuse(WrittenAt::Key("model"), "model", "the path is not absolute".to_owned());
    }
    if !is_one_line(server.host.as_bytes()) || server.host.is_empty() || server.host.starts_with('-') {
        let detail = format!("`{}` is not an address", server.host.escape_debug());
        refuse(WrittenAt::Key("host"), "host", detail);
    }
    for (index, _) in server.args.iter().enumerate().filter(|(_, argument)| argument.contains('\0')) {
        refuse(WrittenAt::Argument(index), "args", "an argument contains a NUL byte".to_owned());
    }
    for source in server.key_sources().into_iter().filter(|source| !source.is_file()) {
        if let Err(error) = source.read() {
            refuse(source.at, "api-key", error.to_string());
        }
    }
    errors.extend(own_settings::problems(server));
    errors
}

/// Refuses a unix socket for a build that would take its path for the name of a host.
fn check_host(server: &ServerSpec, binary: &BinaryProfile) -> Option<OptionError> {
    let hosts = binary.options.as_ref().map_or(HostForms::Unknown, OptionList::hosts);
    let asks_for_socket = server.host.split(',').any(|host| host.trim().ends_with(".sock"));
    let detail = "this build cannot listen on a unix socket; set `host` to an address, or `binary` to a newer build";
    let refused = OptionError::new("host", detail).at(WrittenAt::Key("host"));
    (asks_for_socket && hosts == HostForms::Addresses).then_some(refused)
}

#[cfg(test)]
mod tests;
