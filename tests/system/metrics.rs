//! The metrics page: what it has, who may hang without anybody noticing, and the own metrics of servers.

use llama_warden_stand_in::Script;
use llama_warden_tests::{TestRequest, sample, sandbox};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const OFFERS: &str = "flags = { metrics = true }";

fn scrape_ok(page: &str, id: &str, reason: &str) -> Option<f64> {
    sample(page, "llama_warden_server_scrape_ok", &[("server", id), ("reason", reason)])
}

#[test]
fn the_own_metrics_of_servers_are_on_the_page_on_request_alone() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server_with("offers", Script::default(), OFFERS).server("keeps", Script::default());
        fleet.server_with("down", Script::default(), "enabled = false");
        let daemon = sandbox.up(&fleet).await;
        for id in ["offers", "keeps"] {
            daemon.ready(id).await;
        }
        let page = daemon.metrics().await;
        assert!(!page.contains("llamacpp_") && !page.contains("scrape_ok"), "{page}");
        let page = daemon.get("/metrics?servers=1").await.expect(200).text();
        assert_eq!(scrape_ok(&page, "offers", "ok"), Some(1.0), "{page}");
        assert_eq!(scrape_ok(&page, "keeps", "not-offered"), Some(0.0), "{page}");
        assert!(!page.contains("scrape_ok{server=\"down\""), "a server that is not ready is not asked");
        assert_eq!(sample(&page, "llamacpp_prompt_tokens_total", &[("server", "offers")]), Some(0.0));
        assert!(page.contains("# TYPE llamacpp_n_tokens_max gauge\n"), "{page}");
        let problem = daemon.get("/metrics?servers=some").await.expect(400).json();
        assert_eq!(problem["reason"], "bad-query");
    });
}

#[test]
fn the_configuration_may_ask_for_them_and_a_scrape_may_refuse() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[metrics]\nservers = true").server_with("a", Script::default(), OFFERS);
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        assert!(daemon.metrics().await.contains("llamacpp_prompt_tokens_total{server=\"a\"} 0\n"));
        assert!(!daemon.get("/metrics?servers=0").await.expect(200).text().contains("llamacpp_"));
    });
}

#[test]
fn scrapers_that_read_nothing_hold_nobody_up() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server_with("a", Script::default(), OFFERS);
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let mut stalled = Vec::new();
        for number in 0..40 {
            let mut stream = TcpStream::connect(("127.0.0.1", fleet.listen())).await.expect("it listens");
            let request = match number % 2 {
                0 => "GET /metrics?servers=1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
                // It never ends its request either.
                _ => "GET /metrics?servers=1 HTTP/1.1\r\nHost: loc",
            };
            stream.write_all(request.as_bytes()).await.expect("it is taken");
            stalled.push(stream);
        }
        let page = TestRequest::get("/metrics?servers=1").send(daemon.http()).await.expect("an answer").expect(200);
        assert_eq!(scrape_ok(&page.text(), "a", "ok"), Some(1.0));
        daemon.command("a", "restart?wait=50s").await.expect(200);
        drop(stalled);
    });
}
