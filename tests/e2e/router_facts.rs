//! What the router takes for granted of llama-servers, asked of builds of three years. A test that fails names a fact that a new build has
//! changed.

use std::time::{Duration, Instant};

use llama_warden_tests::{
    ExternalProgram, Sandbox, TestDaemon, WAIT_LIMIT, connect, exchange_bytes, external_program, parsed_answer,
    post_bytes, sandbox,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::fleet::{SMALL, add, real_fleet};

const BUILDS: [ExternalProgram; 3] =
    [ExternalProgram::LlamaServer0_3_2, ExternalProgram::LlamaServer0_3_16, ExternalProgram::LlamaServer];

/// How long the router keeps a connection without a request.
const KEPT: Duration = Duration::from_secs(4);

/// Runs a check on the port of a server of each build.
fn of_each_build(check: impl AsyncFn(ExternalProgram, u16)) {
    for build in BUILDS {
        sandbox(async |sandbox| {
            let Some((_daemon, port)) = up(sandbox, build).await else { return };
            check(build, port).await;
        });
    }
}

async fn up(sandbox: &Sandbox, build: ExternalProgram) -> Option<(TestDaemon, u16)> {
    let mut fleet = real_fleet(sandbox, &external_program(build)?);
    fleet.section(SMALL);
    add(&mut fleet, "a", "");
    let daemon = sandbox.up(&fleet).await;
    daemon.ready("a").await;
    Some((daemon, fleet.port("a")))
}

/// Sends a body as a completion; whether there is an answer with something in it, and not an error.
async fn is_answered(port: u16, fields: &str, body: &[u8]) -> bool {
    let answer = exchange_bytes(port, &post_bytes("/completion", fields, body)).await;
    !answer.is_empty() && parsed_answer(&answer).0 == 200 && parsed_answer(&answer).1["content"].is_string()
}

#[test]
fn every_build_reads_the_bodies_that_the_router_passes_on() {
    of_each_build(async |build, port| {
        for (case, fields, body) in [
            ("plain", "", br#"{"prompt":"x","n_predict":1}"#.as_slice()),
            ("a byte order mark", "", b"\xef\xbb\xbf {\"prompt\":\"x\",\"n_predict\":1}"),
            (
                "the content type of a form",
                "Content-Type: application/x-www-form-urlencoded\r\n",
                br#"{"prompt":"x","n_predict":1}"#,
            ),
            ("blanks around it", "", b"\n{\"prompt\":\"x\",\"n_predict\":1} \r\n\t"),
            ("a NUL behind it", "", b"{\"prompt\":\"x\",\"n_predict\":1}\0"),
            ("a member twice", "", br#"{"prompt":"x","prompt":"y","n_predict":1}"#),
            ("escapes", "", br#"{"pro\u006dpt":"\ud83d\ude00","n_predict":1}"#),
        ] {
            assert!(is_answered(port, fields, body).await, "{build:?}: {case}");
        }
    });
}

/// The last one ends builds of 2024, and those of 2025 answer 200 and nothing.
#[test]
fn no_build_answers_the_bodies_that_the_router_refuses() {
    of_each_build(async |build, port| {
        for (case, body) in [
            ("no end", br#"{"prompt":"x","n_predict":1"#.as_slice()),
            ("something behind the end", br#"{"prompt":"x","n_predict":1}{}"#),
            ("a comma too many", br#"{"prompt":"x","n_predict":1,}"#),
            ("a bracket that is none of its own", br#"{"prompt":"x","n_predict":1,"x":[}}"#),
            ("a word that is none", br#"{"prompt":"x","n_predict":1,"x":True}"#),
            ("a line's end in a string", b"{\"prompt\":\"x\ny\",\"n_predict\":1}"),
            ("half a pair", br#"{"prompt":"\ud83d","n_predict":1}"#),
            ("nothing", b""),
            ("bad UTF-8", b"{\"prompt\":\"\xff\",\"n_predict\":1}"),
        ] {
            assert!(!is_answered(port, "", body).await, "{build:?}: {case}");
        }
    });
}

/// Builds of 2024 take five requests on a connection, later ones a hundred; and the router uses none that was idle for longer than it
/// keeps them.
#[test]
fn every_build_says_which_answer_is_the_last_of_a_connection_and_keeps_an_idle_one_long_enough() {
    of_each_build(async |build, port| {
        let mut stream = connect(port).await;
        let mut asked = 0;
        while asked < 200 {
            asked += 1;
            match look(&mut stream).await {
                Some(ConnectionFate::Stays) => {}
                Some(ConnectionFate::Closes) => break,
                None => panic!("{build:?}: closed without a word before request {asked}"),
            }
        }
        assert!(asked >= 5, "{build:?}: {asked} requests");
        let mut stream = connect(port).await;
        let asked = Instant::now();
        assert_eq!(look(&mut stream).await, Some(ConnectionFate::Stays), "{build:?}");
        let end = timeout(WAIT_LIMIT, stream.read(&mut [0; 1])).await.expect("it is closed in the end");
        assert!(matches!(end, Ok(0) | Err(_)) && asked.elapsed() > KEPT, "{build:?}: after {:?}", asked.elapsed());
    });
}

/// What a server says of the connection in an answer of health.
#[derive(Debug, PartialEq, Eq)]
enum ConnectionFate {
    Stays,
    Closes,
}

/// Asks for the health of a server on a connection that is kept; `None` without an answer.
async fn look(stream: &mut TcpStream) -> Option<ConnectionFate> {
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.ok()?;
    let mut answer = Vec::new();
    let answered = async {
        loop {
            let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                if length.is_some_and(|length: usize| body.len() >= length) {
                    let closes = head.contains("connection: close");
                    return Some(if closes { ConnectionFate::Closes } else { ConnectionFate::Stays });
                }
            }
            if stream.read_buf(&mut answer).await.unwrap_or_default() == 0 {
                return None;
            }
        }
    };
    timeout(WAIT_LIMIT, answered).await.expect("the answer ends")
}
