//! Which servers sleep: each that does so by an option is asked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use llama_warden_events::ServerId;

use crate::caller::Caller;
use crate::request::RouterService;
use llama_warden_held_body::HeldBody;
use llama_warden_upstream::Upstream;

/// Longest wait for the answers: the list of models comes without them otherwise.
const LONGEST_LOOK: Duration = Duration::from_secs(1);

impl RouterService {
    /// The servers that sleep. Only those are asked that do so by an option, and a look at their properties does not wake them.
    pub(crate) async fn asleep(&self, caller: &Caller) -> BTreeSet<ServerId> {
        let directory = self.shared.directory();
        let may_sleep = |upstream: &Arc<Upstream>| {
            let named = directory.find(Some(upstream.server.as_str()));
            named.is_ok_and(|named| named.spec.may_sleep())
        };
        let upstreams: Vec<_> = self.reachable(caller).into_iter().filter(may_sleep).collect();
        if upstreams.is_empty() {
            return BTreeSet::new();
        }
        let nothing = HeldBody::default();
        let asked = self.ask_each(upstreams, Method::GET, "/props", &nothing);
        let answers = tokio::time::timeout(LONGEST_LOOK, asked).await.unwrap_or_default();
        let asleep = answers.into_iter().filter(|(_, props)| props["is_sleeping"].as_bool() == Some(true));
        asleep.map(|(server, _)| server).collect()
    }
}
