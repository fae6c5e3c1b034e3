//! The daemons of other machines: shown, never commanded, and one in trouble costs its own row alone.

use std::path::Path;

use llama_warden_api_types::{AllStatusReport, PeerProblem, PeerReport};
use llama_warden_stand_in::Script;
use llama_warden_tests::{Sandbox, TestDaemon, TestFleet, WAIT_LIMIT, eventually, sandbox};
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

fn peer(name: &str, url: &str) -> String {
    format!("[peers.{name}]\nurl = \"{url}\"\n")
}

fn url_of(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// Answers every request with this, for as long as the test runs.
async fn answering(body: &'static str) -> String {
    let (listener, url) = listener().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            // A client that is gone needs no answer.
            let _ = stream.read(&mut request).await;
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

async fn all(hub: &TestDaemon) -> AllStatusReport {
    serde_json::from_value(hub.get("/api/v1/status?all=1").await.expect(200).json()).unwrap()
}

fn named<'a>(report: &'a AllStatusReport, name: &str) -> &'a PeerReport {
    report.peers.iter().find(|peer| peer.name == name).unwrap_or_else(|| panic!("no {name}: {report:?}"))
}

fn reason(report: &AllStatusReport, name: &str) -> Option<PeerProblem> {
    named(report, name).problem.as_ref().map(|problem| problem.reason)
}

