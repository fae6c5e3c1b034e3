//! The own metrics of servers: who is asked what, and what the page makes of the answers.

#![expect(clippy::expect_used, reason = "a panic is how a test fails")]

mod fixture;

use std::time::Duration;

use llama_warden_component_kit::PATIENCE;
use llama_warden_metrics::{Exporter, OwnAnswers, ScrapeOutcome};
use tokio::time::Instant;

use fixture::{ScrapeFixture, ScrapeReaction, ScrapedServer, ServerPlan, says};

/// Longer than any answer here takes, on a busy machine too.
const LONG: Duration = Duration::from_secs(15);

const METRICS: &str = "# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.\n\
    # TYPE llamacpp:prompt_tokens_total counter\nllamacpp:prompt_tokens_total 6\n\
    # HELP llamacpp:n_tokens_max Largest observed n_tokens.\n# TYPE llamacpp:n_tokens_max counter\nllamacpp:n_tokens_max 14\n\
    # HELP llamacpp:requests_processing Number of requests processing.\n# TYPE llamacpp:requests_processing gauge\n\
    llamacpp:requests_processing 0\n";

fn page(fixture: &ScrapeFixture, accept: Option<&str>, own: &OwnAnswers) -> String {
    let exporter = Exporter::new(fixture.bus.bus().clone(), fixture.bus.lane().clone(), "1").expect("valid families");
    exporter.render(accept, Some(own)).body
}

fn lines<'a>(page: &'a str, start: &str) -> Vec<&'a str> {
    page.lines().filter(|line| line.starts_with(start)).collect()
}

#[tokio::test]
async fn the_families_of_all_servers_have_one_head_and_a_label_each() {
    let one = ScrapedServer::with_metrics(METRICS).await;
    // Another build: another type and another help text.
    let other = METRICS.replace("n_tokens_max counter", "n_tokens_max histogram").replace("Largest", "Most");
    let two = ScrapedServer::with_metrics(&other).await;
    let fixture = ScrapeFixture::ready(&[("a", &one, ServerPlan::default()), ("b", &two, ServerPlan::default())]).await;
    let own = fixture.scraper.ask(LONG).await;
    for accept in [None, Some("application/openmetrics-text")] {
        let page = page(&fixture, accept, &own);
        assert_eq!(
            lines(&page, "llamacpp_n_tokens_max"),
            ["llamacpp_n_tokens_max{server=\"a\"} 14", "llamacpp_n_tokens_max{server=\"b\"} 14"]
        );
        assert_eq!(lines(&page, "# TYPE llamacpp_n_tokens_max"), ["# TYPE llamacpp_n_tokens_max gauge"]);
        assert_eq!(lines(&page, "# HELP llamacpp_n_tokens_max").len(), 1);
        assert_eq!(lines(&page, "llamacpp_prompt_tokens_total{server=\"b\"}").len(), 1);
        let ok = ["a", "b"].map(|id| format!("llama_warden_server_scrape_ok{{server=\"{id}\",reason=\"ok\"}} 1"));
        assert_eq!(lines(&page, "llama_warden_server_scrape_ok"), ok);
    }
    let text = page(&fixture, None, &own);
    assert_eq!(lines(&text, "# TYPE llamacpp_prompt_tokens"), ["# TYPE llamacpp_prompt_tokens_total counter"]);
    let open_metrics = page(&fixture, Some("application/openmetrics-text"), &own);
    assert_eq!(lines(&open_metrics, "# TYPE llamacpp_prompt_tokens"), ["# TYPE llamacpp_prompt_tokens counter"]);
}

