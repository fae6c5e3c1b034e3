//! The configuration of llama-swap: its keys are taken one by one, and whatever is left at the end is listed.

mod macros;
mod matrix;
mod models;
mod node;
mod routing;

use std::collections::BTreeMap;

use toml::Value;

use crate::document::{DocumentWriter, ImportedConfig};
use macros::{Macros, Unexpanded, VariableSource};
use models::SwapModel;
use node::{Node, NodeMap};

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
const NO_COUNTERPART: [(&str, &str); 3] = [
    ("peers", "servers of other machines are not routed to"),
    ("profiles", "there are no pins of names; an alias names one server"),
    ("startPort", "written as `first-port`"),
];

/// What is said of keys that llama-swap has learned since, and of values that it would refuse.
const UNKNOWN: &str = "llama-warden knows no such setting";

/// Why a file cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// It is no YAML.
    #[error("it is no YAML: {0}")]
    Yaml(String),
    /// It has no models.
    #[error("it has no `models`, so it is no configuration of llama-swap")]
    NoModels,
}

/// Converts a configuration of llama-swap. `defaults` are the options that a configuration sets by itself, and `variable` gives the value
/// of an environment variable.
///
/// # Errors
/// The text is no configuration of llama-swap.
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
    let mut file = SwapFile { document, preload: Vec::new(), models: Vec::new() };
    file.models = SwapModel::read_all(models, &macros, &mut file.document);
    file.read_selectors(root.take_map("selectors"));
    file.read_hooks(root.take_map("hooks"), &macros);
    file.router(&mut root, &macros);
    file.shared(&mut root);
    file.document.leave_to_the_build(defaults);
    file.write_models();
    for key in root.0.into_iter().map(|(key, _)| key) {
        let known = NOT_NEEDED.iter().chain(&NO_COUNTERPART).find(|(name, _)| *name == key);
        let because = known.map_or(UNKNOWN, |(_, because)| because);
        file.document.leave_out(key, because);
    }
    Ok(file.document.finish())
}

/// A file in the making.
struct SwapFile {
    document: DocumentWriter,
    preload: Vec<String>,
    models: Vec<SwapModel>,
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
    /// A virtual model that always means one model is another name of it.
    fn read_selectors(&mut self, selectors: NodeMap) {
        for (name, node) in selectors.0 {
            let Node::Map(mut selector) = node else { continue };
            let is_pin = selector.take_text("strategy").is_some_and(|strategy| strategy == "pin");
            let targets = selector.take_texts("targets");
            let target = targets.first().filter(|_| is_pin && targets.len() == 1);
            match target.and_then(|target| self.models.iter_mut().find(|model| model.is_called(target))) {
                Some(model) => {
                    model.add_alias(name.clone());
                    self.leave_rest(&format!("selectors.{name}"), selector);
                }
                None => self.document.leave_out(
                    format!("selectors.{name}"),
                    "a virtual model of several targets has no counterpart; an alias names one server",
                ),
            }
        }
    }

    /// What is loaded at the start.
    fn read_hooks(&mut self, hooks: NodeMap, macros: &Macros<'_>) {
        let Node::Map(mut hooks) = macros.expand(Node::Map(hooks), &mut Unexpanded::default()) else { return };
        let mut on_startup = hooks.take_map("on_startup");
        for name in on_startup.take_texts("preload") {
            if self.models.iter().any(|model| model.is_called(name.trim())) {
                self.preload.push(name.trim().to_owned());
            } else {
                self.document.leave_out(format!("hooks.on_startup.preload: {name}"), "there is no such server");
            }
        }
        self.leave_rest("hooks.on_startup", on_startup);
        self.leave_rest("hooks", hooks);
    }

    /// Lists what nobody has taken from a part of the file.
    fn leave_rest(&mut self, place: &str, rest: NodeMap) {
        for (key, _) in rest.0.into_iter().filter(|(_, node)| *node != Node::Nothing) {
            self.document.leave_out(format!("{place}.{key}"), UNKNOWN);
        }
    }

    /// The table of the router: where it listens, what may run together, and the groups.
    fn router(&mut self, root: &mut NodeMap, macros: &Macros<'_>) {
        self.document.table("[router]");
        self.document.comment("llama-swap listens on every address; here other machines need a key, see `keys-file`.");
        self.document.set("listen", "127.0.0.1:8080");
        if let Some(seconds @ 1..) = root.take_integer("globalTTL") {
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
        self.write_routing(routing, older, macros);
    }

    /// Times that every server shares.
    fn shared(&mut self, root: &mut NodeMap) {
        if let Some(port @ 1..=65535) = root.take_integer("startPort") {
            self.document.table("[llama-server]");
            self.document.set("first-port", port);
        }
        // llama-swap's own default is two minutes, at least 15 s.
        let seconds = root.take_integer("healthCheckTimeout").unwrap_or(120).max(15);
        self.document.table("[readiness]");
        self.document.set("timeout", format!("{seconds}s"));
        self.document.set("on-timeout", "fail");
        if let Some(seconds @ 1..) = root.take_integer("unloadTimeout") {
            self.document.table("[stop]");
            self.document.set("grace", format!("{seconds}s"));
        }
    }

    fn write_models(&mut self) {
        for model in std::mem::take(&mut self.models) {
            let enabled = self.preload.iter().any(|name| model.is_called(name));
            model.write(enabled, &mut self.document);
        }
    }
}

/// A table of TOML from entries that are there.
fn table(entries: BTreeMap<&str, Option<Value>>) -> Option<Value> {
    let entries = entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    let table: toml::Table = entries.collect();
    (!table.is_empty()).then_some(Value::Table(table))
}
