//! The models of a file of llama-swap.

use std::collections::BTreeMap;

use toml::Value;

use super::macros::{Macros, PORT, Unexpanded};
use super::node::{Node, NodeMap};
use super::table;
use crate::command_line::{ServerCommand, is_llama_server, without_comments, words};
use crate::document::DocumentWriter;
use crate::identifiers::IdMaker;

/// A model that becomes a server.
#[derive(Debug)]
pub(crate) struct SwapModel {
    /// Its name in the file.
    name: String,
    pub(crate) id: String,
    command: ServerCommand,
    aliases: Vec<String>,
    keys: NodeMap,
    /// The weight of its eviction, and its place in a queue.
    pub(crate) evict_cost: Option<f64>,
    pub(crate) priority: Option<i64>,
}

impl SwapModel {
    /// The models that run a llama-server. The others are left out.
    pub(crate) fn read_all(models: NodeMap, macros: &Macros<'_>, document: &mut DocumentWriter) -> Vec<Self> {
        let mut ids = IdMaker::default();
        models.0.into_iter().filter_map(|(name, node)| Self::read(name, node, macros, &mut ids, document)).collect()
    }

    fn read(
        name: String,
        node: Node,
        macros: &Macros<'_>,
        ids: &mut IdMaker,
        document: &mut DocumentWriter,
    ) -> Option<Self> {
        let place = format!("models.{name}");
        let Node::Map(mut keys) = node else {
            document.leave_out(place, "it has no settings");
            return None;
        };
        let macros = macros.with(keys.take_map("macros"), &name);
        // Before macros are expanded, which may have lines of their own.
        if let Some(text) = keys.take_text("cmd") {
            keys.0.insert(0, ("cmd".to_owned(), Node::Text(without_comments(&text))));
        }
        let mut unexpanded = Unexpanded::default();
        let Node::Map(mut keys) = macros.expand(Node::Map(keys), &mut unexpanded) else { return None };
        let text = keys.take_text("cmd").unwrap_or_default();
        let Some(words) = words(&text).filter(|words| words.first().is_some_and(|first| is_llama_server(first))) else {
            let program = text.split_whitespace().next().unwrap_or("nothing").to_owned();
            document.leave_out(
                place,
                format!("it runs `{program}`, and only a llama-server is launched; a script of that name may wrap it"),
            );
            return None;
        };
        // `${PID}` is known at a stop only, and stops are by signals here.
        unexpanded.0.retain(|name| name != "PID");
        unexpanded.0.dedup();
        for variable in unexpanded.0 {
            document.leave_out(
                format!("{place}: ${{{variable}}}"),
                "its value is unknown or a secret, and stays as it is: write it, or pass the variable with `env-pass`",
            );
        }
        let words = without_port(words, &place, document);
        keys.0.retain(|(key, node)| {
            let is_kept = matches!(&**key, "env" | "metadata" | "proxy") || !node.has_text(PORT);
            if !is_kept {
                document.leave_out(format!("{place}.{key}"), PORT_IS_CHOSEN);
            }
            is_kept
        });
        let mut command = ServerCommand::parse(&words, &place, document);
        let mut aliases = keys.take_texts("aliases");
        aliases.append(&mut command.aliases);
        let id = ids.id_for(&name);
        if id != name {
            aliases.insert(0, name.clone());
        }
        aliases.retain(|alias| *alias != id);
        aliases.dedup();
        Some(Self { name, id, command, aliases, keys, evict_cost: None, priority: None })
    }

    /// Whether the file calls it so.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|alias| alias == name)
    }

    /// It has one more name.
    pub(crate) fn add_alias(&mut self, name: String) {
        if !self.is_called(&name) {
            self.aliases.push(name);
        }
    }

    pub(crate) fn write(self, enabled: bool, document: &mut DocumentWriter) {
        let Self { name, id, command, mut aliases, mut keys, evict_cost, priority } = self;
        let place = format!("models.{name}");
        document.table("[[servers]]");
        document.set("id", id);
        if let Some(shown) = keys.take_text("name") {
            document.set("display-name", shown);
        }
        document.set("enabled", enabled);
        let sleep_after = command.sleep_after.and_then(|seconds| i64::try_from(seconds).ok());
        command.write(document);
        environment(&place, keys.take_texts("env"), document);
        if let Some(words) = keys.take_text("cmdStop").and_then(|text| stop_command(text, &mut keys)) {
            document.set("hooks", Value::Table(toml::Table::from_iter([("pre-stop".to_owned(), Value::from(words))])));
        }
        let ttl = keys.take_integer("ttl").filter(|seconds| *seconds >= 0).or(sleep_after);
        let concurrency = keys.take_integer("concurrencyLimit").filter(|limit| *limit > 0);
        let progress = keys.take_switch("sendLoadingState").map(|is_sent| if is_sent { "comments" } else { "off" });
        if let Some(seconds @ 1..) = keys.take_integer("unloadTimeout") {
            let table = toml::Table::from_iter([("grace".to_owned(), Value::from(format!("{seconds}s")))]);
            document.set("stop", Value::Table(table));
        }
        match keys.take_text("checkEndpoint").as_deref() {
            Some("none") => {
                let table = toml::Table::from_iter([("confirm".to_owned(), Value::from("none"))]);
                document.set("readiness", Value::Table(table));
            }
            Some("/health") | None => {}
            Some(_) => {
                document.leave_out(format!("{place}.checkEndpoint"), "readiness is read from the output and /health")
            }
        }
        let mut filters = keys.take_map("filters");
        let (variants, own_parameters) = variants(&mut filters, &name, &mut aliases);
        let strip = filters.take_text("stripParams").or_else(|| filters.take_text("strip_params")).map(|names| {
            Value::Array(names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(Value::from).collect())
        });
        let mut set = filters.take_map("setParams");
        // Its own name among the names that set parameters: they are set for every request.
        set.0.extend(own_parameters);
        let set = Node::Map(set).into_toml().filter(|set| set.as_table().is_some_and(|set| !set.is_empty()));
        let description = keys.take_text("description");
        let mut metadata = keys.take_map("metadata");
        if let Some(description) = description {
            metadata.0.insert(0, ("description".to_owned(), Node::Text(description)));
        }
        let capabilities = keys.take_map("capabilities");
        if !capabilities.0.is_empty() {
            metadata.0.push(("capabilities".to_owned(), Node::Map(capabilities)));
        }
        let metadata = without_ports(&place, metadata, document);
        let is_some = |node: NodeMap| (!node.0.is_empty()).then(|| Node::Map(node).into_toml()).flatten();
        let router = table(BTreeMap::from([
            ("aliases", (!aliases.is_empty()).then(|| Value::from(aliases))),
            ("hidden", keys.take_switch("unlisted").filter(|hidden| *hidden).map(Value::from)),
            ("priority", priority.map(Value::from)),
            ("evict-cost", evict_cost.map(Value::from)),
            ("ttl", ttl.map(|seconds| Value::from(format!("{seconds}s")))),
            ("concurrency", concurrency.map(Value::from)),
            ("progress", progress.map(Value::from)),
            ("strip", strip),
            ("set", set),
            ("variants", variants),
            ("metadata", is_some(metadata)),
        ]));
        if let Some(router) = router {
            document.set("router", router);
        }
        left_out(&place, keys, filters, document);
    }
}