/// A daemon with one ready server.
async fn machine(sandbox: &Sandbox, name: &str, id: &str, daemon: &str) -> (TestFleet, TestDaemon) {
    let mut fleet = sandbox.fleet_named(name);
    fleet.daemon(daemon).server_with(id, Script::default(), "flags = { metrics = true }");
    let up = sandbox.up(&fleet).await;
    up.ready(id).await;
    (fleet, up)
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[test]
fn a_machine_in_trouble_costs_its_own_row_alone() {
    sandbox(async |sandbox| {
        let (token, right) = (sandbox.file("token"), sandbox.file("right"));
        write(&right, "s3cret\n");
        write(&token, "wr0ng-t0ken\n");
        let (gpu2, _gpu2) = machine(sandbox, "gpu2", "b", "").await;
        let (locked, _locked) = machine(sandbox, "locked", "c", &format!("token-file = \"{}\"", right.display())).await;
        let (_hanging, hanging_url) = listener().await;
        let mut hub = sandbox.fleet();
        let gone = sandbox.fleet_named("gone");
        let token_file = |path: &Path| format!("token-file = \"{}\"\n", path.display());
        hub.section(&peer("gpu2", &url_of(gpu2.listen())));
        hub.section(&(peer("locked", &url_of(locked.listen())) + &token_file(&token)));
        hub.section(&(peer("keyless", &answering("{}").await) + &token_file(&sandbox.file("missing"))));
        hub.section(&peer("hanging", &hanging_url));
        hub.section(&peer("gone", &url_of(gone.listen())));
        hub.section(&peer("nameless", "http://no-such-host.invalid:1"));
        hub.section(&peer("garbage", &answering("<html>hello</html>").await));
        hub.section(&peer("other", &answering("{\"a\": 1}").await));
        let old = "{\"total_servers\": 1, \"version\": \"0.0.1\", \"servers\": [{\"model_id\": \"x\"}]}";
        hub.section(&peer("old", &answering(old).await));
        hub.section(&peer("self", &url_of(hub.listen())));
        hub.section(&peer("twin", &format!("http://localhost:{}", gpu2.listen())));
        hub.server("a", Script::default());
        let daemon = sandbox.up(&hub).await;
        daemon.ready("a").await;

        let report = all(&daemon).await;
        assert_eq!(report.own.servers.len(), 1);
        let servers = named(&report, "gpu2").status.as_ref().map(|status| status.ready_servers);
        assert_eq!((servers, reason(&report, "gpu2")), (Some(1), None));
        for (name, expected) in [
            ("locked", PeerProblem::Unauthorized),
            ("keyless", PeerProblem::TokenUnusable),
            ("hanging", PeerProblem::TimedOut),
            ("gone", PeerProblem::Unreachable),
            ("garbage", PeerProblem::NotADaemon),
            ("other", PeerProblem::NotADaemon),
            ("old", PeerProblem::OtherVersion),
            ("self", PeerProblem::Itself),
            ("twin", PeerProblem::Duplicate),
        ] {
            assert_eq!(reason(&report, name), Some(expected), "{name}: {:?}", named(&report, name));
            assert!(named(&report, name).status.is_none(), "{name}");
            let problem = named(&report, name).problem.as_ref().unwrap();
            assert!(!problem.detail.is_empty() && !problem.next_step.is_empty(), "{problem:?}");
        }
        // How long a resolver takes for a name that does not exist is its own matter.
        assert!(matches!(reason(&report, "nameless"), Some(PeerProblem::Unreachable | PeerProblem::TimedOut)));
        let text = serde_json::to_string(&report).unwrap();
        assert!(!text.contains("wr0ng-t0ken") && !daemon.log().contains("wr0ng-t0ken"), "a token is shown");
        assert!(named(&report, "old").problem.as_ref().is_some_and(|problem| problem.detail.contains("0.0.1")));

        // The token is read at each question, and since when something is wrong stays.
        write(&token, "s3cret\n");
        eventually("the new token is taken", WAIT_LIMIT, async || reason(&all(&daemon).await, "locked").is_none())
            .await;
        let later = all(&daemon).await;
        let since = |report: &AllStatusReport| named(report, "hanging").problem.as_ref().map(|problem| problem.since);
        assert_eq!(since(&later), since(&report));

        let shown = sandbox.run(daemon.config(), ["status", "--all"]).await.expect(0);
        for expected in
            ["gpu2 (http://127.0.0.1", "hanging (http://127.0.0.1", "timed-out for ", "no answer within 2 s"]
        {
            assert!(shown.stdout.contains(expected), "{expected}:\n{}", shown.stdout);
        }
        let json = sandbox.run(daemon.config(), ["status", "--all", "--json"]).await.expect(0).json();
        assert_eq!(json["peers"].as_array().map(Vec::len), Some(11));
        let one = sandbox.run(daemon.config(), ["status", "--all", "b"]).await.expect(0);
        assert!(one.stdout.contains("gpu2") && !one.stdout.contains("8001/a"), "{}", one.stdout);
        let ran = sandbox.run(daemon.config(), ["status", "--all", "nobody"]).await.expect(2);
        assert!(ran.stderr.contains("nobody"), "{}", ran.stderr);
    });
}

#[test]
fn a_peer_is_asked_for_its_own_servers_and_only_when_somebody_looks() {
    sandbox(async |sandbox| {
        let (third, third_url) = listener().await;
        let mut gpu2 = sandbox.fleet_named("gpu2");
        gpu2.section(&peer("third", &third_url)).server("b", Script::default());
        let mut hub = sandbox.fleet();
        hub.section(&peer("gpu2", &url_of(gpu2.listen()))).server("a", Script::default());
        // Each is a peer of the other: a circle.
        gpu2.section(&peer("hub", &url_of(hub.listen())));
        let (gpu2, daemon) = (sandbox.up(&gpu2).await, sandbox.up(&hub).await);
        daemon.ready("a").await;
        gpu2.ready("b").await;
        let report = all(&daemon).await;
        assert_eq!(named(&report, "gpu2").status.as_ref().map(|status| status.servers.len()), Some(1));
        daemon.get("/api/v1/sd?all=1").await.expect(200);
        daemon.get("/api/v1/peers").await.expect(200);
        let asked = futures_util::FutureExt::now_or_never(third.accept());
        assert!(asked.is_none(), "a peer of a peer was asked");
        let ran = sandbox.run(gpu2.config(), ["status"]).await.expect(0);
        assert!(!ran.stdout.contains("third"), "{}", ran.stdout);
    });
}

#[test]
fn the_targets_of_all_machines_are_named_and_stay_while_one_is_down() {
    sandbox(async |sandbox| {
        let (fleet, gpu2) = machine(sandbox, "gpu2", "b", "").await;
        let mut hub = sandbox.fleet();
        hub.section(&peer("gpu2", &url_of(fleet.listen())));
        hub.server_with("a", Script::default(), "flags = { metrics = true }");
        let daemon = sandbox.up(&hub).await;
        daemon.ready("a").await;
        let targets = async |path: &str| {
            let groups = daemon.get(path).await.expect(200).json();
            let group = |group: &serde_json::Value| format!("{} {}", group["labels"]["peer"], group["targets"][0]);
            groups.as_array().unwrap().iter().map(group).collect::<Vec<_>>()
        };
        let own = format!("null \"127.0.0.1:{}\"", hub.port("a"));
        let of_peer = format!("\"gpu2\" \"127.0.0.1:{}\"", fleet.port("b"));
        assert_eq!(targets("/api/v1/sd").await, [own.clone()]);
        assert_eq!(targets("/api/v1/sd?all=1").await, [own.clone(), of_peer.clone()]);
        assert_eq!(reason(&all(&daemon).await, "gpu2"), None);
        gpu2.signal(Signal::SIGKILL);
        gpu2.exit().await;
        eventually("the daemon is seen to be gone", WAIT_LIMIT, async || {
            reason(&all(&daemon).await, "gpu2") == Some(PeerProblem::Unreachable)
        })
        .await;
        assert!(named(&all(&daemon).await, "gpu2").answered_at.is_some());
        assert_eq!(targets("/api/v1/sd?all=1").await, [own, of_peer]);
        daemon.get("/api/v1/status?al=1").await.expect(400);
    });
}

#[test]
fn a_reload_adds_and_removes_peers() {
    sandbox(async |sandbox| {
        let (fleet, _gpu2) = machine(sandbox, "gpu2", "b", "").await;
        let mut hub = sandbox.fleet();
        hub.server("a", Script::default());
        let daemon = sandbox.up(&hub).await;
        daemon.ready("a").await;
        let ran = sandbox.run(daemon.config(), ["status", "--all"]).await.expect(0);
        assert!(ran.stderr.contains("[peers.NAME]"), "{}", ran.stderr);
        let plain = hub.toml();
        write(&hub.path(), &format!("{plain}\n{}", peer("gpu2", &url_of(fleet.listen()))));
        sandbox.run(daemon.config(), ["reload"]).await.expect(0);
        eventually("the peer is there", WAIT_LIMIT, async || all(&daemon).await.peers.len() == 1).await;
        assert_eq!(reason(&all(&daemon).await, "gpu2"), None);
        write(&hub.path(), &plain);
        sandbox.run(daemon.config(), ["reload"]).await.expect(0);
        eventually("the peer is gone", WAIT_LIMIT, async || all(&daemon).await.peers.is_empty()).await;
    });
}

#[test]
fn check_tells_what_is_wrong_with_peers() {
    sandbox(async |sandbox| {
        let file = sandbox.file("peers.toml");
        write(
            &file,
            "[peers.a]\nurl = \"https://u:secr3t@gpu2\"\n[peers.b]\nurl = \"http://gpu2\"\ntoken-file = \"none\"\n[peers.c]\n",
        );
        let ran = sandbox.run(&file, ["check"]).await.expect(2);
        for expected in ["2:7", "TLS", "ssh -L", "peer `c` has no key `url`"] {
            assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
        }
        write(&file, "[peers.b]\nurl = \"http://gpu2\"\ntoken-file = \"open\"\n");
        write(&sandbox.file("open"), "s3cret\n");
        std::fs::set_permissions(sandbox.file("open"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let ran = sandbox.run(&file, ["check"]).await.expect(0);
        let told = format!("{}{}", ran.stdout, ran.stderr);
        assert!(told.contains("chmod 600") && !told.contains("s3cret"), "{told}");
    });
}
