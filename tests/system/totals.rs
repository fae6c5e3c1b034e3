//! Counters of servers go on when another daemon goes on with the servers.

use std::collections::BTreeMap;

use llama_warden_stand_in::{Script, ScriptAction, ScriptPhase, Stream};
use llama_warden_tests::{
    DaemonOptions, Endpoint, Sandbox, TestDaemon, TestFleet, TestRequest, WAIT_LIMIT, action_at, after_ready,
    eventually, sample, sandbox,
};
use nix::sys::signal::Signal;

/// A server with requests, and one that a person will stop.
fn fleet(sandbox: &Sandbox) -> TestFleet {
    let mut fleet = sandbox.fleet();
    fleet.daemon("on-daemon-death = \"adopt\"").server("a", Script::default()).server("stopped", Script::default());
    fleet
}

/// Has the server `a` generate `tokens` tokens.
async fn generate(fleet: &TestFleet, tokens: u32) {
    let body = format!("{{\"prompt\": \"once upon a time\", \"max_tokens\": {tokens}}}");
    let request = TestRequest::post("/v1/completions").header("content-type", "application/json").body(body);
    request.send(&Endpoint::Tcp(fleet.port("a"))).await.expect("an answer").expect(200);
}

/// Every counter of every server, by its series.
fn counters(metrics: &str) -> BTreeMap<String, f64> {
    let is_counter = |series: &str| {
        let name = series.split('{').next().unwrap_or_default();
        series.contains("server=\"") && ["_total", "_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end))
    };
    let samples = metrics.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    let counters = samples.filter(|(series, _)| is_counter(series) && !series.contains("_scrape"));
    counters.map(|(series, value)| (series.to_owned(), value.parse().expect("a number"))).collect()
}

/// Waits until the server `a` has `requests` requests, and nothing is on its way.
async fn counted(daemon: &TestDaemon, requests: f64) -> BTreeMap<String, f64> {
    let mut metrics = String::new();
    eventually("every request is counted", WAIT_LIMIT, async || {
        metrics = daemon.metrics().await;
        let of_a = |name| sample(&metrics, name, &[("server", "a")]);
        of_a("llama_warden_requests_total") == Some(requests) && of_a("llama_warden_server_slots_busy") == Some(0.0)
    })
    .await;
    counters(&metrics)
}

fn assert_goes_on(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) {
    for (series, value) in before {
        let went_on = after.get(series);
        assert!(went_on.is_some_and(|later| later >= value), "{series}: {value} before, {went_on:?} after");
    }
}

/// No counter of a daemon that starts is seen below what the one before has shown.
async fn assert_never_back(daemon: &TestDaemon, before: &BTreeMap<String, f64>) {
    eventually("the server is taken over", WAIT_LIMIT, async || {
        let metrics = daemon.metrics().await;
        for (series, value) in counters(&metrics) {
            let earlier = before.get(&series).copied().unwrap_or_default();
            assert!(value >= earlier, "{series}: {earlier} before, {value} now");
        }
        sample(&metrics, "llama_warden_server_ready", &[("server", "a")]) == Some(1.0)
    })
    .await;
}

#[test]
fn no_counter_of_a_server_goes_back_through_a_take_over_or_a_killed_daemon() {
    sandbox(async |sandbox| {
        let fleet = fleet(sandbox);
        let first = sandbox.up(&fleet).await;
        first.ready("a").await;
        first.ready("stopped").await;
        first.command("stopped", "stop?wait=30s").await.expect(200);
        first.command("a", "restart?wait=50s").await.expect(200);
        for tokens in [3, 8, 5] {
            generate(&fleet, tokens).await;
        }
        let before = counted(&first, 3.0).await;
        let of = |counters: &BTreeMap<String, f64>, series: &str| counters.get(series).copied();
        assert_eq!(of(&before, "llama_warden_request_decode_tokens_total{server=\"a\"}"), Some(16.0));

        let options = DaemonOptions { arguments: vec!["--take-over".to_owned()], ..DaemonOptions::default() };
        let second = sandbox.launch(&fleet, &options);
        assert_eq!(first.exit_code().await, 0, "{}", first.log());
        second.answering().await;
        assert_never_back(&second, &before).await;
        let taken_over = counted(&second, 3.0).await;
        assert_goes_on(&before, &taken_over);
        assert!(!fleet.state_dir().join("totals.json").exists(), "what is counted from now on is not in it");
        let launches = "llama_warden_server_launches_total{server=\"a\"}";
        assert_eq!((of(&before, launches), of(&taken_over, launches)), (Some(2.0), Some(3.0)));
        let lines = "llama_warden_server_output_lines_total{server=\"a\",stream=\"stderr\"}";
        assert_eq!(of(&before, lines), of(&taken_over, lines), "no line was written, and none is counted twice");

        // While no daemon is there, the shim of the server has its lines.
        generate(&fleet, 4).await;
        let shown = counted(&second, 4.0).await;
        second.signal(Signal::SIGKILL);
        second.exit().await;
        generate(&fleet, 6).await;
        let third = sandbox.launch(&fleet, &DaemonOptions::default());
        third.answering().await;
        assert_never_back(&third, &shown).await;
        let after = counted(&third, 5.0).await;
        let of_a = |series: &&String| series.contains("server=\"a\"");
        let shown_of_a =
            shown.iter().filter(|(series, _)| of_a(series)).map(|(series, value)| (series.clone(), *value));
        assert_goes_on(&shown_of_a.collect(), &after);
        assert_eq!(of(&after, "llama_warden_request_decode_tokens_total{server=\"a\"}"), Some(26.0));
        assert_eq!(of(&after, "llama_warden_request_decode_seconds_count{server=\"a\"}"), Some(5.0));

        // A daemon that ends in order leaves no counts.
        third.signal(Signal::SIGTERM);
        assert_eq!(third.exit_code().await, 0, "{}", third.log());
        let fourth = sandbox.up(&fleet).await;
        fourth.ready("a").await;
        assert_eq!(of(&counters(&fourth.metrics().await), launches), Some(1.0));
    });
}

#[test]
fn a_server_that_is_restarted_after_a_take_over_keeps_its_counters_and_has_no_busy_slots() {
    sandbox(async |sandbox| {
        let mut fleet = fleet(sandbox);
        let first = sandbox.up(&fleet).await;
        first.ready("a").await;
        generate(&fleet, 7).await;
        let before = counted(&first, 1.0).await;
        first.signal(Signal::SIGKILL);
        first.exit().await;
        fleet.change("a", "flags = { ctx-size = 4096 }");
        let next = sandbox.up(&fleet).await;
        next.ready("a").await;
        assert_eq!(next.count("a", "ServerAdopted").await, 0);
        let of_a = before.into_iter().filter(|(series, _)| series.contains("server=\"a\"")).collect();
        assert_goes_on(&of_a, &counted(&next, 1.0).await);
    });
}

/// Fault S2.
#[test]
fn lines_that_are_lost_while_no_daemon_is_there_are_counted() {
    /// Of a flood of a megabyte, in lines of a hundred bytes, and those of it that a shim keeps and the pipe holds.
    const FLOOD: f64 = 10_485.0;
    const KEPT: f64 = 2.0 * 656.0;
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.daemon("on-daemon-death = \"adopt\"");
        let written = sandbox.file("written");
        let flood = ScriptAction::Flood { megabytes: 1, stream: Stream::Stdout };
        let end = action_at(ScriptPhase::Ready, ScriptAction::Dump { path: written.clone() });
        fleet.server("a", Script { actions: vec![after_ready(flood), end], ..Script::default() });
        let first = sandbox.up(&fleet).await;
        first.ready("a").await;
        first.signal(Signal::SIGKILL);
        first.exit().await;
        assert!(!written.exists(), "the flood has not begun");
        eventually("the flood is over", WAIT_LIMIT, async || written.exists()).await;
        let next = sandbox.up(&fleet).await;
        next.ready("a").await;
        let of = |metrics: &str, name| sample(metrics, name, &[("server", "a"), ("stream", "stdout")]);
        let mut metrics = String::new();
        eventually("every line is counted", WAIT_LIMIT, async || {
            metrics = next.metrics().await;
            of(&metrics, "llama_warden_server_output_lines_total").is_some_and(|lines| lines >= FLOOD)
        })
        .await;
        let lost = of(&metrics, "llama_warden_server_output_dropped_lines_total").expect("it is shown");
        assert!((FLOOD - KEPT..FLOOD).contains(&lost), "{lost}");
        assert!(next.log().contains("output was lost while no daemon was there"), "{}", next.log());
    });
}
