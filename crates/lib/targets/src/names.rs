//! Which server a name means: an id, an alias or a variant, exactly, else without ASCII case and `:latest` where that is unique.

use std::collections::BTreeMap;
use std::sync::Arc;

use llama_warden_config::{Fleet, JsonObject, ServerSpec};

/// A server, as a name means it.
#[derive(Debug, Clone)]
pub struct Named {
    /// Its settings.
    pub spec: Arc<ServerSpec>,
    /// The variant that was asked for.
    variant: Option<String>,
}

impl Named {
    /// The members that a body gets: those of the server, and those of the variant over them.
    pub fn set(&self) -> JsonObject {
        let mut set = self.spec.router.set.clone();
        let variant = self.variant.as_ref().and_then(|name| self.spec.router.variants.get(name));
        set.extend(variant.cloned().unwrap_or_default());
        set
    }

    /// Every name of the server.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let router = &self.spec.router;
        let others = router.aliases.iter().chain(router.variants.keys()).map(String::as_str);
        std::iter::once(self.spec.id.as_str()).chain(others)
    }

    /// Whether bodies are changed.
    pub fn edits(&self) -> bool {
        self.variant.is_some() || !self.spec.router.set.is_empty() || !self.spec.router.strip.is_empty()
    }
}

/// Every name of a fleet.
#[derive(Debug, Default)]
pub struct Directory {
    exact: BTreeMap<String, Named>,
    /// By simplified name; `None` where it is not unique.
    loose: BTreeMap<String, Option<Named>>,
    only: Option<Named>,
    default: Option<String>,
}

/// Why a request has no server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoServer {
    /// It names no model, and there is no default.
    Missing,
    /// It names one that is not there.
    Unknown(String),
}

impl Directory {
    /// The names of a fleet; `default` is meant where a request names none.
    pub fn new(fleet: &Fleet, default: Option<String>) -> Self {
        let mut this = Self { default, ..Self::default() };
        let specs: Vec<&Arc<ServerSpec>> = fleet.iter().filter(|spec| !spec.id.is_canary()).collect();
        if let [only] = specs[..] {
            this.only = Some(Named { spec: only.clone(), variant: None });
        }
        for spec in specs {
            let plain = spec.router.aliases.iter().map(String::as_str).chain([spec.id.as_str()]);
            let variants = spec.router.variants.keys().map(|name| (name.as_str(), Some(name.clone())));
            for (name, variant) in plain.map(|name| (name, None)).chain(variants) {
                let named = Named { spec: spec.clone(), variant };
                let known = this.loose.entry(simplified(name)).or_insert_with(|| Some(named.clone()));
                if known.as_ref().is_some_and(|known| known.spec.id != named.spec.id || known.variant != named.variant)
                {
                    *known = None;
                }
                this.exact.insert(name.to_owned(), named);
            }
        }
        this
    }

    /// The server that a name means.
    ///
    /// # Errors
    /// No server is meant.
    pub fn find(&self, name: Option<&str>) -> Result<&Named, NoServer> {
        match name.filter(|name| !name.is_empty()).or(self.default.as_deref()) {
            Some(name) => {
                let loose = || self.loose.get(&simplified(name)).and_then(Option::as_ref);
                self.exact.get(name).or_else(loose).ok_or_else(|| NoServer::Unknown(name.to_owned()))
            }
            None => self.only.as_ref().ok_or(NoServer::Missing),
        }
    }

    /// Every server once.
    pub fn servers(&self) -> impl Iterator<Item = &Named> {
        self.exact.iter().filter(|(name, named)| **name == *named.spec.id.as_str()).map(|(_, named)| named)
    }

    /// The names that lists show, of the servers that pass.
    pub fn shown(&self, passes: impl Fn(&Named) -> bool) -> impl Iterator<Item = &str> {
        let shown = self.exact.iter().filter(move |(_, named)| !named.spec.router.is_hidden && passes(named));
        shown.map(|(name, _)| name.as_str())
    }
}

fn simplified(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    name.strip_suffix(":latest").map(str::to_owned).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use llama_warden_config::{ConfigSource, Configuration, Environment, HostEnvironment};

    use super::*;

    fn directory(default: Option<&str>, servers: &[(&str, &str)]) -> Directory {
        let table = |(id, router): &(&str, &str)| {
            format!("[[servers]]\nid = '{id}'\nmodel = 'm.gguf'\nrouter = {{{router}}}\n")
        };
        let text: String = servers.iter().map(table).collect();
        let configuration =
            Configuration::parse(&ConfigSource::text("/", text), &Environment::default()).expect("valid");
        let fleet = configuration.resolve(None, &HostEnvironment { cpus: 1 }).expect("no profile");
        Directory::new(&fleet, default.map(str::to_owned))
    }

    #[test]
    fn a_name_means_a_server_exactly_or_without_case_and_latest() {
        let directory = directory(
            None,
            &[("Qwen", "aliases = ['gpt-4o', 'org/x:tag']"), ("qwen", ""), ("b", "variants = { fast = { k = 1 } }")],
        );
        let id = |name: &str| directory.find(Some(name)).map(|named| named.spec.id.to_string());
        for (name, expected) in [
            ("Qwen", "Qwen"),
            ("qwen", "qwen"),
            ("GPT-4o:latest", "Qwen"),
            ("ORG/x:TAG", "Qwen"),
            ("B:latest", "b"),
            ("FAST", "b"),
        ] {
            assert_eq!(id(name).as_deref(), Ok(expected), "{name}");
        }
        for name in ["QWEN", "c", "b:tag"] {
            assert_eq!(id(name), Err(NoServer::Unknown(name.to_owned())), "{name}");
        }
        assert_eq!(directory.find(None).map(|_| ()), Err(NoServer::Missing));
        assert_eq!(directory.find(Some("fast")).map(|named| named.set().len()), Ok(1));
        assert_eq!(directory.find(Some("b")).map(|named| named.edits()), Ok(false));
    }

    #[test]
    fn a_request_without_a_model_means_the_default_or_the_only_server() {
        let id = |directory: &Directory| directory.find(Some("")).map(|named| named.spec.id.to_string());
        assert_eq!(id(&directory(None, &[("a", "")])).as_deref(), Ok("a"));
        assert_eq!(id(&directory(Some("b"), &[("a", ""), ("b", "")])).as_deref(), Ok("b"));
    }
}
