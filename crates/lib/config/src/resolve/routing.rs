//! Builds the settings of the router and what each server has of them.

use std::num::NonZeroU32;
use std::time::Duration;

use llama_warden_fleet::{MaxLoaded, RouterAddress, RouterSettings, RouterSpec, ServerGroup, ServerPattern};

use crate::file::reader::Located;
use crate::file::routing_values::{Auto, JsonTable};
use crate::file::tables::{Router, RouterGroup, ServerRouter};
use crate::file::values::GlobPattern;
use crate::problem::ConfigProblems;
use crate::resolve::defaults::{SpecBuilder, need};

impl SpecBuilder<'_> {
    pub(crate) fn router(&self) -> Result<RouterSettings, ConfigProblems> {
        let router: Router = need(&self.file.router, "router")?;
        let listen = match need(&router.listen, "router.listen")? {
            RouterAddress::Unix(path) => RouterAddress::Unix(self.absolute(&path.to_string_lossy())),
            other => other,
        };
        let max_loaded = match need(&router.max_loaded, "router.max-loaded")? {
            Auto::Auto => MaxLoaded::Auto,
            Auto::Set(number) => NonZeroU32::new(number).map_or(MaxLoaded::Unlimited, MaxLoaded::AtMost),
        };
        let groups = router.groups.iter().flat_map(|groups| &groups.value);
        let default_model = need(&router.default_model, "router.default-model")?;
        Ok(RouterSettings {
            listen,
            keys_file: self.path_or_none(&router.keys_file),
            open: need(&router.open, "router.open")?,
            cors_origins: list(&router.cors_origins).map(|origin| origin.0.clone()).collect(),
            default_model: (!default_model.is_empty()).then_some(default_model),
            on_demand: need(&router.on_demand, "router.on-demand")?,
            max_loaded,
            combinations: list(&router.combinations).map(|set| patterns(set)).collect(),
            groups: groups.map(|(name, group)| (name.clone(), self::group(&group.value))).collect(),
            evict_busy_after: need(&router.evict_busy_after, "router.evict-busy-after")?,
            drain: need(&router.drain, "router.drain")?,
            queue_timeout: need(&router.queue_timeout, "router.queue-timeout")?.0,
            request_timeout: above_zero(need(&router.request_timeout, "router.request-timeout")?),
            max_body: need(&router.max_body, "router.max-body")?.0,
            body_memory: need(&router.body_memory, "router.body-memory")?.0,
            ping_after: above_zero(need(&router.ping_after, "router.ping-after")?),
            access_log: need(&router.access_log, "router.access-log")?,
            keep_cache_size: need(&router.keep_cache_size, "router.keep-cache-size")?.0,
        })
    }

    /// What a server has that sets these keys, or none.
    pub(crate) fn routing(&self, own: Option<&ServerRouter>) -> Result<RouterSpec, ConfigProblems> {
        let shared: Router = need(&self.file.router, "router")?;
        let own = own.cloned().unwrap_or_default();
        let is_set = |key: &Option<Located<bool>>| key.as_ref().is_some_and(|at| at.value);
        let table = |at: Option<Located<JsonTable>>| at.map(|at| at.value.0).unwrap_or_default();
        let variants = own.variants.map(|at| at.value).unwrap_or_default();
        Ok(RouterSpec {
            aliases: list(&own.aliases).map(|alias| alias.0.clone()).collect(),
            is_hidden: is_set(&own.hidden),
            is_kept: is_set(&own.keep),
            priority: own.priority.map_or(0, |at| at.value),
            evict_cost: own.evict_cost.map_or(1.0, |at| at.value.0),
            ttl: above_zero(need(&own.ttl.or(shared.ttl), "router.ttl")?),
            concurrency: match need(&own.concurrency.or(shared.concurrency), "router.concurrency")? {
                Auto::Auto => None,
                Auto::Set(number) => Some(number),
            },
            queue: need(&own.queue.or(shared.queue), "router.queue")?,
            progress: need(&own.progress.or(shared.progress), "router.progress")?,
            keeps_cache: need(&own.keep_cache.or(shared.keep_cache), "router.keep-cache")?,
            strip: list(&own.strip).map(|member| member.0.clone()).collect(),
            set: table(own.set),
            variants: variants.into_iter().map(|(name, at)| (name, at.value.0)).collect(),
            metadata: table(own.metadata),
        })
    }
}

fn list<T>(written: &Option<Located<Vec<Located<T>>>>) -> impl Iterator<Item = &T> {
    written.iter().flat_map(|list| &list.value).map(|at| &at.value)
}

fn patterns(written: &[Located<GlobPattern>]) -> Vec<ServerPattern> {
    written.iter().map(|at| ServerPattern::new(&at.value.0)).collect()
}

fn group(group: &RouterGroup) -> ServerGroup {
    let is_set = |key: &Option<Located<bool>>| key.as_ref().is_some_and(|at| at.value);
    ServerGroup {
        servers: group.servers.as_ref().map(|servers| patterns(&servers.value)).unwrap_or_default(),
        at_most: NonZeroU32::new(group.at_most.as_ref().map_or(1, |at| at.value)),
        is_exclusive: is_set(&group.exclusive),
        is_persistent: is_set(&group.persistent),
    }
}

fn above_zero(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}
