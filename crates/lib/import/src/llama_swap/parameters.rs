//! What a model of llama-swap sets in requests, and what it says about itself: tables that become JSON.

use toml::{Table, Value};

use super::node::{Node, NodeMap};
use super::reasons::PORT_IS_CHOSEN;
use crate::command_line::PORT;
use crate::document::DocumentWriter;
use crate::identifiers::ServerNames;

/// Most levels of lists and maps in a value. A reader of TOML takes 80 in all.
const MOST_LEVELS: usize = 32;

/// The parameters that requests get.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    /// Of every request.
    pub(super) set: Table,
    /// Of requests that ask by a name.
    pub(super) variants: Table,
}

/// The model whose parameters are read.
#[derive(Debug)]
pub(super) struct ParametersOf<'a> {
    pub(super) place: &'a str,
    pub(super) name: &'a str,
    pub(super) id: &'a str,
}

impl ParametersOf<'_> {
    /// Takes what sets parameters. A name that sets none is an alias; the model's own name sets them for every request.
    pub(super) fn read(
        &self,
        filters: &mut NodeMap,
        aliases: &mut Vec<String>,
        names: &mut ServerNames,
        document: &mut DocumentWriter,
    ) -> Parameters {
        let place = format!("{}.filters.setParams", self.place);
        let mut parameters =
            Parameters { set: members(&place, filters.take_map("setParams"), document), ..Parameters::default() };
        let place = format!("{}.filters.setParamsByID", self.place);
        for (name, node) in filters.take_map("setParamsByID").0 {
            let map = match node {
                Node::Map(map) => map,
                Node::Nothing => NodeMap::default(),
                _ => {
                    document.leave_out(format!("{place}.{name}"), "its value is no map");
                    continue;
                }
            };
            let table = members(&format!("{place}.{name}"), map, document);
            if name == self.name || name == self.id {
                parameters.set.extend(table);
                continue;
            }
            let is_own = names.has(&name, self.place);
            if !is_own && !names.take(&name, self.place, &place, document) {
                continue;
            }
            if !table.is_empty() {
                aliases.retain(|alias| *alias != name);
                parameters.variants.insert(name, Value::Table(table));
            } else if !is_own {
                aliases.push(name);
            }
        }
        parameters
    }
}

/// What is written into requests.
fn members(place: &str, mut map: NodeMap, document: &mut DocumentWriter) -> Table {
    if map.take("model").is_some() {
        document.leave_out(
            format!("{place}.model"),
            "a request keeps the model that it asks for; an alias gives a server another name",
        );
    }
    json(place, map, document)
}

/// What a model says about itself. The port is chosen at the start, so that no text can have it.
pub(super) fn metadata(place: &str, map: NodeMap, document: &mut DocumentWriter) -> Table {
    let has_port = |entry: &(String, Node)| entry.0.contains(PORT) || entry.1.has_text(PORT);
    let (with_port, kept): (Vec<_>, Vec<_>) = map.0.into_iter().partition(has_port);
    for (key, _) in with_port {
        document.leave_out(format!("{place}.{}", key.replace(PORT, "${PORT}")), PORT_IS_CHOSEN);
    }
    json(place, NodeMap(kept), document)
}

/// A table without values that no reader of TOML takes.
fn json(place: &str, map: NodeMap, document: &mut DocumentWriter) -> Table {
    let mut table = Table::new();
    for (key, node) in map.0 {
        if node.is_deeper_than(MOST_LEVELS) {
            document.leave_out(format!("{place}.{key}"), "it has too many levels of lists and maps");
        } else {
            table.extend(node.into_toml().map(|value| (key, value)));
        }
    }
    table
}

/// The names of parameters that are taken out of requests.
pub(super) fn stripped(place: &str, text: &str, document: &mut DocumentWriter) -> Option<Value> {
    let mut names: Vec<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if names.contains(&"model") {
        document.leave_out(format!("{place}.filters.stripParams: model"), "a request keeps the model that it asks for");
        names.retain(|name| *name != "model");
    }
    if let Some(name) = names.iter().find(|name| name.contains('\0')) {
        document
            .leave_out(format!("{place}.filters.stripParams: {}", name.escape_debug()), "no text has a NUL character");
        names.retain(|name| !name.contains('\0'));
    }
    (!names.is_empty()).then(|| Value::from(names))
}
