//! Tables of request heads and the status that each gets.

use std::net::IpAddr;

use http::Request;

use llama_warden_http_server::TcpEnds;

use super::*;

/// A head from a request line and headers.
fn head(method: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri("/api/v1/status");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("valid").into_parts().0
}

fn loopback() -> RequestPolicy {
    RequestPolicy::new(ListenerReach::Loopback, Some("127.0.0.1".to_owned()), TcpAccess::default())
}

fn with_token() -> TcpAccess {
    TcpAccess { token: Token::new("s3cret").expect("valid").into(), ..TcpAccess::default() }
}

fn tcp(peer: [u8; 4]) -> Transport {
    Transport::Tcp(TcpEnds { local: ([10, 0, 0, 1], 9888).into(), peer: (peer, 50_000).into() })
}

fn status(policy: &RequestPolicy, access: Access, request: &Parts) -> u16 {
    policy.check(tcp([127, 0, 0, 1]), access, request).map_or_else(|problem| problem.status, |()| 200)
}

#[test]
fn on_loopback_only_loopback_names_are_served() {
    for host in ["127.0.0.1:9888", "localhost:9888", "LOCALHOST", "[::1]:9888", "127.9.9.9:1", "app.localhost:80"] {
        assert_eq!(status(&loopback(), Access::Open, &head("GET", &[("host", host)])), 200, "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:9888",
        "192.168.1.7:9888",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "localhost@evil.example",
        "",
        "evil.example#@localhost",
        "notlocalhost",
        "[::1",
        "0.0.0.0:9888",
    ] {
        assert_eq!(status(&loopback(), Access::Open, &head("GET", &[("host", host)])), 403, "{host}");
    }
    assert_eq!(status(&loopback(), Access::Open, &head("GET", &[])), 403, "no host at all");
}

/// Wherever the daemon listens, and whoever asks.
#[test]
fn a_request_with_two_hosts_is_no_request() {
    let network = RequestPolicy::new(ListenerReach::Network, None, with_token());
    for hosts in [["localhost", "evil.example"], ["localhost", "localhost"]] {
        let two = head("GET", &hosts.map(|host| ("host", host)));
        for policy in [&loopback(), &network] {
            assert_eq!(status(policy, Access::Open, &two), 400, "{hosts:?}");
        }
        assert!(loopback().check(Transport::Unix, Access::Open, &two).is_err_and(|problem| problem.status == 400));
    }
}

#[test]
fn the_host_of_an_absolute_target_counts_too() {
    let request = Request::builder().uri("http://evil.example/livez").header("host", "localhost").body(());
    let request = request.expect("valid").into_parts().0;
    assert_eq!(status(&loopback(), Access::Open, &request), 403);
}

#[test]
fn the_configured_listen_host_is_served() {
    let policy = RequestPolicy::new(ListenerReach::Loopback, Some("gpu-box".to_owned()), TcpAccess::default());
    assert_eq!(status(&policy, Access::Guarded, &head("GET", &[("host", "gpu-box:9888")])), 200);
    assert_eq!(status(&policy, Access::Guarded, &head("GET", &[("host", "gpu-box2:9888")])), 403);
}

#[test]
fn the_names_of_a_reverse_proxy_are_served_and_every_refusal_lists_what_is() {
    let hosts = vec!["Warden.example".to_owned(), "fd00::1".to_owned()];
    let policy = RequestPolicy::new(
        ListenerReach::Loopback,
        Some("127.0.0.1".to_owned()),
        TcpAccess { hosts, ..TcpAccess::default() },
    );
    for host in ["warden.example", "WARDEN.example:443", "[fd00::1]:80", "localhost"] {
        assert_eq!(status(&policy, Access::Guarded, &head("POST", &[("host", host)])), 200, "{host}");
    }
    let page = [("host", "warden.example"), ("origin", "https://warden.example")];
    assert_eq!(status(&policy, Access::Guarded, &head("POST", &page)), 200, "its own page");
    let refused = head("GET", &[("host", "other.example:9888")]);
    let problem = policy.check(tcp([127, 0, 0, 1]), Access::Open, &refused).expect_err("another name");
    assert_eq!(
        problem.detail,
        "the Host header names other.example:9888, and these are served: localhost, loopback addresses, Warden.example, fd00::1"
    );
    assert!(problem.next_step.expect("says what to do").contains("`hosts` in [daemon]"));
}

#[test]
fn a_user_is_asked_for_on_loopback_where_no_token_is() {
    let own = || TcpAccess { user: Some(1000), ..TcpAccess::default() };
    for (reach, access, expected) in [
        (ListenerReach::Loopback, own(), Some(1000)),
        (ListenerReach::Loopback, TcpAccess::default(), None),
        (ListenerReach::Loopback, TcpAccess { user: Some(1000), ..with_token() }, None),
        (ListenerReach::Network, own(), None),
    ] {
        let policy = RequestPolicy::new(reach, None, access);
        assert_eq!(policy.required_user(Access::Guarded), expected, "{policy:?}");
        assert_eq!(policy.required_user(Access::Open), None, "probes and scrapers are anybody's");
    }
}

#[test]
fn another_machine_is_told_from_this_one() {
    let own = IpAddr::from([10, 0, 0, 1]);
    for (peer, expected) in [([127, 0, 0, 1], None), ([10, 0, 0, 1], None), ([10, 0, 0, 2], Some(own))] {
        assert_eq!(tcp(peer).reached_from_afar(), expected, "{peer:?}");
    }
    assert_eq!(Transport::Unix.reached_from_afar(), None);
}

#[test]
fn only_a_page_of_our_own_origin_may_ask() {
    let host = ("host", "localhost:9888");
    for method in ["GET", "POST"] {
        for origin in ["http://localhost:9888", "https://LOCALHOST:9888"] {
            assert_eq!(
                status(&loopback(), Access::Guarded, &head(method, &[host, ("origin", origin)])),
                200,
                "{origin}"
            );
        }
        for origin in [
            "null",
            "http://evil.example",
            "http://localhost:3000",
            "http://localhost",
            "file://localhost:9888",
            "",
            "http://127.0.0.1:9888",
            "http://localhost:9888.evil.example",
        ] {
            assert_eq!(
                status(&loopback(), Access::Guarded, &head(method, &[host, ("origin", origin)])),
                403,
                "{origin}"
            );
        }
    }
}

#[test]
fn a_browser_of_another_site_changes_nothing() {
    let host = ("host", "localhost:9888");
    for (site, expected) in [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403)] {
        let site = ("sec-fetch-site", site);
        assert_eq!(status(&loopback(), Access::Guarded, &head("POST", &[host, site])), expected, "{site:?}");
        assert_eq!(status(&loopback(), Access::Guarded, &head("GET", &[host, site])), 200, "{site:?}: a link");
    }
}

