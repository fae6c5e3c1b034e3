//! Which models of llama-swap may run together: its groups, or its matrix.

use std::collections::{BTreeMap, BTreeSet};

use toml::Value;

use super::macros::{Macros, Unexpanded};
use super::matrix::sets_of;
use super::node::{Node, NodeMap};
use super::{SwapFile, models::SwapModel};
use crate::document::quoted_key;

impl SwapFile {
    /// Writes combinations into the table of the router, which is open, and groups behind it. Older files have groups and matrix at their
    /// top.
    pub(super) fn write_routing(&mut self, routing: NodeMap, older: [NodeMap; 2], macros: &Macros<'_>) {
        let expanded = |map| match macros.expand(Node::Map(map), &mut Unexpanded::default()) {
            Node::Map(map) => map,
            _ => NodeMap::default(),
        };
        let mut routing = expanded(routing);
        let [mut groups, mut matrix] = older.map(expanded);
        let mut scheduler = routing.take_map("scheduler");
        if scheduler.take_text("use").is_some_and(|used| used != "fifo") {
            self.document.leave_out("routing.scheduler.use", "requests are served in the order in which they came");
        }
        let mut settings = scheduler.take_map("settings");
        let mut fifo = settings.take_map("fifo");
        for (name, priority) in fifo.take_map("priority").0 {
            let at = self.models.iter_mut().find(|model| model.is_called(&name));
            match (at, priority) {
                (Some(model), Node::Integer(priority)) => model.priority = Some(priority),
                _ => {
                    let place = format!("routing.scheduler.settings.fifo.priority.{name}");
                    self.document.leave_out(place, "there is no such model");
                }
            }
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
            return self.write_matrix(matrix);
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
    }

    fn id_of(&self, name: &str) -> Option<String> {
        self.models.iter().find(|model| model.is_called(name)).map(|model| model.id.clone())
    }

    /// Models outside every group are one group, of which one member runs at a time and nothing else.
    fn write_groups(&mut self, groups: NodeMap) {
        let mut grouped = BTreeSet::new();
        let mut tables = Vec::new();
        for (name, group) in groups.0 {
            let Node::Map(mut group) = group else { continue };
            let mut servers = Vec::new();
            for member in group.take_texts("members") {
                match self.id_of(&member) {
                    Some(id) => {
                        grouped.insert(id.clone());
                        servers.push(id);
                    }
                    None => self.document.leave_out(format!("groups.{name}: {member}"), "there is no such server"),
                }
            }
            let [swap, exclusive, persistent] = [("swap", true), ("exclusive", true), ("persistent", false)]
                .map(|(key, by_default)| group.take_switch(key).unwrap_or(by_default));
            tables.push((name, servers, swap, exclusive, persistent));
        }
        let rest: Vec<String> =
            self.models.iter().map(|model| model.id.clone()).filter(|id| !grouped.contains(id)).collect();
        tables.push(("default".to_owned(), rest, true, true, false));
        // The groups say what may run together; without this, a machine whose memory cannot be measured would run one server.
        self.document.set("max-loaded", 0);
        for (name, servers, swap, exclusive, persistent) in
            tables.into_iter().filter(|(_, servers, ..)| !servers.is_empty())
        {
            self.document.table(&format!("[router.groups.{}]", quoted_key(&name)));
            self.document.set("servers", servers);
            self.document.set("at-most", i64::from(swap));
            self.document.set("exclusive", exclusive);
            self.document.set("persistent", persistent);
        }
    }

    fn write_matrix(&mut self, mut matrix: NodeMap) {
        let variables: BTreeMap<String, String> =
            matrix.take_map("vars").0.into_iter().filter_map(|(name, node)| Some((name, node.into_text()?))).collect();
        let named = |name: &str| variables.get(name).map_or_else(|| name.to_owned(), Clone::clone);
        for (name, cost) in matrix.take_map("evict_costs").0 {
            let cost = match cost {
                Node::Integer(cost) => cost as f64,
                Node::Float(cost) => cost,
                _ => continue,
            };
            let name = named(&name);
            match self.models.iter_mut().find(|model| model.is_called(&name)) {
                Some(model) => model.evict_cost = Some(cost),
                None => self.document.leave_out(format!("matrix.evict_costs.{name}"), "there is no such server"),
            }
        }
        let mut expressions = BTreeMap::new();
        let mut combinations: Vec<Vec<String>> = Vec::new();
        for (name, expression) in matrix.take_map("sets").0 {
            let expression = expression.into_text().unwrap_or_default();
            let Some(sets) = sets_of(&expression, &expressions) else {
                self.document.leave_out(format!("matrix.sets.{name}"), format!("`{expression}` is no set of models"));
                continue;
            };
            for set in &sets {
                let ids: Vec<String> = set.iter().filter_map(|name| self.id_of(&named(name))).collect();
                if ids.len() < set.len() {
                    let unknown = set.iter().filter(|name| self.id_of(&named(name)).is_none());
                    let unknown: Vec<_> = unknown.map(String::as_str).collect();
                    self.document
                        .leave_out(format!("matrix.sets.{name}"), format!("there is no server {}", unknown.join(", ")));
                }
                if !ids.is_empty() && !combinations.contains(&ids) {
                    combinations.push(ids);
                }
            }
            expressions.insert(name, sets);
        }
        // A model of no set runs alone.
        let alone = |model: &&SwapModel| !combinations.iter().any(|set| set.contains(&model.id));
        let alone: Vec<Vec<String>> = self.models.iter().filter(alone).map(|model| vec![model.id.clone()]).collect();
        combinations.extend(alone);
        self.document.set("max-loaded", 0);
        let combinations = combinations.into_iter().map(Value::from).collect();
        self.document.set("combinations", Value::Array(combinations));
    }
}