#[tokio::test]
async fn a_server_that_sleeps_or_might_be_woken_is_asked_for_nothing_but_props() {
    let asleep = r#"{"is_sleeping":true}"#;
    let awake = r#"{"is_sleeping":false}"#;
    let sleeps = || vec!["--metrics", "--sleep-idle-seconds", "60"];
    let in_env = "env = { LLAMA_ARG_SLEEP_IDLE_SECONDS = \"60\" }".to_owned();
    let plan = |arguments, version, keys: &str| ServerPlan { arguments, version, keys: keys.to_owned() };
    let cases = [
        // Props say it, whatever the command line says.
        (asleep, plan(vec![], Some("b11434"), ""), "asleep"),
        (asleep, plan(sleeps(), Some("b9760"), ""), "asleep"),
        // This build would be kept awake by every scrape.
        (awake, plan(sleeps(), Some("b9760"), ""), "might-wake"),
        (awake, plan(sleeps(), None, ""), "might-wake"),
        (awake, plan(vec![], Some("b9760"), &in_env), "might-wake"),
        (awake, plan(vec!["--sleep_idle_seconds=9"], Some("b9760"), ""), "might-wake"),
        // It does not say whether it sleeps.
        ("{}", plan(sleeps(), Some("b11434"), ""), "might-wake"),
        ("no JSON", plan(sleeps(), Some("b11434"), ""), "might-wake"),
        // It disturbs nobody to ask these.
        (awake, plan(vec!["--sleep-idle-seconds", "-1"], Some("b9760"), ""), "ok"),
        ("{}", plan(vec![], Some("b9760"), ""), "ok"),
        ("no JSON", plan(vec![], None, ""), "ok"),
    ];
    for (props, plan, expected) in cases {
        let what = format!("{props} {plan:?}");
        let fake = ScrapedServer::start(&[("/props", says(props)), ("/metrics", says(METRICS))]).await;
        let fixture = ScrapeFixture::ready(&[("a", &fake, plan)]).await;
        let own = fixture.scraper.ask(LONG).await;
        assert_eq!(own.outcome("a").map(ScrapeOutcome::as_str), Some(expected), "{what}");
        let asked = fake.asked();
        let paths: Vec<_> = asked.iter().map(|head| head.trim()).collect();
        let expected_paths: &[&str] = if expected == "ok" { &["/props", "/metrics", "/slots"] } else { &["/props"] };
        assert_eq!(paths, expected_paths, "{what}");
        let page = page(&fixture, None, &own);
        let count = format!("llama_warden_server_scrapes_total{{server=\"a\",reason=\"{expected}\"}} 1");
        assert_eq!(lines(&page, "llama_warden_server_scrapes_total"), [count]);
    }
}

