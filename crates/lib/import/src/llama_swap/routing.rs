//! Which models of llama-swap may run together: its groups, or its matrix.

use std::collections::{BTreeMap, BTreeSet};

use toml::Value;

use super::macros::{Macros, Unexpanded};
use super::matrix::Expressions;
use super::node::{Node, NodeMap};
use super::{SwapError, SwapFile};
use crate::document::quoted_key;
use crate::identifiers::IdMaker;

/// Most characters of an expression that a reason repeats.
const LONGEST_SHOWN: usize = 60;

impl SwapFile {
    /// Writes combinations into the table of the router, which is open, and groups behind it. Older files have groups and matrix at their
    /// top.
    pub(super) fn write_routing(
        &mut self,
        routing: NodeMap,
        older: [NodeMap; 2],
        macros: &Macros<'_>,
    ) -> Result<(), SwapError> {
        let mut routing = macros.expand("routing", routing, &mut Unexpanded::default())?;
        let [groups, matrix] = older;
        let mut groups = macros.expand("groups", groups, &mut Unexpanded::default())?;
        let mut matrix = macros.expand("matrix", matrix, &mut Unexpanded::default())?;
        let mut scheduler = routing.take_map("scheduler");
        if scheduler.take_text("use").is_some_and(|used| used != "fifo") {
            self.document.leave_out("routing.scheduler.use", "requests are served in the order in which they came");
        }
        let mut settings = scheduler.take_map("settings");
        let mut fifo = settings.take_map("fifo");
        for (name, priority) in fifo.take_map("priority").0 {
            let because = match (self.called.get(&name), priority) {
                (Some(index), Node::Integer(priority)) if i32::try_from(priority).is_ok() => {
                    self.models[*index].priority = Some(priority);
                    continue;
                }
                (Some(_), _) => "its value is no number from -2147483648 to 2147483647",
                (None, _) => "there is no such model",
            };
            self.document.leave_out(format!("routing.scheduler.settings.fifo.priority.{name}"), because);
        }
        self.leave_rest("routing.scheduler.settings.fifo", fifo);
        self.leave_rest("routing.scheduler.settings", settings);
        self.leave_rest("routing.scheduler", scheduler);
        let mut router = routing.take_map("router");
        let used = router.take_text("use");
        let mut settings = router.take_map("settings");
        if groups.0.is_empty() {
            groups = settings.take_map("groups");
        }
        if matrix.0.is_empty() {
            matrix = settings.take_map("matrix");
        } else if used.is_none() {
            self.write_matrix(matrix);
            return Ok(());
        }
        self.leave_rest("routing.router.settings", settings);
        self.leave_rest("routing.router", router);
        self.leave_rest("routing", routing);
        let uses_matrix = used.is_some_and(|engine| engine == "matrix");
        let (unused, place) = if uses_matrix { (&groups, "groups") } else { (&matrix, "matrix") };
        if !unused.0.is_empty() {
            let place = format!("routing.router.settings.{place}");
            self.document.leave_out(place, "it is not in use: `routing.router.use` names the other one");
        }
        if uses_matrix {
            self.write_matrix(matrix);
        } else {
            self.write_groups(groups);
        }
        Ok(())
    }

    fn id_of(&self, name: &str) -> Option<String> {
        self.called.get(name).map(|index| self.models[*index].id.clone())
    }

