//! The places of a server's settings, for problems that only its executable reveals.

use llama_warden_fleet::{ServerSpec, WrittenAt};

use crate::file::flag_table::FlagTable;
use crate::file::reader::Located;
use crate::file::tables::{Profile, Readiness, Server};
use crate::problem::{ConfigProblem, Location, Severity};
use crate::resolve::configuration::Configuration;

impl Configuration {
    /// The profiles with options of their own.
    pub fn profiles_with_flags(&self) -> impl Iterator<Item = &str> {
        let profiles = self.file.profiles.iter().flat_map(|profiles| &profiles.value);
        profiles.filter(|(_, profile)| profile.value.flags.is_some()).map(|(name, _)| name.as_str())
    }

    /// A problem with a setting of the server that [`Self::servers`] has at `index`, at the place where the setting is written: in
    /// the server, in `profile`, or in a section that all servers share. A server that was discovered has the place of its model.
    ///
    /// Call it before [`Self::dedup`], which drops the places.
    pub fn setting_problem(
        &self,
        (server, index, profile): (&ServerSpec, usize, Option<&str>),
        at: &WrittenAt,
        severity: Severity,
        message: String,
        help: String,
    ) -> ConfigProblem {
        let location = self.place((server, index, profile), at);
        let problem = ConfigProblem { severity, ..ConfigProblem::error(&location, message, help) };
        let may_hide = !matches!(at, WrittenAt::Flag(_) | WrittenAt::Key(_)) || names_secret(&location);
        if may_hide { problem.without_excerpt() } else { problem }
    }

    fn place(&self, (server, index, profile): (&ServerSpec, usize, Option<&str>), at: &WrittenAt) -> Location {
        let written = self.file.servers.as_ref().and_then(|servers| servers.value.get(index));
        let own = written.map(|at| &at.value);
        let place = match at {
            WrittenAt::Key(key) => own.and_then(|own| key_place(own, key)).or_else(|| self.shared_key(key)),
            WrittenAt::Flag(name) => self.flag_place(own, profile, name),
            WrittenAt::Argument(index) => self.argument_place(own, *index),
            WrittenAt::Variable(name) => {
                let own = own.and_then(|own| own.env.as_ref());
                let shared = self.file.llama_server.as_ref().and_then(|section| section.value.env.as_ref());
                [own, shared].into_iter().flatten().find_map(|table| table.value.get(name)).map(|value| &value.location)
            }
        };
        let whole = || written.map(|server| server.location.clone());
        place.cloned().or_else(whole).unwrap_or_else(|| Location::File(server.model.clone()))
    }

    fn flag_place<'a>(&'a self, own: Option<&'a Server>, profile: Option<&str>, name: &str) -> Option<&'a Location> {
        let own = own.and_then(|own| own.flags.as_ref());
        let profiles = self.file.profiles.as_ref();
        let profile: Option<&Located<Profile>> = profiles.zip(profile).and_then(|(all, name)| all.value.get(name));
        let profile = profile.and_then(|profile| profile.value.flags.as_ref());
        let tables: [Option<&Located<FlagTable>>; 3] = [own, profile, self.file.flags.as_ref()];
        // `no-mmap` is judged as `mmap`.
        let names = [name.to_owned(), format!("no-{name}")];
        let mut flags = tables.into_iter().flatten();
        let found = flags.find_map(|table| names.iter().find_map(|name| table.value.0.get(name)));
        found.map(|flag| &flag.location).filter(|place| !place.is_built_in())
    }

    fn argument_place<'a>(&'a self, own: Option<&'a Server>, index: usize) -> Option<&'a Location> {
        let shared = self.file.llama_server.as_ref().and_then(|section| section.value.args.as_ref());
        let own = own.and_then(|own| own.args.as_ref());
        [shared, own].into_iter().flatten().flat_map(|args| &args.value).nth(index).map(|argument| &argument.location)
    }

    fn shared_key(&self, key: &str) -> Option<&Location> {
        let section = &self.file.llama_server.as_ref()?.value;
        let location = match key {
            "binary" => section.binary.as_ref().map(|at| &at.location),
            "host" => section.host.as_ref().map(|at| &at.location),
            "dialect" => section.dialect.as_ref().map(|at| &at.location),
            "detector" => detector_place(self.file.readiness.as_ref()),
            _ => None,
        };
        location.filter(|place| !place.is_built_in())
    }
}

fn key_place<'a>(server: &'a Server, key: &str) -> Option<&'a Location> {
    match key {
        "model" => server.model.as_ref().map(|at| &at.location),
        "binary" => server.binary.as_ref().map(|at| &at.location),
        "host" => server.host.as_ref().map(|at| &at.location),
        "dialect" => server.dialect.as_ref().map(|at| &at.location),
        "api-key-file" => server.api_key_file.as_ref().map(|at| &at.location),
        "detector" => detector_place(server.readiness.as_ref()),
        _ => None,
    }
}

fn detector_place(readiness: Option<&Located<Readiness>>) -> Option<&Location> {
    readiness.and_then(|at| at.value.detector.as_ref()).map(|at| &at.location)
}

/// Whether a secret may stand on the line of a place.
fn names_secret(location: &Location) -> bool {
    let Location::Text { document, span } = location else { return false };
    let (before, after) = document.text.split_at_checked(span.start).unwrap_or((&document.text, ""));
    let line = [before.rsplit('\n').next().unwrap_or_default(), after.split('\n').next().unwrap_or_default()].concat();
    ["key", "token", "secret", "password"].iter().any(|word| line.to_ascii_lowercase().contains(word))
}
