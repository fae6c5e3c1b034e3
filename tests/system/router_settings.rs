//! What the keys of `[router]`, and of the `router` table of a server, change for a request.

use llama_warden_stand_in::{BodyDigest, Script};
use llama_warden_tests::{
    RoutedDaemon, Sandbox, TestRequest, TestResponse, error_word, exchange_bytes, parsed_answer, post_bytes, sandbox,
};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn chat(body: impl Into<String>) -> TestRequest {
    TestRequest::post(CHAT).header("content-type", "application/json").body(body.into())
}

/// Status, and the code of the error.
fn outcome(answer: &TestResponse) -> (u16, String) {
    (answer.status.as_u16(), error_word(&answer.json()).to_owned())
}

async fn with_one(sandbox: &Sandbox, keys: &str) -> RoutedDaemon {
    RoutedDaemon::up(sandbox, keys, &[("a", Script::default(), "enabled = false")]).await
}

#[test]
fn every_name_of_a_server_means_it_and_its_body_is_changed_as_the_file_says() {
    sandbox(async |sandbox| {
        let digests = Script { digest_bodies: true, ..Script::default() };
        let own = "router = { aliases = ['gpt-4o-mini', 'org/name:tag'], strip = ['top_p', 'min_p'], \
                   set = { temperature = 0.7 }, variants = { 'a:high' = { effort = 'high' } }, metadata = { n = 1 } }";
        let servers = [("a", digests.clone(), own), ("b", digests, "router = { hidden = true }")];
        let routed = RoutedDaemon::up(sandbox, "default-model = 'a'", &servers).await;
        let long = "x".repeat(17 << 20);
        for (sent, received) in [
            (r#"{"model":"a"}"#.to_owned(), r#"{"model":"a","temperature":0.7}"#.to_owned()),
            (r#"{"model":"A:latest"}"#.to_owned(), r#"{"model":"A:latest","temperature":0.7}"#.to_owned()),
            (r#"{ "model": "gpt-4o-mini" }"#.to_owned(), r#"{ "model": "gpt-4o-mini","temperature":0.7}"#.to_owned()),
            (
                r#"{"top_p":1,"model":"org/name:tag","n":1}"#.to_owned(),
                r#"{"model":"org/name:tag","n":1,"temperature":0.7}"#.to_owned(),
            ),
            (
                r#"{"model":"a:high","temperature":2,"effort":"low"}"#.to_owned(),
                r#"{"model":"a:high","effort":"high","temperature":0.7}"#.to_owned(),
            ),
            (r#"{"n":1}"#.to_owned(), r#"{"n":1,"temperature":0.7}"#.to_owned()),
            (
                format!(r#"{{"model":"a","prompt":"{long}","top_p":1,"n":1}}"#),
                format!(r#"{{"model":"a","prompt":"{long}","n":1,"temperature":0.7}}"#),
            ),
            (r#"{"model":"b","top_p":1}"#.to_owned(), r#"{"model":"b","top_p":1}"#.to_owned()),
        ] {
            let case = sent[..sent.len().min(60)].to_owned();
            let answer = routed.send(chat(sent)).await.expect(200).json();
            assert_eq!(answer, json!({ "body_digest": BodyDigest::of(received.as_bytes()).finish() }), "{case}");
        }
        let models = routed.send(TestRequest::get("/v1/models")).await.expect(200).json();
        let models = models["data"].as_array().expect("a list");
        let told = models.iter().map(|model| (&model["id"], &model["metadata"])).collect::<Vec<_>>();
        assert_eq!(told, [(&Value::from("a"), &json!({ "n": 1 }))]);
    });
}

#[test]
fn a_page_of_an_allowed_origin_may_ask_and_read_the_answer_and_others_may_not() {
    sandbox(async |sandbox| {
        let origin = "https://app.example";
        let routed = with_one(sandbox, &format!("cors-origins = ['{origin}']")).await;
        let preflight = TestRequest::options(CHAT).header("origin", origin);
        let preflight = preflight.header("access-control-request-headers", "authorization,content-type");
        let allowed = routed.send(preflight).await.expect(204);
        let header = |answer: &TestResponse, name: &str| {
            let values = answer.headers.get_all(name).iter().map(|value| value.to_str().expect("ASCII").to_owned());
            values.collect::<Vec<_>>()
        };
        assert_eq!(header(&allowed, "access-control-allow-origin"), [origin]);
        assert_eq!(header(&allowed, "access-control-allow-headers"), ["authorization,content-type"]);
        let answer = routed.send(chat(r#"{"model":"a","messages":[]}"#).header("origin", origin)).await.expect(200);
        assert_eq!(header(&answer, "access-control-allow-origin"), [origin]);
        assert!(header(&answer, "access-control-allow-credentials").is_empty());
        let refused = routed.send(chat(r#"{"model":"c"}"#).header("origin", origin)).await.expect(404);
        assert_eq!(header(&refused, "access-control-allow-origin"), [origin], "the page reads why");
        let foreign = routed.send(chat(r#"{"model":"a"}"#).header("origin", "https://app.example.evil")).await;
        assert_eq!(outcome(&foreign), (403, "foreign_origin".to_owned()));
        assert!(header(&foreign, "access-control-allow-origin").is_empty());
    });
}

#[test]
fn an_address_that_other_machines_reach_answers_nobody_without_keys_unless_it_is_open() {
    for (keys, expected) in [("", 403), ("open = true", 200)] {
        sandbox(async |sandbox| {
            let servers = [("a", Script::default(), "enabled = false")];
            let routed = RoutedDaemon::up_at(sandbox, "0.0.0.0", keys, &servers).await;
            routed.send(TestRequest::get("/health")).await.expect(200);
            let answer = routed.send(chat(r#"{"model":"a","messages":[]}"#)).await.expect(expected);
            let twice =
                exchange_bytes(routed.port(), &post_bytes(CHAT, "Host: elsewhere\r\n", r#"{"model":"a"}"#)).await;
            let (status, body) = parsed_answer(&twice);
            assert_eq!((status, error_word(&body)), (400, "repeated_host"), "whichever host a proxy goes by: {twice}");
            if expected == 403 {
                assert_eq!(outcome(&answer).1, "keys_missing");
                routed.send(TestRequest::get("/v1/models")).await.expect(403);
                assert_eq!(routed.daemon.count("a", "LaunchBegan").await, 0);
            }
        });
    }
}

#[test]
fn requests_start_nothing_where_the_file_says_so_and_use_what_runs() {
    sandbox(async |sandbox| {
        let routed = with_one(sandbox, "on-demand = false").await;
        let refused = routed.send(chat(r#"{"model":"a","messages":[]}"#)).await;
        assert_eq!(outcome(&refused), (503, "server_not_ready".to_owned()));
        assert!(refused.text().contains("`llama-warden start a` does"), "{}", refused.text());
        assert_eq!(refused.headers["x-should-retry"], "false");
        let refused = routed.send(TestRequest::post("/models/load").body(r#"{"model":"a"}"#)).await;
        assert_eq!(refused.status.as_u16(), 503);
        assert_eq!(routed.daemon.count("a", "LaunchBegan").await, 0);
        routed.daemon.command("a", "start?wait=30s").await.expect(200);
        routed.send(chat(r#"{"model":"a","messages":[]}"#)).await.expect(200);
    });
}

#[test]
fn an_answer_says_which_server_it_is_from_and_how_long_its_request_waited_for_what() {
    sandbox(async |sandbox| {
        let routed = with_one(sandbox, "").await;
        let ask = || chat(r#"{"model":"a","messages":[]}"#).header("x-request-id", "mine");
        let [cold, warm] = [routed.send(ask()).await.expect(200), routed.send(ask()).await.expect(200)];
        for answer in [&cold, &warm] {
            assert_eq!(answer.headers["x-request-id"], "mine");
            assert_eq!(answer.headers["x-llama-warden-server"], "a");
        }
        let timing = |answer: &TestResponse| answer.headers["server-timing"].to_str().expect("ASCII").to_owned();
        assert!(timing(&cold).starts_with("queue;dur=") && timing(&cold).contains(", load;dur="), "{}", timing(&cold));
        assert!(timing(&warm).starts_with("queue;dur=") && !timing(&warm).contains("load"), "{}", timing(&warm));
    });
}