    /// Models outside every group are one group, of which one member runs at a time and nothing else.
    fn write_groups(&mut self, groups: NodeMap) {
        // The group of each model.
        let mut grouped: BTreeMap<String, String> = BTreeMap::new();
        let mut tables = Vec::new();
        for (name, group) in groups.0 {
            let place = format!("groups.{name}");
            let Node::Map(mut group) = group else {
                self.document.leave_out(place, "its value is no map");
                continue;
            };
            let mut servers = Vec::new();
            for member in group.take_texts("members") {
                let Some(id) = self.id_of(&member) else {
                    self.document.leave_out(format!("{place}: {member}"), "there is no such server");
                    continue;
                };
                match grouped.get(&id) {
                    None => {
                        grouped.insert(id.clone(), name.clone());
                        servers.push(id);
                    }
                    Some(first) if *first != name => self.document.leave_out(
                        format!("{place}: {member}"),
                        format!(
                            "it is in groups.{first}, and a server has one group; `combinations` may have it in several"
                        ),
                    ),
                    Some(_) => {}
                }
            }
            let [swap, exclusive, persistent] = [("swap", true), ("exclusive", true), ("persistent", false)]
                .map(|(key, by_default)| group.take_switch(key).unwrap_or(by_default));
            self.leave_rest(&place, group);
            tables.push((name, servers, swap, exclusive, persistent));
        }
        let rest: Vec<String> =
            self.models.iter().map(|model| model.id.clone()).filter(|id| !grouped.contains_key(id)).collect();
        tables.push(("default".to_owned(), rest, true, true, false));
        // The groups say what may run together; without this, a machine whose memory cannot be measured would run one server.
        self.document.set("max-loaded", 0);
        tables.retain(|(_, servers, ..)| !servers.is_empty());
        // Names of groups have the characters of ids, and the last of them is not the file's.
        let ids = IdMaker::default().ids_for(tables.iter().map(|(name, ..)| name.as_str()));
        for (id, (_, servers, swap, exclusive, persistent)) in ids.into_iter().zip(tables) {
            self.document.table(&format!("[router.groups.{}]", quoted_key(&id)));
            self.document.set("servers", servers);
            self.document.set("at-most", i64::from(swap));
            self.document.set("exclusive", exclusive);
            self.document.set("persistent", persistent);
        }
    }

    fn write_matrix(&mut self, mut matrix: NodeMap) {
        let mut variables: BTreeMap<String, String> = BTreeMap::new();
        for (name, node) in matrix.take_map("vars").0 {
            match node.into_text() {
                Some(text) => drop(variables.insert(name, text)),
                None => self.document.leave_out(format!("matrix.vars.{name}"), "its value is no text"),
            }
        }
        let named = |name: &str| variables.get(name).map_or_else(|| name.to_owned(), Clone::clone);
        for (name, cost) in matrix.take_map("evict_costs").0 {
            let cost = match cost {
                Node::Integer(cost) => Some(cost as f64),
                Node::Float(cost) => Some(cost),
                _ => None,
            };
            let because = match (self.called.get(&named(&name)), cost) {
                (Some(index), Some(cost)) if cost.is_finite() && cost >= 0.0 => {
                    self.models[*index].evict_cost = Some(cost);
                    continue;
                }
                (Some(_), _) => "its value is no number from 0 up",
                (None, _) => "there is no such server",
            };
            self.document.leave_out(format!("matrix.evict_costs.{name}"), because);
        }
        let combinations = self.combinations(matrix.take_map("sets"), named);
        self.leave_rest("matrix", matrix);
        self.document.set("max-loaded", 0);
        self.document.set("combinations", Value::Array(combinations.into_iter().map(Value::from).collect()));
    }

    /// The ids of servers that may run together.
    fn combinations(&mut self, sets: NodeMap, named: impl Fn(&str) -> String) -> Vec<Vec<String>> {
        let mut expressions = Expressions::default();
        let mut combinations: Vec<Vec<String>> = Vec::new();
        let mut seen: BTreeSet<Vec<String>> = BTreeSet::new();
        for (name, expression) in sets.0 {
            let place = format!("matrix.sets.{name}");
            let expression = expression.into_text().unwrap_or_default();
            let Some(sets) = expressions.sets_of(&expression) else {
                let shown: String = expression.chars().take(LONGEST_SHOWN).collect();
                let dots = if shown.len() < expression.len() { "…" } else { "" };
                let because = format!("`{shown}{dots}` is no set of models, or means more than 1000");
                self.document.leave_out(place, because);
                continue;
            };
            let mut unknown: BTreeSet<&str> = BTreeSet::new();
            for set in &sets {
                let mut ids: Vec<String> = Vec::new();
                for name in set {
                    match self.id_of(&named(name)) {
                        Some(id) if ids.contains(&id) => {}
                        Some(id) => ids.push(id),
                        None => drop(unknown.insert(name)),
                    }
                }
                if !ids.is_empty() && seen.insert(ids.clone()) {
                    combinations.push(ids);
                }
            }
            if !unknown.is_empty() {
                let unknown: Vec<&str> = unknown.into_iter().collect();
                self.document.leave_out(place, format!("there is no server {}", unknown.join(", ")));
            }
            expressions.insert(name, sets);
        }
        // A model of no set runs alone.
        let together: BTreeSet<&String> = combinations.iter().flatten().collect();
        let alone: Vec<Vec<String>> = self
            .models
            .iter()
            .filter(|model| !together.contains(&model.id))
            .map(|model| vec![model.id.clone()])
            .collect();
        combinations.extend(alone);
        combinations
    }
}
