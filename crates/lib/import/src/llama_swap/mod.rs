//! The configuration of llama-swap: its keys are taken one by one, and whatever is left at the end is listed.

mod macros;
mod matrix;
mod models;
mod node;
mod parameters;
mod reasons;
mod routing;

use std::collections::{BTreeMap, BTreeSet};

use toml::Value;

use crate::document::{DocumentWriter, ImportedConfig};
use crate::identifiers::{IdMaker, ServerNames};
use macros::{Macros, Unexpanded, VariableSource};
use models::SwapModel;
use node::{Node, NodeMap};
use reasons::reason_for;

/// Keys that need no counterpart, and why.
const NOT_NEEDED: [(&str, &str); 8] = [
    ("logLevel", "set LLAMA_WARDEN_LOG; see `llama-warden up --help`"),
    ("logTimeFormat", "lines have RFC 3339 times"),
    ("logToStdout", "the output of servers is kept apart: `llama-warden logs -f`"),
    ("metricsMaxInMemory", "metrics are at /metrics, and nothing of a request is kept"),
    ("captureBuffer", "bodies of requests are never kept"),
    ("store", "requests are not stored; Prometheus keeps metrics"),
    ("ui", "the page of the daemon has no such setting"),
    ("performance", "Prometheus measures the machine"),
];

/// Keys that have none yet.
const NO_COUNTERPART: [(&str, &str); 2] = [
    ("peers", "servers of other machines are not routed to"),
    ("profiles", "there are no pins of names; an alias names one server"),
];

/// Why a file cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// It is no YAML.
    #[error("it is no YAML: {0}")]
    Yaml(String),
    /// It has no models.
    #[error("it has no `models`, so it is no configuration of llama-swap")]
    NoModels,
    /// Its macros write too much.
    #[error(
        "{place}: with `${{{name}}}`, macros write more than {limit}; shorten it, or use fewer macros within macros"
    )]
    Macros {
        /// The value, such as `models.coder.cmd`.
        place: String,
        /// The macro that the value names.
        name: String,
        /// What macros may write.
        limit: &'static str,
    },
}

/// Converts a configuration of llama-swap. `defaults` are the options that a configuration sets by itself, and `variable` gives the value
/// of an environment variable.
///
/// # Errors
/// The text is no configuration of llama-swap, or its macros write too much.
pub fn from_llama_swap(
    yaml: &str,
    defaults: &[String],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<ImportedConfig, SwapError> {
    // As llama-swap reads it: `n`, `on` and the like are names, and no truth values.
    let options = serde_saphyr::options! { strict_booleans: true };
    let node: Node =
        serde_saphyr::from_str_with_options(yaml, options).map_err(|error| SwapError::Yaml(error.to_string()))?;
    let Node::Map(mut root) = node else { return Err(SwapError::NoModels) };
    let Some(Node::Map(models)) = root.take("models") else { return Err(SwapError::NoModels) };
    let environment = FromFunction(variable);
    let macros = Macros::new(root.take_map("macros"), &environment);
    let mut document = DocumentWriter::default();
    document.comment(
        "Converted from a configuration of llama-swap. `llama-warden check` looks whether this machine can run it.",
    );
    let models = SwapModel::read_all(models, &macros, &mut document)?;
    let mut file =
        SwapFile { document, models, names: ServerNames::default(), called: BTreeMap::new(), preload: BTreeSet::new() };
    file.name_models();
    file.read_selectors(root.take_map("selectors"));
    file.read_hooks(root.take_map("hooks"), &macros)?;
    file.router(&mut root, &macros)?;
    file.shared(&mut root);
    file.document.leave_to_the_build(defaults);
    file.write_models();
    for (key, node) in root.0 {
        let known = NOT_NEEDED.iter().chain(&NO_COUNTERPART).find(|(name, _)| *name == key);
        let because = known.map_or_else(|| reason_for(&key, &node), |(_, because)| because);
        file.document.leave_out(key, because);
    }
    Ok(file.document.finish())
}

/// A file in the making.
struct SwapFile {
    document: DocumentWriter,
    models: Vec<SwapModel>,
    names: ServerNames,
    /// The index of the model that the file calls so.
    called: BTreeMap<String, usize>,
    /// The indices of models that are loaded at the start.
    preload: BTreeSet<usize>,
}

/// The variables that a function knows.
struct FromFunction<F>(F);

impl<F> std::fmt::Debug for FromFunction<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FromFunction")
    }
}

impl<F: Fn(&str) -> Option<String>> VariableSource for FromFunction<F> {
    fn value(&self, name: &str) -> Option<String> {
        (self.0)(name)
    }
}

impl SwapFile {
    /// Gives each model its id and its aliases. Ids come first, then the names of models, then what else they are called.
    fn name_models(&mut self) {
        let ids = IdMaker::default().ids_for(self.models.iter().map(|model| model.name.as_str()));
        for (index, (model, id)) in self.models.iter_mut().zip(ids).enumerate() {
            self.names.take_id(&id, &model.place());
            self.called.entry(model.name.clone()).or_insert(index);
            model.id = id;
        }
        let mut own = Vec::with_capacity(self.models.len());
        for model in &self.models {
            let is_alias =
                model.id != model.name && self.names.take(&model.name, &model.place(), "models", &mut self.document);
            own.push(is_alias.then(|| model.name.clone()));
        }
        for (index, (model, own)) in self.models.iter_mut().zip(own).enumerate() {
            let (place, aliases) = (model.place(), std::mem::take(&mut model.aliases));
            let aliases = self.names.take_all(aliases, &place, &format!("{place}.aliases"), &mut self.document);
            for alias in &aliases {
                self.called.entry(alias.clone()).or_insert(index);
            }
            model.aliases = own.into_iter().chain(aliases).collect();
        }
    }

