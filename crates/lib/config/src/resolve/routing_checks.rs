//! Checks the router: names that mean two servers, patterns that mean none, groups that share a server, limits that contradict
//! each other.

use std::collections::BTreeMap;

use llama_warden_events::ServerId;
use llama_warden_fleet::{RouterAddress, ServerPattern};
use llama_warden_located_toml::suggestion;

use crate::file::reader::Located;
use crate::file::routing_values::{JsonTable, ModelName};
use crate::file::selector::Selector;
use crate::file::tables::{Router, RouterGroup, ServerRouter};
use crate::file::values::GlobPattern;
use crate::problem::{ConfigProblem, Location};
use crate::resolve::cross_checks::{CrossChecker, MAX_SOCKET_PATH};
use crate::resolve::profiles::KnownServers;

/// Every name by which a request can ask for a server, and where it is written.
type PlacedNames = BTreeMap<String, Location>;

impl CrossChecker<'_> {
    /// Checks `[router]` and the tables `router` of the servers. `ids` are the ids that are known, and where they are written.
    pub(crate) fn routing(&mut self, known: &KnownServers<'_>, ids: Vec<(&str, Location)>) {
        let mut names: PlacedNames = ids.into_iter().map(|(id, place)| (id.to_owned(), place)).collect();
        let file = self.file;
        for server in file.servers.iter().flat_map(|servers| &servers.value) {
            if let Some(own) = &server.value.router {
                self.names_of_server(&own.value, &mut names);
            }
        }
        let Some(router) = file.router.as_ref().map(|router| &router.value) else { return };
        self.limits(router);
        if let Some(default) = &router.default_model
            && !default.value.is_empty()
            && !names.contains_key(&default.value)
            && !known.may_grow()
        {
            let message = format!("no server, alias or variant is called `{}`", default.value);
            let help = suggestion(&default.value, names.keys().map(String::as_str));
            let help = help.unwrap_or_else(|| "write the id of a server, or \"\"".to_owned());
            self.refuse(&default.location, message, help);
        }
        for set in router.combinations.iter().flat_map(|sets| &sets.value) {
            self.patterns("`router.combinations`", set, known);
        }
        self.groups(router, known);
    }

    fn names_of_server(&mut self, own: &ServerRouter, names: &mut PlacedNames) {
        for alias in own.aliases.iter().flat_map(|aliases| &aliases.value) {
            self.name(&alias.value.0, &alias.location, names);
        }
        for (name, variant) in own.variants.iter().flat_map(|variants| &variants.value) {
            if ModelName::is_valid(name) {
                self.name(name, &variant.location, names);
            } else {
                let message = format!("`{}` is not the name of a variant", name.escape_debug());
                self.refuse(&variant.location, message, "write a name such as \"qwen3:high\"");
            }
            self.no_model(variant);
        }
        own.set.iter().for_each(|set| self.no_model(set));
    }

    fn name(&mut self, name: &str, place: &Location, names: &mut PlacedNames) {
        if let Some(first) = names.get(name) {
            let message = format!("the name `{name}` is taken twice: here and {first}");
            let help = "give it to one server; ids, aliases and variants share their names";
            self.problems.push(ConfigProblem::error(place, message, help).related(first, "taken here"));
        } else {
            names.insert(name.to_owned(), place.clone());
        }
    }

    /// The model by which a request is routed is its own.
    fn no_model(&mut self, members: &Located<JsonTable>) {
        if members.value.0.contains_key("model") {
            let help = "remove it: an alias of the server gives it another name";
            self.refuse(&members.location, "`model` of a request cannot be set", help);
        }
    }

    fn limits(&mut self, router: &Router) {
        if let (Some(body), Some(memory)) = (&router.max_body, &router.body_memory)
            && body.value.0 > memory.value.0
        {
            let written = if body.location.is_built_in() { &memory.location } else { &body.location };
            self.refuse(written, "`max-body` is larger than `body-memory`", "make `body-memory` the larger one");
        }
        if let Some(body) = router.max_body.as_ref().filter(|body| body.value.0 == 0) {
            self.refuse(&body.location, "`max-body` is 0", "write a size such as \"100MiB\"");
        }
        if let Some(listen) = &router.listen
            && let RouterAddress::Unix(path) = &listen.value
            && path.as_os_str().len() > MAX_SOCKET_PATH
        {
            self.refuse(&listen.location, "the path of the unix socket is too long", "at most 107 bytes");
        }
    }

    fn groups(&mut self, router: &Router, known: &KnownServers<'_>) {
        let groups = router.groups.iter().flat_map(|groups| &groups.value);
        let mut members: BTreeMap<&str, (&str, &Location)> = BTreeMap::new();
        for (name, group) in groups {
            if ServerId::new(name).is_err() {
                let message = format!("`{}` is not the name of a group", name.escape_debug());
                self.refuse(&group.location, message, "a name is 1 to 64 letters, digits, `.`, `_` and `-`");
            }
            let Some(servers) = self.servers_of_group(name, group) else { continue };
            self.patterns(&format!("group `{name}`"), servers, known);
            for at in &servers.value {
                let pattern = ServerPattern::new(&at.value.0);
                let found = known.ids().filter(|id| ServerId::new(id).is_ok_and(|id| pattern.matches(&id)));
                for id in found {
                    let (first, place) = *members.entry(id).or_insert((name, &at.location));
                    if first != name {
                        let message = format!("`{id}` is in two groups, `{first}` and `{name}`: {place} and here");
                        let help = "leave it in one of them";
                        let problem = ConfigProblem::error(&at.location, message, help);
                        self.problems.push(problem.related(place, "the first one"));
                    }
                }
            }
        }
    }

    fn servers_of_group<'a>(
        &mut self,
        name: &str,
        group: &'a Located<RouterGroup>,
    ) -> Option<&'a Located<Vec<Located<GlobPattern>>>> {
        let servers = group.value.servers.as_ref();
        if servers.is_none() && !self.written.contains(&format!("router.groups.{name}.servers")) {
            let message = format!("group `{name}` has no key `servers`");
            self.refuse(&group.location, message, "add servers = [\"…\"] with ids or globs");
        }
        servers
    }

    fn patterns(&mut self, owner: &str, patterns: &Located<Vec<Located<GlobPattern>>>, known: &KnownServers<'_>) {
        if patterns.value.is_empty() {
            self.refuse(&patterns.location, format!("{owner} has an empty set"), "name at least one id or glob");
        }
        for at in &patterns.value {
            self.selector(owner, &Selector::Id(at.value.0.clone()), &at.location, known);
        }
    }
}
