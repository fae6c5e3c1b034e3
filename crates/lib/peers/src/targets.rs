//! The targets of a peer: checked, since one that Prometheus does not take would cost it the whole list.

use http::uri::Authority;
use llama_warden_api_types::TargetGroup;

/// The labels that say where a target is from.
const PEER: [&str; 2] = ["peer", "__meta_llama_warden_peer"];

/// The groups with the peer's name, without targets and labels that Prometheus would refuse.
pub(crate) fn of_peer(groups: Vec<TargetGroup>, peer: &str) -> Vec<TargetGroup> {
    let labelled = groups.into_iter().map(|TargetGroup { mut targets, mut labels }| {
        targets.retain(|target| target.parse::<Authority>().is_ok_and(|target| target.port_u16().is_some()));
        labels.retain(|name, _| is_label(name));
        labels.extend(PEER.map(|label| (label.to_owned(), peer.to_owned())));
        TargetGroup { targets, labels }
    });
    labelled.filter(|group| !group.targets.is_empty()).collect()
}

fn is_label(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && !name.starts_with(|first: char| first.is_ascii_digit()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_prometheus_would_refuse_is_left_out_and_the_peer_is_named() {
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let group = |targets: &[&str], pairs: &[(&str, &str)]| TargetGroup {
            targets: targets.iter().map(|target| (*target).to_owned()).collect(),
            labels: labels(pairs),
        };
        let given = vec![
            group(
                &["box:1", "a b:2", "http://x:3", "noport", "[fd00::1]:4"],
                &[("server", "a"), ("b d", "x"), ("1x", "y"), ("", "")],
            ),
            group(&["/metrics"], &[("server", "b")]),
        ];
        let expected = group(
            &["box:1", "[fd00::1]:4"],
            &[("server", "a"), ("peer", "gpu2"), ("__meta_llama_warden_peer", "gpu2")],
        );
        assert_eq!(of_peer(given, "gpu2"), [expected]);
    }
}
