//! The models of a file of llama-swap.

use std::collections::BTreeMap;

use toml::Value;

use super::macros::{Macros, Unexpanded};
use super::node::{Node, NodeMap};
use super::parameters::{Parameters, ParametersOf, metadata, stripped};
use super::reasons::{PORT_IS_CHOSEN, reason_for};
use super::{SwapError, table};
use crate::addresses::ServerAddresses;
use crate::command_line::{PORT, ServerCommand, is_llama_server, without_comments, words};
use crate::document::DocumentWriter;
use crate::identifiers::ServerNames;

/// A model that becomes a server.
#[derive(Debug)]
pub(crate) struct SwapModel {
    /// Its name in the file.
    pub(super) name: String,
    /// Empty until all models have one.
    pub(super) id: String,
    command: ServerCommand,
    pub(super) aliases: Vec<String>,
    keys: NodeMap,
    /// The weight of its eviction, and its place in a queue.
    pub(super) evict_cost: Option<f64>,
    pub(super) priority: Option<i64>,
}

impl SwapModel {
    /// The models that run a llama-server. The others are left out.
    ///
    /// # Errors
    /// Macros write too much.
    pub(super) fn read_all(
        models: NodeMap,
        macros: &Macros<'_>,
        document: &mut DocumentWriter,
    ) -> Result<Vec<Self>, SwapError> {
        let mut addresses = ServerAddresses::default();
        let mut read = Vec::new();
        for (name, node) in models.0 {
            read.extend(Self::read(name, node, macros, &mut addresses, document)?);
        }
        Ok(read)
    }