#[test]
fn what_a_form_can_send_changes_nothing() {
    let host = ("host", "localhost:9888");
    let length = ("content-length", "2");
    for (headers, expected) in [
        (vec![host], 200),
        (vec![host, ("content-length", "0")], 200),
        (vec![host, length, ("content-type", "application/json")], 200),
        (vec![host, length, ("content-type", "Application/JSON; charset=utf-8")], 200),
        (vec![host, length], 415),
        (vec![host, ("transfer-encoding", "chunked")], 415),
        (vec![host, ("content-type", "text/plain")], 415),
        (vec![host, length, ("content-type", "text/plain;application/json")], 415),
        (vec![host, length, ("content-type", "application/x-www-form-urlencoded")], 415),
        (vec![host, length, ("content-type", "multipart/form-data; boundary=x")], 415),
        (vec![host, length, ("content-type", "application/jsonx")], 415),
    ] {
        assert_eq!(status(&loopback(), Access::Guarded, &head("POST", &headers)), expected, "{headers:?}");
    }
}

#[test]
fn a_body_announced_as_huge_is_refused_unread() {
    for (length, expected) in [("65536", 200), ("65537", 413), ("18446744073709551615", 413)] {
        let headers = [("host", "localhost"), ("content-type", "application/json"), ("content-length", length)];
        assert_eq!(status(&loopback(), Access::Guarded, &head("POST", &headers)), expected, "{length}");
    }
}

#[test]
fn a_token_guards_all_but_the_open_paths_of_tcp() {
    for reach in [ListenerReach::Loopback, ListenerReach::Network] {
        let policy = RequestPolicy::new(reach, None, with_token());
        let bare = head("GET", &[("host", "localhost")]);
        let wrong = head("GET", &[("host", "localhost"), ("authorization", "Bearer wrong")]);
        let right = head("GET", &[("host", "localhost"), ("authorization", "Bearer s3cret")]);
        assert_eq!(status(&policy, Access::Open, &bare), 200);
        assert_eq!(status(&policy, Access::Guarded, &bare), 401);
        assert_eq!(status(&policy, Access::Guarded, &wrong), 401);
        assert_eq!(status(&policy, Access::Guarded, &right), 200);
        assert_eq!(policy.check(Transport::Unix, Access::Guarded, &bare), Ok(()), "the control socket needs none");
    }
}

#[test]
fn off_loopback_without_a_token_only_the_open_paths_answer() {
    let policy = RequestPolicy::new(ListenerReach::Network, Some("0.0.0.0".to_owned()), TcpAccess::default());
    let request = head("GET", &[("host", "gpu-box:9888"), ("authorization", "Bearer guess")]);
    assert_eq!(status(&policy, Access::Open, &request), 200, "a scraper uses any name");
    let problem = policy.check(tcp([127, 0, 0, 1]), Access::Guarded, &request).expect_err("closed");
    assert_eq!((problem.status, problem.reason.as_str()), (403, "token-not-configured"));
    assert!(problem.next_step.expect("says what to do").contains("token-file"));
}

#[test]
fn no_problem_shows_the_token() {
    let policy = RequestPolicy::new(ListenerReach::Network, None, with_token());
    let problem = policy.check(tcp([127, 0, 0, 1]), Access::Guarded, &head("GET", &[])).expect_err("no token");
    assert!(!format!("{problem:?} {policy:?}").contains("s3cret"));
}