/// Why nothing but a command can have `${PORT}`.
const PORT_IS_CHOSEN: &str = "the port is chosen when the server starts, and `--port` is added";

/// The words of a command without those that have the port, and without the option of such a value.
fn without_port(words: Vec<String>, place: &str, document: &mut DocumentWriter) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for word in words {
        if !word.contains(PORT) {
            kept.push(word);
            continue;
        }
        let option = match word.split_once('=') {
            Some((option, _)) if option.starts_with('-') => option.to_owned(),
            _ => kept.pop_if(|word| word.starts_with('-')).unwrap_or_default(),
        };
        if option != "--port" {
            document.leave_out(format!("{place}: {option}"), PORT_IS_CHOSEN);
        }
    }
    kept
}

/// `NAME=value` lines.
fn environment(place: &str, lines: Vec<String>, document: &mut DocumentWriter) {
    let mut table = toml::Table::new();
    for line in lines {
        match line.split_once('=') {
            Some((name, value)) if value.contains(PORT) => {
                document.leave_out(format!("{place}.env: {name}"), PORT_IS_CHOSEN);
            }
            Some((name, value)) => drop(table.insert(name.to_owned(), value.into())),
            None => {
                document.leave_out(format!("{place}.env: {line}"), "it has no value; `env-pass` passes a variable on")
            }
        }
    }
    if !table.is_empty() {
        document.set("env", Value::Table(table));
    }
}

/// The words of a command that stops a model, where it needs not know the process. It runs before TERM is sent here, and not in its
/// place.
fn stop_command(text: String, keys: &mut NodeMap) -> Option<Vec<String>> {
    let found = words(&without_comments(&text)).filter(|words| !words.is_empty() && !text.contains("${"));
    if found.is_none() {
        keys.0.push(("cmdStop".to_owned(), Node::Text(text)));
    }
    found
}

/// Names that set parameters, and those that the model's own name sets. A name that sets none is an alias.
fn variants(filters: &mut NodeMap, own: &str, aliases: &mut Vec<String>) -> (Option<Value>, Vec<(String, Node)>) {
    let (mut table, mut own_parameters) = (toml::Table::new(), Vec::new());
    for (name, parameters) in filters.take_map("setParamsByID").0 {
        if let Node::Map(parameters) = &parameters
            && name == own
        {
            own_parameters.extend(parameters.0.clone());
            continue;
        }
        match parameters.into_toml() {
            Some(Value::Table(parameters)) if !parameters.is_empty() => {
                aliases.retain(|alias| *alias != name);
                table.insert(name, Value::Table(parameters));
            }
            _ => aliases.push(name),
        }
    }
    ((!table.is_empty()).then_some(Value::Table(table)), own_parameters)
}

/// The port is chosen at the start, so that no text can have it.
fn without_ports(place: &str, metadata: NodeMap, document: &mut DocumentWriter) -> NodeMap {
    let (with_port, kept): (Vec<_>, Vec<_>) = metadata.0.into_iter().partition(|(_, node)| node.has_text(PORT));
    for (key, _) in with_port {
        document.leave_out(format!("{place}.metadata.{key}"), PORT_IS_CHOSEN);
    }
    NodeMap(kept)
}

/// What of a model has no counterpart.
fn left_out(place: &str, keys: NodeMap, filters: NodeMap, document: &mut DocumentWriter) {
    for (key, node) in keys.0 {
        let because = match key.as_str() {
            "cmdStop" => {
                "servers are stopped by TERM, and by KILL after `stop.grace`; no command has to know their process"
            }
            "proxy" => "requests go to the port of the server itself",
            "useModelName" => "llama-server answers to any name; `router.set` changes other parameters",
            "timeouts" => {
                "`router.request-timeout` bounds a whole request; connections within the machine need no other"
            }
            "compat" => "not needed: no page and no websocket starts a server",
            _ => "llama-warden knows no such setting",
        };
        if node != Node::Map(NodeMap::default()) {
            document.leave_out(format!("{place}.{key}"), because);
        }
    }
    for (key, _) in filters.0 {
        document.leave_out(format!("{place}.filters.{key}"), "llama-warden knows no such setting");
    }
}
