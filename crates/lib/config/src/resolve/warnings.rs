//! Warnings about a valid configuration: missing files, secrets that other users can read, an open address without a token.

use std::io::ErrorKind;
use std::path::Path;

use llama_warden_config_source::ShellSpelling;
use llama_warden_events::Signal;
use llama_warden_fleet::{HooksSpec, RouterAddress};
use llama_warden_support::{KeyFile, find_program, is_executable, open_if_regular, without_arguments};

use crate::file::flag_table::FlagTable;
use crate::file::reader::Located;
use crate::file::tables::{Hooks, Server, Stop};
use crate::file::values::SingleLine;
use crate::problem::{ConfigProblem, Location, NeededFile};
use crate::resolve::configuration::Configuration;
use crate::resolve::variables;

/// The next step if PATH has no llama-server.
const NO_LLAMA_SERVER: &str = "install llama.cpp, or set `binary` to the path of a llama-server";
/// The next step if PATH has no such command.
const NO_COMMAND: &str = "install it, or write the path of the command";
/// The next step for a file that this user may not read.
pub const UNREADABLE: &str = "change its mode or its owner; a daemon that runs as another user may be able to read it";
/// An executable in warnings. It need not be readable.
const PROGRAM: &str = "the executable";

impl Configuration {
    /// A warning for each table `[extensions.NAME]` whose component is not among `compiled_in`.
    pub fn unknown_extensions(&self, compiled_in: &[&str]) -> Vec<ConfigProblem> {
        let help = match compiled_in {
            [] => "remove the table, or run the program that has the component".to_owned(),
            known => format!("remove the table, or name one of those that are: {}", known.join(", ")),
        };
        let unknown = self.extensions().filter(|(name, _)| !compiled_in.contains(name));
        let warning = |(name, location): (&str, &Location)| {
            let message = format!("no component `{name}` is compiled into this program, so its table has no effect");
            ConfigProblem::warning(location, message, &help)
        };
        unknown.map(warning).collect()
    }

    /// Everything that is valid and probably a mistake. Checks files anew at each call, since they may have come or gone.
    pub fn warnings(&self) -> Vec<ConfigProblem> {
        let mut warnings = variables::unread(&self.environment);
        self.daemon_warnings(&mut warnings);
        self.router_warnings(&mut warnings);
        self.peer_warnings(&mut warnings);
        let file = &self.file;
        secret_flags(file.flags.as_ref(), &mut warnings);
        ladder(file.stop.as_ref(), &mut warnings);
        for profile in file.profiles.iter().flat_map(|profiles| profiles.value.values()) {
            secret_flags(profile.value.flags.as_ref(), &mut warnings);
        }
        let servers = file.servers.iter().flat_map(|servers| &servers.value);
        for (server, spec) in servers.zip(self.servers()) {
            let Server { model, api_key_file, binary, flags, hooks, stop, .. } = &server.value;
            // A `pre-start` command may download the model.
            if spec.hooks.pre_start.is_none() && spec.model_repository().is_none() {
                let missing = self.missing(model.as_ref(), &spec.model, "the model");
                warnings.extend(missing.map(|problem| problem.about(NeededFile::Model(spec.model.clone()))));
            }
            if let (Some(written), Some(path)) = (api_key_file, &spec.api_key_file) {
                let missing = self.missing(Some(written), path, "the api key file");
                warnings.extend(missing.map(|problem| problem.about(NeededFile::Keys(path.clone()))));
                odd_key_file(written, path, &mut warnings);
            }
            if let Some(binary) = binary {
                warnings.extend(self.missing_binary(binary, &spec.binary));
            }
            if let Some(hooks) = hooks {
                self.missing_commands(&hooks.value, &spec.hooks, &mut warnings);
            }
            secret_flags(flags.as_ref(), &mut warnings);
            ladder(stop.as_ref(), &mut warnings);
        }
        let shared = file.llama_server.as_ref().and_then(|section| section.value.binary.as_ref());
        let user = servers_of_shared_binary(self);
        if let (Some(binary), Some(path)) = (shared, user) {
            // A user has no file of the built-in defaults.
            let own_file = self.path.clone().filter(|_| binary.location.is_built_in()).map(Location::File);
            let location = own_file.unwrap_or_else(|| binary.location.clone());
            warnings.extend(self.missing_binary(&Located { location, ..binary.clone() }, path));
        }
        warnings
    }

