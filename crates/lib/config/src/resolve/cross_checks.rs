//! Cross-field validation: values that contradict each other, and keys that do not belong in their table.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use llama_warden_events::Signal;
use llama_warden_fleet::{REPOSITORY_PREFIX, is_host_name, is_repository};

use crate::file::reader::{Located, overlay};
use crate::file::tables::{ConfigFile, Hooks, Restart, Server, Stop};
use crate::file::values::SingleLine;
use crate::problem::{ConfigProblem, Location};

/// Checks the merged file and collects problems.
pub(crate) struct CrossChecker<'a> {
    pub(crate) file: &'a ConfigFile,
    pub(crate) written: &'a BTreeSet<String>,
    pub(crate) problems: Vec<ConfigProblem>,
}

/// Signals that never end a process, so a rung of the stop ladder must not use them.
const HARMLESS: [&str; 8] = ["CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "WINCH"];

/// Valid sizes of the ring of one output stream, in bytes. A stack trace does not fit below; above, the two streams of a
/// few servers exhaust the machine.
const RING_BYTES: RangeInclusive<u64> = 4 << 10..=1 << 30;

/// Longest path of a unix socket: `sun_path` has 108 bytes and ends in a NUL (`unix(7)`).
pub(crate) const MAX_SOCKET_PATH: usize = 107;

impl CrossChecker<'_> {
    /// Checks everything except identities and profiles.
    pub(crate) fn values(&mut self) {
        let file = self.file;
        if let Some(ring) = file.logs.as_ref().and_then(|logs| logs.value.ring.as_ref())
            && !RING_BYTES.contains(&ring.value.0)
        {
            self.refuse(&ring.location, "`logs.ring` is out of range", "write a size from 4KiB to 1GiB");
        }
        if let Some(stop) = &file.stop {
            self.ladder(&stop.value);
        }
        if let Some(restart) = &file.restart {
            self.delays(&restart.value);
        }
        if let Some(llama_server) = &file.llama_server {
            let section = &llama_server.value;
            self.variables(section.env.as_ref());
            self.not_empty("llama-server.binary", section.binary.as_ref());
            self.plugin("dialect", "dialect", section.dialect.as_ref());
            if let Some(host) = &section.host {
                self.shared_host(host);
            }
        }
        if let Some(readiness) = &file.readiness {
            self.plugin("detector", "pack", readiness.value.detector.as_ref());
        }
        for server in file.servers.iter().flat_map(|servers| &servers.value) {
            self.server(&server.value);
        }
        self.sockets();
    }

    fn server(&mut self, server: &Server) {
        self.not_empty("model", server.model.as_ref());
        self.model(server.model.as_ref());
        self.not_empty("binary", server.binary.as_ref());
        self.plugin("dialect", "dialect", server.dialect.as_ref());
        self.variables(server.env.as_ref());
        if let Some(host) = &server.host {
            self.host(host);
        }
        if let Some(stop) = &server.stop {
            self.ladder(&stop.value);
        }
        if let Some(restart) = &server.restart
            && let Some(merged) = overlay(self.file.restart.clone(), Some(restart.clone()))
        {
            self.delays(&merged.value);
        }
        if let Some(readiness) = &server.readiness {
            self.plugin("detector", "pack", readiness.value.detector.as_ref());
            if let Some(directory) = &readiness.value.detectors_dir {
                self.refuse(&directory.location, "`detectors-dir` is for all servers", "set it in [readiness]");
            }
        }
        if let Some(hooks) = &server.hooks {
            self.hooks(&hooks.value);
        }
    }

    fn not_empty(&mut self, key: &str, line: Option<&Located<SingleLine>>) {
        if let Some(line) = line.filter(|line| line.value.0.is_empty()) {
            self.refuse(&line.location, format!("`{key}` is empty"), "write a path, or remove the key");
        }
    }

    /// A model is a file, or a repository of Hugging Face.
    fn model(&mut self, model: Option<&Located<SingleLine>>) {
        let Some((location, text)) = model.map(|model| (&model.location, model.value.0.as_str())) else { return };
        if let Some(repository) = text.strip_prefix(REPOSITORY_PREFIX).filter(|name| !is_repository(name)) {
            let help = "write hf:ORG/REPO, or hf:ORG/REPO:QUANT such as hf:ggml-org/gemma-3-4b-it-GGUF:Q4_K_M";
            self.refuse(location, format!("`{repository}` is not a repository of Hugging Face"), help);
        } else if let Some((option, rest)) = text.split_once(' ').filter(|_| text.starts_with('-')) {
            let repository = rest.split(' ').next().unwrap_or_default();
            let help = match option {
                "-hf" | "-hfr" | "--hf-repo" => format!("write model = \"hf:{repository}\""),
                _ => format!("write model = \"{rest}\"; options belong into `flags` or `args`"),
            };
            self.refuse(location, format!("`{option}` is an option, not a part of a model's name"), help);
        } else if let Some((_, address)) = text.split_once("://") {
            self.refuse(location, "a model is a file or hf:ORG/REPO, not a URL", advice_for_url(address));
        }
    }

    fn plugin(&mut self, key: &str, kind: &str, name: Option<&Located<String>>) {
        if let Some(name) = name.filter(|name| name.value.is_empty()) {
            let help = format!("write \"auto\" or the name of a {kind}");
            self.refuse(&name.location, format!("`{key}` is empty"), help);
        }
    }

    /// A second TERM or INT deadlocks or aborts a llama-server, whatever lies between them (measured;
    /// `LLAMA_SERVER.md`, sections 1 and 6).
    fn ladder(&mut self, stop: &Stop) {
        let Some(ladder) = &stop.ladder else { return };
        if ladder.value.is_empty() {
            let help = "name one signal, such as [\"TERM\"]; for KILL at once set grace = \"0s\"";
            self.refuse(&ladder.location, "`ladder` is empty", help);
        }
        for (index, signal) in ladder.value.iter().enumerate() {
            let name = signal.value.to_string();
            if let Some(first) = ladder.value[..index].iter().find(|earlier| earlier.value == signal.value) {
                let help = "send each signal once: a second TERM or INT makes llama-server hang";
                let problem = ConfigProblem::error(&signal.location, format!("{name} is twice in the ladder"), help);
                self.problems.push(problem.related(&first.location, "the first one"));
            } else if signal.value == Signal::KILL {
                self.refuse(&signal.location, "KILL is the last rung by itself", "remove it from the ladder");
            } else if HARMLESS.contains(&name.as_str()) {
                self.refuse(&signal.location, format!("{name} does not end a process"), "use TERM, INT or QUIT");
            }
        }
    }

    fn delays(&mut self, restart: &Restart) {
        let delay = |at: Option<&Located<Duration>>| at.map(|at| at.value);
        let (initial, max) = (restart.initial_delay.as_ref(), restart.max_delay.as_ref());
        if let (Some(first), Some(longest)) = (delay(initial), delay(max))
            && first > longest
            && let Some(written) = initial.filter(|at| !at.location.is_built_in()).or(max)
        {
            let message = format!("`initial-delay` ({first:?}) is longer than `max-delay` ({longest:?})");
            self.refuse(&written.location, message, "make `max-delay` the longer one");
        }
    }

    fn hooks(&mut self, hooks: &Hooks) {
        let all = [&hooks.pre_start, &hooks.post_ready, &hooks.pre_stop, &hooks.post_exit];
        for hook in all.into_iter().flatten().filter(|hook| hook.value.is_empty()) {
            let help = "write [\"program\", \"argument\"], or remove the key";
            self.refuse(&hook.location, "the hook has no command", help);
        }
    }

    fn variables(&mut self, variables: Option<&Located<BTreeMap<String, Located<String>>>>) {
        for (name, value) in variables.iter().flat_map(|variables| &variables.value) {
            if name.is_empty() || name.contains(['=', '\0']) {
                let message = format!("`{}` is not the name of a variable", name.escape_debug());
                self.refuse(&value.location, message, "a name has at least one character, and neither `=` nor NUL");
            }
        }
    }

    fn host(&mut self, host: &Located<SingleLine>) {
        let text = &host.value.0;
        if text.ends_with(".sock") {
            if text.len() > MAX_SOCKET_PATH {
                self.refuse(&host.location, "the path of the unix socket is too long", "at most 107 bytes");
            }
        } else if !is_host_name(text) && text.parse::<std::net::Ipv6Addr>().is_err() {
            let help =
                "write a host name, a number such as \"127.0.0.1\", or the path of a unix socket that ends in .sock";
            self.refuse(&host.location, format!("`{}` is not a host", text.escape_debug()), help);
        }
    }

    fn shared_host(&mut self, host: &Located<SingleLine>) {
        if host.value.0.ends_with(".sock") {
            self.refuse(&host.location, "servers cannot share a unix socket", "set `host` of each server");
        } else {
            self.host(host);
        }
    }

    fn sockets(&mut self) {
        let mut seen: BTreeMap<&str, &Location> = BTreeMap::new();
        let servers = self.file.servers.iter().flat_map(|servers| &servers.value);
        for host in servers.filter_map(|server| server.value.host.as_ref()) {
            let path = host.value.0.as_str();
            if !path.ends_with(".sock") {
                continue;
            }
            if let Some(first) = seen.insert(path, &host.location) {
                let message = format!("two servers bind `{path}`: this one and {first}");
                let problem = ConfigProblem::error(&host.location, message, "give each server its own socket");
                self.problems.push(problem.related(first, "the first one"));
            }
        }
    }

    /// Reports an error with its next step.
    pub(crate) fn refuse(&mut self, location: &Location, message: impl Into<String>, help: impl Into<String>) {
        self.problems.push(ConfigProblem::error(location, message, help));
    }
}

/// What to write for a URL, of which the scheme is cut off.
fn advice_for_url(address: &str) -> String {
    let hub = ["huggingface.co/", "www.huggingface.co/", "hf.co/"].iter().find_map(|host| address.strip_prefix(host));
    let parts: Vec<&str> = hub.unwrap_or_default().split(['?', '#']).next().unwrap_or_default().split('/').collect();
    match parts.as_slice() {
        [owner, name, "resolve" | "blob", _, file @ ..] if file.last().is_some_and(|file| !file.is_empty()) => {
            format!("write model = \"hf:{owner}/{name}\" and flags = {{ hf-file = \"{}\" }}", file.join("/"))
        }
        [owner, name, ..] if is_repository(&format!("{owner}/{name}")) => {
            format!("write model = \"hf:{owner}/{name}\", with :QUANT behind it for one of several")
        }
        _ => "download it, and write the path of the file; a `pre-start` hook may do both".to_owned(),
    }
}