    /// A virtual model that always means one model is another name of it.
    fn read_selectors(&mut self, selectors: NodeMap) {
        for (name, node) in selectors.0 {
            let place = format!("selectors.{name}");
            let Node::Map(mut selector) = node else {
                self.document.leave_out(place, "its value is no map");
                continue;
            };
            let is_pin = selector.take_text("strategy").is_some_and(|strategy| strategy == "pin");
            let targets = selector.take_texts("targets");
            let target = targets.first().filter(|_| is_pin && targets.len() == 1);
            match target.and_then(|target| self.called.get(target)) {
                Some(index) => {
                    let (index, owner) = (*index, self.models[*index].place());
                    if self.names.take(&name, &owner, "selectors", &mut self.document) {
                        self.called.entry(name.clone()).or_insert(index);
                        self.models[index].aliases.push(name);
                    }
                    self.leave_rest(&place, selector);
                }
                None => self.document.leave_out(
                    place,
                    "a virtual model of several targets has no counterpart; an alias names one server",
                ),
            }
        }
    }

    /// What is loaded at the start.
    fn read_hooks(&mut self, hooks: NodeMap, macros: &Macros<'_>) -> Result<(), SwapError> {
        let mut hooks = macros.expand("hooks", hooks, &mut Unexpanded::default())?;
        let mut on_startup = hooks.take_map("on_startup");
        for name in on_startup.take_texts("preload") {
            if let Some(index) = self.called.get(name.trim()) {
                self.preload.insert(*index);
            } else {
                self.document.leave_out(format!("hooks.on_startup.preload: {name}"), "there is no such server");
            }
        }
        self.leave_rest("hooks.on_startup", on_startup);
        self.leave_rest("hooks", hooks);
        Ok(())
    }

    /// Lists what nobody has taken from a part of the file.
    fn leave_rest(&mut self, place: &str, rest: NodeMap) {
        for (key, node) in rest.0.into_iter().filter(|(_, node)| *node != Node::Nothing) {
            self.document.leave_out(format!("{place}.{key}"), reason_for(&key, &node));
        }
    }

    /// The table of the router: where it listens, what may run together, and the groups.
    fn router(&mut self, root: &mut NodeMap, macros: &Macros<'_>) -> Result<(), SwapError> {
        self.document.table("[router]");
        self.document.comment("llama-swap listens on every address; here other machines need a key, see `keys-file`.");
        self.document.set("listen", "127.0.0.1:8080");
        if let Some(seconds @ 1..) = root.take_seconds("globalTTL") {
            self.document.set("ttl", format!("{seconds}s"));
        }
        if root.take_switch("sendLoadingState") == Some(true) {
            self.document.set("progress", "comments");
        }
        if root.take_switch("logRequests") == Some(true) {
            self.document.set("access-log", true);
        }
        if root.take_switch("includeAliasesInList") == Some(true) {
            self.document.leave_out("includeAliasesInList", "the list of models has aliases as a field of each entry");
        }
        if root.take("apiKeys").is_some() {
            self.document.leave_out(
                "apiKeys",
                "keys are not written into this file: `llama-warden key new NAME --existing` takes one that clients have from standard \
                 input, and `router.keys-file` names the file with their hashes",
            );
        }
        let mut upstream = root.take_map("upstream");
        if upstream.take("ignorePaths").is_some() {
            self.document.leave_out("upstream.ignorePaths", "not needed: pages and their files never start a server");
        }
        self.leave_rest("upstream", upstream);
        let routing = root.take_map("routing");
        // Where older files have them.
        let older = ["groups", "matrix"].map(|key| root.take_map(key));
        self.write_routing(routing, older, macros)
    }

    /// Times that every server shares.
    fn shared(&mut self, root: &mut NodeMap) {
        if let Some(port) = root.take_integer("startPort", 1..=65535) {
            // Each server takes one at most, and so do the router and the daemon.
            if usize::try_from(65536 - port).is_ok_and(|ports| ports < self.models.len() + 2) {
                self.document.leave_out("startPort", "fewer ports than servers are left from there up to 65535");
            } else {
                self.document.table("[llama-server]");
                self.document.set("first-port", port);
            }
        }
        // llama-swap's own default is two minutes, at least 15 s.
        let seconds = root.take_seconds("healthCheckTimeout").unwrap_or(120).max(15);
        self.document.table("[readiness]");
        self.document.set("timeout", format!("{seconds}s"));
        self.document.set("on-timeout", "fail");
        if let Some(seconds @ 1..) = root.take_seconds("unloadTimeout") {
            self.document.table("[stop]");
            self.document.set("grace", format!("{seconds}s"));
        }
    }

    fn write_models(&mut self) {
        for (index, model) in std::mem::take(&mut self.models).into_iter().enumerate() {
            model.write(self.preload.contains(&index), &mut self.names, &mut self.document);
        }
    }
}

/// A table of TOML from entries that are there.
fn table(entries: BTreeMap<&str, Option<Value>>) -> Option<Value> {
    let entries = entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    let table: toml::Table = entries.collect();
    (!table.is_empty()).then_some(Value::Table(table))
}