    /// A warning for each configured model that is there and that `fault` finds unfit: with what is wrong, and a next step.
    /// The models of servers whose `pre-start` command may replace them are left out.
    pub fn model_warnings(&self, fault: impl Fn(&Path) -> Option<(String, String)>) -> Vec<ConfigProblem> {
        let servers = self.file.servers.iter().flat_map(|servers| &servers.value).zip(self.servers());
        let fixed = servers.filter(|(_, spec)| spec.hooks.pre_start.is_none() && spec.model_repository().is_none());
        let present = fixed.filter_map(|(server, spec)| Some((server.value.model.as_ref()?, &spec.model)));
        let unfit = present.filter(|(_, path)| path.is_file()).filter_map(|(written, path)| {
            let (detail, help) = fault(path)?;
            let message = format!("the model {} cannot be served: {detail}", path.display());
            let warning = ConfigProblem::warning(&written.location, message, help);
            Some(warning.about(NeededFile::Model(path.clone())))
        });
        unfit.collect()
    }

    /// A warning for each address of the daemon and of its router on whose host nobody can listen, as `fault` finds: with what is wrong, and
    /// a next step.
    pub fn listen_warnings(&self, fault: impl Fn(&str) -> Option<[String; 2]>) -> Vec<ConfigProblem> {
        let daemon = self.file.daemon.as_ref().and_then(|daemon| daemon.value.listen.as_ref());
        let daemon = daemon.and_then(|listen| Some((&listen.location, listen.value.tcp()?)));
        let router = self.file.router.as_ref().and_then(|router| router.value.listen.as_ref());
        let router = router.and_then(|listen| Some((&listen.location, listen.value.tcp()?)));
        let unfit = daemon.into_iter().chain(router).filter_map(|(location, tcp)| {
            let [message, help] = fault(&tcp.host)?;
            Some(ConfigProblem::warning(location, message, help))
        });
        unfit.collect()
    }

    fn daemon_warnings(&self, warnings: &mut Vec<ConfigProblem>) {
        let Some(daemon) = self.file.daemon.as_ref().map(|at| &at.value) else { return };
        if let Some(path) = &self.daemon().token_file {
            warnings.extend(self.missing(daemon.token_file.as_ref(), path, "the token file"));
        } else if let (Some(listen), Some(tcp)) = (&daemon.listen, &self.daemon().listen)
            && !tcp.is_loopback()
        {
            let message = format!("{tcp} can be reached from other machines and there is no `token-file`");
            let help = "set `token-file`; without it only /livez, /readyz, /metrics and /api/v1/sd answer there";
            warnings.push(ConfigProblem::warning(&listen.location, message, help));
        }
    }

    fn router_warnings(&self, warnings: &mut Vec<ConfigProblem>) {
        let Some(router) = self.file.router.as_ref().map(|at| &at.value) else { return };
        let settings = self.router();
        if let Some(path) = &settings.keys_file {
            warnings.extend(self.missing(router.keys_file.as_ref(), path, "the file of keys"));
        } else if let (Some(listen), RouterAddress::Tcp(tcp)) = (&router.listen, &settings.listen)
            && !tcp.is_loopback()
            && !settings.open
        {
            let message = format!("{tcp} can be reached from other machines and there is no `keys-file`");
            let help = "set `keys-file`, or open = true; without either only /health answers there";
            warnings.push(ConfigProblem::warning(&listen.location, message, help));
        }
        if settings.listen == RouterAddress::Off {
            return;
        }
        let profiles = self.file.profiles.iter().flat_map(|profiles| profiles.value.values());
        let servers = self.file.servers.iter().flat_map(|servers| &servers.value);
        let tables = profiles.map(|at| &at.value.flags).chain(servers.map(|at| &at.value.flags));
        for flags in std::iter::once(&self.file.flags).chain(tables).flatten() {
            if let Some(flag) = flags.value.0.get("sleep-idle-seconds") {
                let message = "a server that sleeps by itself keeps its place, and its memory is not promised to it";
                let help = "leave the option out and set `ttl` in [router]";
                warnings.push(ConfigProblem::warning(&flag.location, message, help));
            }
        }
    }

    fn peer_warnings(&self, warnings: &mut Vec<ConfigProblem>) {
        let written = self.file.peers.iter().flat_map(|peers| peers.value.values());
        for peer in written {
            let settings =
                self.peers().iter().find(|known| peer.value.url.as_ref().is_some_and(|url| url.value == known.url));
            if let Some(path) = settings.and_then(|settings| settings.token_file.as_ref()) {
                warnings.extend(self.missing(peer.value.token_file.as_ref(), path, "the token file of the peer"));
            }
        }
    }

    fn missing_commands(&self, written: &Hooks, spec: &HooksSpec, warnings: &mut Vec<ConfigProblem>) {
        let hooks = [
            (&written.pre_start, &spec.pre_start),
            (&written.post_ready, &spec.post_ready),
            (&written.pre_stop, &spec.pre_stop),
            (&written.post_exit, &spec.post_exit),
        ];
        for (written, argv) in hooks {
            let written = written.as_ref().and_then(|hook| hook.value.first());
            let program = argv.as_ref().and_then(|argv| argv.first());
            if let (Some(written), Some(program)) = (written, program) {
                warnings.extend(self.missing_program(written, Path::new(program), NO_COMMAND));
            }
        }
    }