#[tokio::test]
async fn the_cache_of_a_server_that_may_sleep_is_looked_at_only_while_it_computes() {
    let slots = r#"[{"n_ctx":100,"n_prompt_tokens":25},{"n_ctx":100}]"#;
    for (processing, expected) in [(0, None), (1, Some("llama_warden_server_kv_used_ratio{server=\"a\"} 0.125"))] {
        let metrics = format!("llamacpp:requests_processing {processing}\n");
        let fake = ScrapedServer::start(&[
            ("/props", says(r#"{"is_sleeping":false}"#)),
            ("/metrics", says(&metrics)),
            ("/slots", says(slots)),
        ])
        .await;
        let arguments = vec!["--sleep-idle-seconds", "60"];
        let plan = ServerPlan { arguments, version: Some("b11434"), ..ServerPlan::default() };
        let fixture = ScrapeFixture::ready(&[("a", &fake, plan)]).await;
        let own = fixture.scraper.ask(LONG).await;
        let page = page(&fixture, None, &own);
        assert_eq!(lines(&page, "llama_warden_server_kv_used_ratio"), Vec::from_iter(expected));
        assert_eq!(fake.asked().iter().any(|head| head.starts_with("/slots")), expected.is_some());
    }
}

#[tokio::test]
async fn a_server_is_asked_with_its_own_key() {
    let fake = ScrapedServer::with_metrics(METRICS).await;
    let keys = "flags = { api-key = \"sk-1,sk-2\" }".to_owned();
    let fixture = ScrapeFixture::ready(&[("a", &fake, ServerPlan { keys, ..ServerPlan::default() })]).await;
    fixture.scraper.ask(LONG).await;
    assert!(fake.asked().iter().all(|head| head.ends_with(" bearer sk-1")), "{:?}", fake.asked());
    assert_eq!(fake.asked().len(), 3);
}

#[tokio::test]
async fn what_is_no_metrics_is_counted_and_disturbs_no_other_server() {
    let awake = ("/props", says(r#"{"is_sleeping":false}"#));
    let huge = "llamacpp:a{x=\"1\"} 1\n".repeat(5000);
    let cases = [
        ("endless", "too-large", ScrapeReaction::Endless),
        ("huge", "too-large", says(&huge)),
        ("html", "not-metrics", says("<html>\n<body>hello</body>\n</html>")),
        ("empty", "not-metrics", says("")),
        ("off", "not-offered", ScrapeReaction::Say(501, "{}".into())),
        ("key", "unauthorized", ScrapeReaction::Say(401, "{}".into())),
        ("broken", "bad-status", ScrapeReaction::Say(500, "{}".into())),
        ("router", "bad-status", ScrapeReaction::Say(400, "{}".into())),
        ("inf", "ok", says("llamacpp:a inf\nllamacpp:b 1\n")),
        ("good", "ok", says(METRICS)),
    ];
    let mut fakes = Vec::new();
    for (_, _, reaction) in &cases {
        fakes.push(ScrapedServer::start(&[awake.clone(), ("/metrics", reaction.clone())]).await);
    }
    let servers: Vec<_> = cases.iter().zip(&fakes).map(|((id, ..), fake)| (*id, fake, ServerPlan::default())).collect();
    let fixture = ScrapeFixture::ready(&servers).await;
    let own = fixture.scraper.ask(LONG).await;
    for (id, expected, _) in &cases {
        assert_eq!(own.outcome(id).map(ScrapeOutcome::as_str), Some(*expected), "{id}");
    }
    let page = page(&fixture, None, &own);
    assert_eq!(lines(&page, "llamacpp_n_tokens_max"), ["llamacpp_n_tokens_max{server=\"good\"} 14"]);
    assert_eq!(lines(&page, "llamacpp_b"), ["llamacpp_b{server=\"inf\"} 1"]);
    assert!(lines(&page, "llamacpp_a").is_empty());
    let dropped = "llama_warden_server_scrape_dropped_samples_total{server=\"inf\"} 1";
    assert_eq!(lines(&page, "llama_warden_server_scrape_dropped_samples_total{server=\"inf\"}"), [dropped]);
    assert_eq!(lines(&page, "llama_warden_server_scrape_ok{server=\"endless\",reason=\"too-large\"} 0").len(), 1);
}

#[tokio::test]
async fn five_of_fifty_servers_that_hang_hold_nobody_up() {
    let mut fakes = Vec::new();
    for number in 0..50 {
        let fake = match number % 10 {
            0 => ScrapedServer::start(&[("/props", ScrapeReaction::Hang)]).await,
            _ => ScrapedServer::with_metrics(METRICS).await,
        };
        fakes.push((format!("s{number}"), fake));
    }
    let servers: Vec<_> = fakes.iter().map(|(id, fake)| (id.as_str(), fake, ServerPlan::default())).collect();
    let fixture = ScrapeFixture::ready(&servers).await;
    let deadline = Duration::from_secs(3);
    let began = Instant::now();
    let own = fixture.scraper.ask(deadline).await;
    assert!(began.elapsed() < deadline + PATIENCE, "{:?}", began.elapsed());
    for (number, (id, _)) in fakes.iter().enumerate() {
        let expected = if number % 10 == 0 { ScrapeOutcome::TimedOut } else { ScrapeOutcome::Ok };
        assert_eq!(own.outcome(id), Some(expected), "{id}");
    }
}

#[tokio::test]
async fn scrapes_at_the_same_time_ask_a_server_once() {
    let fake = ScrapedServer::with_metrics(METRICS).await;
    let fixture = ScrapeFixture::ready(&[("a", &fake, ServerPlan::default())]).await;
    let ask = || fixture.scraper.ask(LONG);
    let answers = tokio::join!(ask(), ask(), ask());
    for own in [answers.0, answers.1, answers.2] {
        assert_eq!(own.outcome("a"), Some(ScrapeOutcome::Ok));
    }
    assert_eq!(fake.asked().len(), 3, "{:?}", fake.asked());
}

#[tokio::test]
async fn a_scraper_with_less_patience_gets_what_has_come_by_then() {
    let hanging = ScrapedServer::start(&[("/props", ScrapeReaction::Hang)]).await;
    let good = ScrapedServer::with_metrics(METRICS).await;
    let fixture =
        ScrapeFixture::ready(&[("good", &good, ServerPlan::default()), ("hanging", &hanging, ServerPlan::default())])
            .await;
    let first = fixture.scraper.clone();
    let first_answer = tokio::spawn(async move { first.ask(Duration::from_secs(3600)).await });
    while good.asked().len() < 3 {
        tokio::task::yield_now().await;
    }
    let own = fixture.scraper.ask(Duration::from_millis(800)).await;
    assert_eq!(own.outcome("good"), Some(ScrapeOutcome::Ok));
    assert_eq!(own.outcome("hanging"), Some(ScrapeOutcome::TimedOut));
    assert!(!first_answer.is_finished());
    first_answer.abort();
}
