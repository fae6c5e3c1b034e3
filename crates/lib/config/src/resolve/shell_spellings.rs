//! Refuses `~` and `$NAME` in every path, option and variable: no shell reads the configuration, so that a server would look
//! for, or create, a folder of that name.

use std::collections::BTreeMap;

use llama_warden_config_source::Environment;
use llama_warden_fleet::{FlagValue, RouterAddress};

use crate::file::flag_table::FlagTable;
use crate::file::reader::Located;
use crate::file::tables::{Hooks, Server};
use crate::file::values::SingleLine;
use crate::problem::ConfigProblem;
use crate::resolve::cross_checks::CrossChecker;
use llama_warden_config_source::ShellSpelling;

/// Collects the problems of one file.
struct SpellingChecker<'a> {
    environment: &'a Environment,
    problems: Vec<ConfigProblem>,
}

impl CrossChecker<'_> {
    /// Checks everything that may be a path.
    pub(crate) fn shell_spellings(&mut self, environment: &Environment) {
        let mut checker = SpellingChecker { environment, problems: Vec::new() };
        let file = self.file;
        if let Some(daemon) = &file.daemon {
            checker.paths([&daemon.value.state_dir, &daemon.value.token_file]);
        }
        for peer in file.peers.iter().flat_map(|peers| peers.value.values()) {
            checker.paths([&peer.value.token_file]);
        }
        if let Some(shared) = &file.llama_server {
            checker.paths([&shared.value.binary, &shared.value.host, &shared.value.dialects_dir]);
            checker.variables(shared.value.env.as_ref());
            checker.arguments(shared.value.args.as_ref());
        }
        if let Some(readiness) = &file.readiness {
            checker.paths([&readiness.value.detectors_dir]);
        }
        if let Some(router) = &file.router {
            checker.paths([&router.value.keys_file]);
            if let Some(listen) = &router.value.listen
                && let RouterAddress::Unix(path) = &listen.value
            {
                checker.report(listen, ShellSpelling::in_path(&path.to_string_lossy(), environment));
            }
        }
        let models = file.models.as_ref().and_then(|models| models.value.dirs.as_ref());
        models.into_iter().flat_map(|dirs| &dirs.value).for_each(|dir| checker.path(dir));
        checker.flags(file.flags.as_ref());
        for profile in file.profiles.iter().flat_map(|profiles| profiles.value.values()) {
            checker.flags(profile.value.flags.as_ref());
        }
        for server in file.servers.iter().flat_map(|servers| &servers.value) {
            checker.server(&server.value);
        }
        self.problems.append(&mut checker.problems);
    }
}

impl SpellingChecker<'_> {
    fn server(&mut self, server: &Server) {
        self.paths([&server.model, &server.binary, &server.host, &server.api_key_file]);
        self.variables(server.env.as_ref());
        self.arguments(server.args.as_ref());
        self.flags(server.flags.as_ref());
        if let Some(Hooks { pre_start, post_ready, pre_stop, post_exit, .. }) =
            server.hooks.as_ref().map(|at| &at.value)
        {
            // The arguments may be meant for a shell, as in ["sh", "-c", "…"].
            let programs = [pre_start, post_ready, pre_stop, post_exit];
            programs.into_iter().flatten().filter_map(|hook| hook.value.first()).for_each(|program| self.path(program));
        }
    }

    fn paths<const N: usize>(&mut self, paths: [&Option<Located<SingleLine>>; N]) {
        paths.into_iter().flatten().for_each(|path| self.path(path));
    }

    fn path(&mut self, path: &Located<SingleLine>) {
        self.report(path, ShellSpelling::in_path(&path.value.0, self.environment));
    }

    fn arguments(&mut self, arguments: Option<&Located<Vec<Located<SingleLine>>>>) {
        for argument in arguments.into_iter().flat_map(|arguments| &arguments.value) {
            self.report(argument, ShellSpelling::in_value(&argument.value.0, self.environment));
        }
    }

    fn variables(&mut self, variables: Option<&Located<BTreeMap<String, Located<String>>>>) {
        for variable in variables.into_iter().flat_map(|variables| variables.value.values()) {
            self.report(variable, ShellSpelling::in_value(&variable.value, self.environment));
        }
    }

    fn flags(&mut self, flags: Option<&Located<FlagTable>>) {
        for flag in flags.into_iter().flat_map(|flags| flags.value.0.values()) {
            let texts = match &flag.value {
                FlagValue::Text(text) => std::slice::from_ref(text),
                FlagValue::Many(texts) => texts,
                FlagValue::Switch(_) | FlagValue::Integer(_) | FlagValue::Float(_) => continue,
            };
            let found = texts.iter().find_map(|text| ShellSpelling::in_value(text, self.environment));
            self.report(flag, found);
        }
    }

    fn report<T>(&mut self, at: &Located<T>, found: Option<ShellSpelling>) {
        self.problems.extend(found.map(|found| ConfigProblem::error(&at.location, found.message(), found.help())));
    }
}