    fn missing_binary(&self, written: &Located<SingleLine>, path: &Path) -> Option<ConfigProblem> {
        let missing = self.missing_program(written, path, NO_LLAMA_SERVER)?;
        Some(missing.about(NeededFile::Executable(path.to_owned())))
    }

    /// `not_in_path` is what to do about a name that PATH does not have.
    fn missing_program(&self, written: &Located<SingleLine>, path: &Path, not_in_path: &str) -> Option<ConfigProblem> {
        if path.components().count() > 1 {
            if path.is_file() && !is_executable(path) {
                let message = format!("{} is not executable", path.display());
                let help = format!("run `chmod +x {}`, or name another file", path.display());
                return Some(ConfigProblem::warning(&written.location, message, help));
            }
            return self.missing(Some(written), path, PROGRAM);
        }
        let error = find_program(path, self.environment.get("PATH")).err()?;
        let message = format!("there is no `{}` in PATH", path.display());
        let help = error.next_step(&self.directory, not_in_path);
        Some(ConfigProblem::warning(&written.location, message, help))
    }

    /// Says nothing of a path that is refused, since no shell expands it.
    fn missing(&self, written: Option<&Located<SingleLine>>, path: &Path, what: &str) -> Option<ConfigProblem> {
        let is_path = |text: &SingleLine| ShellSpelling::in_path(&text.0, &self.environment).is_none();
        let written = written.filter(|written| is_path(&written.value))?;
        let (state, help) = match path.metadata() {
            Ok(metadata) if metadata.is_file() => match open_if_regular(path) {
                Err(error) if error.kind() == ErrorKind::PermissionDenied && what != PROGRAM => {
                    (format!("cannot be read: {error}"), Some(UNREADABLE.to_owned()))
                }
                _ => return None,
            },
            Ok(_) => ("is not a file".to_owned(), without_arguments(path)),
            Err(error) if error.kind() == ErrorKind::NotFound => ("does not exist".to_owned(), without_arguments(path)),
            Err(error) => {
                let is_closed = error.kind() == ErrorKind::PermissionDenied;
                (format!("cannot be looked at: {error}"), is_closed.then(|| UNREADABLE.to_owned()))
            }
        };
        let help = help.unwrap_or_else(|| "relative paths are relative to the configuration file".to_owned());
        Some(ConfigProblem::warning(&written.location, format!("{what} {} {state}", path.display()), help))
    }
}

/// The executable of the servers that do not name one of their own; `None` where there are none.
fn servers_of_shared_binary(configuration: &Configuration) -> Option<&Path> {
    let written = configuration.file.servers.iter().flat_map(|servers| &servers.value);
    // Servers that were discovered follow the written ones, and name nothing.
    let own = written.map(|server| server.value.binary.is_some()).chain(std::iter::repeat(false));
    let mut sharing = configuration.servers().zip(own).filter(|(_, has_own)| !has_own);
    sharing.next().map(|(spec, _)| &*spec.binary)
}

/// Warns of bytes around a key that a server takes for a part of it. The launch refuses a file without a key.
fn odd_key_file(written: &Located<SingleLine>, path: &Path, warnings: &mut Vec<ConfigProblem>) {
    for oddity in KeyFile::read(path).into_iter().flat_map(|file| file.oddities) {
        let message = format!("the api key file {}: {oddity}", path.display());
        let help = "a server may take it for a part of the key; write plain lines, each with a key";
        warnings.push(ConfigProblem::warning(&written.location, message, help));
    }
}

fn secret_flags(flags: Option<&Located<FlagTable>>, warnings: &mut Vec<ConfigProblem>) {
    if let Some(key) = flags.and_then(|flags| flags.value.0.get("api-key")) {
        let message = "an `api-key` on the command line can be read by every user of this machine";
        let help = "write the key into a file and set the server's key `api-key-file`";
        warnings.push(ConfigProblem::warning(&key.location, message, help).without_excerpt());
    }
}

fn ladder(stop: Option<&Located<Stop>>, warnings: &mut Vec<ConfigProblem>) {
    let Some(ladder) = stop.and_then(|stop| stop.value.ladder.as_ref()) else { return };
    let mut polite = ladder.value.iter().filter(|signal| [Signal::TERM, Signal::INT].contains(&signal.value));
    if let (Some(first), Some(second)) = (polite.next(), polite.next()) {
        let message = format!("{} after {} makes some builds of llama-server hang or abort", second.value, first.value);
        warnings.push(ConfigProblem::warning(&second.location, message, "keep one of TERM and INT"));
    }
}