    fn read(
        name: String,
        node: Node,
        macros: &Macros<'_>,
        addresses: &mut ServerAddresses,
        document: &mut DocumentWriter,
    ) -> Result<Option<Self>, SwapError> {
        let place = format!("models.{name}");
        let Node::Map(mut keys) = node else {
            document.leave_out(place, "it has no settings");
            return Ok(None);
        };
        let macros = macros.with(keys.take_map("macros"), &name);
        // Before macros are expanded, which may have lines of their own.
        if let Some(text) = keys.take_text("cmd") {
            keys.0.insert(0, ("cmd".to_owned(), Node::Text(without_comments(&text))));
        }
        let mut unexpanded = Unexpanded::default();
        let mut keys = macros.expand(&place, keys, &mut unexpanded)?;
        let words = match command_words(keys.take_text("cmd")) {
            Ok(words) => words,
            Err(because) => {
                document.leave_out(place, because);
                return Ok(None);
            }
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
        let mut command = ServerCommand::parse(&words, &place, document);
        if let Some(because) = command.model_problem() {
            document.leave_out(place, because);
            return Ok(None);
        }
        keys.0.retain(|(key, node)| {
            let is_kept = matches!(&**key, "env" | "metadata" | "proxy") || !node.has_text(PORT);
            if !is_kept {
                document.leave_out(format!("{place}.{key}"), PORT_IS_CHOSEN);
            }
            is_kept
        });
        command.take_addresses(addresses, &place, document);
        let mut aliases = keys.take_texts("aliases");
        aliases.append(&mut command.aliases);
        Ok(Some(Self { name, id: String::new(), command, aliases, keys, evict_cost: None, priority: None }))
    }

    /// Where it stands in the file.
    pub(super) fn place(&self) -> String {
        format!("models.{}", self.name)
    }

    pub(super) fn write(self, enabled: bool, names: &mut ServerNames, document: &mut DocumentWriter) {
        let place = self.place();
        let Self { name, id, command, mut aliases, mut keys, evict_cost, priority } = self;
        document.table("[[servers]]");
        document.set("id", id.as_str());
        if let Some(shown) = keys.take_text("name") {
            document.set_line("display-name", shown, &format!("{place}.name"));
        }
        document.set("enabled", enabled);
        let sleep_after = command.sleep_after;
        command.write(document);
        environment(&place, keys.take_texts("env"), document);
        if let Some(words) = keys.take_text("cmdStop").and_then(|text| stop_command(text, &place, &mut keys, document))
        {
            document.set("hooks", Value::Table(toml::Table::from_iter([("pre-stop".to_owned(), Value::from(words))])));
        }
        let ttl = keys.take_seconds("ttl").filter(|seconds| *seconds >= 0).or(sleep_after);
        let concurrency = keys.take_integer("concurrencyLimit", ..=i64::from(u32::MAX)).filter(|limit| *limit > 0);
        let progress = keys.take_switch("sendLoadingState").map(|is_sent| if is_sent { "comments" } else { "off" });
        if let Some(seconds @ 1..) = keys.take_seconds("unloadTimeout") {
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
        let parameters = ParametersOf { place: &place, name: &name, id: &id };
        let Parameters { set, variants } = parameters.read(&mut filters, &mut aliases, names, document);
        let strip = filters.take_text("stripParams").or_else(|| filters.take_text("strip_params"));
        let strip = strip.and_then(|text| stripped(&place, &text, document));
        let mut about = keys.take_map("metadata");
        if let Some(description) = keys.take_text("description") {
            about.0.insert(0, ("description".to_owned(), Node::Text(description)));
        }
        let capabilities = keys.take_map("capabilities");
        if !capabilities.0.is_empty() {
            about.0.push(("capabilities".to_owned(), Node::Map(capabilities)));
        }
        let about = metadata(&format!("{place}.metadata"), about, document);
        let filled = |table: toml::Table| (!table.is_empty()).then_some(Value::Table(table));
        let router = table(BTreeMap::from([
            ("aliases", (!aliases.is_empty()).then(|| Value::from(aliases))),
            ("hidden", keys.take_switch("unlisted").filter(|hidden| *hidden).map(Value::from)),
            ("priority", priority.map(Value::from)),
            ("evict-cost", evict_cost.map(Value::from)),
            ("ttl", ttl.map(|seconds| Value::from(format!("{seconds}s")))),
            ("concurrency", concurrency.map(Value::from)),
            ("progress", progress.map(Value::from)),
            ("strip", strip),
            ("set", filled(set)),
            ("variants", filled(variants)),
            ("metadata", filled(about)),
        ]));
        if let Some(router) = router {
            document.set("router", router);
        }
        left_out(&place, keys, filters, document);
    }
}

/// The words of a command that runs a llama-server, or why it is none.
fn command_words(text: Option<String>) -> Result<Vec<String>, String> {
    let Some(text) = text else { return Err("it has no text `cmd`, which names the program".to_owned()) };
    let words = words(&text).map_err(|because| format!("its command cannot be read: {because}"))?;
    match words.first() {
        Some(first) if is_llama_server(first) => Ok(words),
        Some(program) => Err(format!(
            "it runs `{}`, and only a llama-server is launched; a script of that name may wrap it",
            program.escape_debug()
        )),
        None => Err("its `cmd` is empty".to_owned()),
    }
}

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
            Some((name, _)) if line.contains(PORT) => {
                document.leave_out(format!("{place}.env: {}", name.replace(PORT, "${PORT}")), PORT_IS_CHOSEN);
            }
            Some(("", _)) => document.leave_out(format!("{place}.env: {line}"), "the variable has no name"),
            Some((name, _)) if line.contains('\0') => {
                let because = "a variable has no NUL character in its name or its value";
                document.leave_out(format!("{place}.env: {}", name.escape_debug()), because);
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
fn stop_command(text: String, place: &str, keys: &mut NodeMap, document: &mut DocumentWriter) -> Option<Vec<String>> {
    let plain = without_comments(&text);
    if text.contains("${") || plain.trim().is_empty() {
        keys.0.push(("cmdStop".to_owned(), Node::Text(text)));
        return None;
    }
    match words(&plain) {
        Ok(words) => Some(words).filter(|words| !words.is_empty()),
        Err(because) => {
            document.leave_out(format!("{place}.cmdStop"), format!("it cannot be read: {because}"));
            None
        }
    }
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
            _ => reason_for(&key, &node),
        };
        if node != Node::Map(NodeMap::default()) {
            document.leave_out(format!("{place}.{key}"), because);
        }
    }
    for (key, node) in filters.0 {
        document.leave_out(format!("{place}.filters.{key}"), reason_for(&key, &node));
    }
}
