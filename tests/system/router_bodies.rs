//! Long bodies of requests: they pass through the router byte for byte, and its memory stays bounded.

use futures_util::future::join_all;
use llama_warden_stand_in::{BodyDigest, Script};
use llama_warden_tests::{
    RoutedDaemon, WAIT_LIMIT, connect, error_word, eventually, exchange_bytes, parsed_answer, post_bytes, post_head,
    read_answer, sandbox,
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

const CHAT: &str = "/v1/chat/completions";
const MIB: u64 = 1 << 20;

/// A text of many bytes, made while it is sent.
struct LongBody {
    head: &'static str,
    /// Blocks of one MiB between head and tail.
    blocks: u64,
    tail: &'static str,
}

/// The model is known at once.
const MODEL_FIRST: LongBody = LongBody { head: r#"{"model":"a","prompt":""#, blocks: 99, tail: r#""}"# };

/// The model is known at the end.
const MODEL_LAST: LongBody = LongBody { head: r#"{"prompt":""#, blocks: 20, tail: r#"","model":"a"}"# };

const FORM: LongBody = LongBody {
    head: "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n",
    blocks: 20,
    tail: "\r\n--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\na\r\n--x--\r\n",
};

impl LongBody {
    fn length(&self) -> u64 {
        (self.head.len() + self.tail.len()) as u64 + self.blocks * MIB
    }

    fn chunks(&self) -> impl Iterator<Item = Vec<u8>> {
        // No two blocks are the same.
        let blocks = (0..self.blocks).map(|number| {
            let mut block = format!("{number:08}").into_bytes();
            block.resize(1 << 20, b'x');
            block
        });
        [self.head.into()].into_iter().chain(blocks).chain([self.tail.into()])
    }

    fn digest(&self) -> Value {
        let mut digest = BodyDigest::default();
        self.chunks().for_each(|chunk| digest.feed(&chunk));
        json!({ "body_digest": digest.finish() })
    }

    /// Sends it with its length, or in chunks without one.
    async fn send(&self, port: u16, fields: &str, in_chunks: bool) -> String {
        let mut stream = connect(port).await;
        let framing = match in_chunks {
            true => "Transfer-Encoding: chunked\r\n".to_owned(),
            false => format!("Content-Length: {}\r\n", self.length()),
        };
        stream.write_all(post_head(CHAT, &format!("{fields}{framing}")).as_bytes()).await.unwrap();
        for chunk in self.chunks() {
            let framed = match in_chunks {
                true => [format!("{:x}\r\n", chunk.len()).as_bytes(), &chunk, b"\r\n"].concat(),
                false => chunk,
            };
            // Refused before its end.
            if stream.write_all(&framed).await.is_err() {
                return read_answer(&mut stream).await;
            }
        }
        if in_chunks {
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
        read_answer(&mut stream).await
    }
}

#[test]
fn a_long_body_arrives_byte_for_byte_with_its_length_or_in_chunks() {
    sandbox(async |sandbox| {
        let routed = RoutedDaemon::up(sandbox, "", &[("a", Script::default(), "enabled = false")]).await;
        let form = "Content-Type: multipart/form-data; boundary=x\r\n";
        let short = LongBody { head: MODEL_FIRST.head, blocks: 30, tail: MODEL_FIRST.tail };
        for (case, body, fields) in
            [("the model first", short, ""), ("the model last", MODEL_LAST, ""), ("a form", FORM, form)]
        {
            for in_chunks in [false, true] {
                let answer = body.send(routed.port(), fields, in_chunks).await;
                assert_eq!(parsed_answer(&answer), (200, body.digest()), "{case}, in chunks: {in_chunks}: {answer}");
                routed.is_idle("a").await;
            }
        }
    });
}

#[test]
fn twenty_bodies_of_a_hundred_megabytes_take_little_memory() {
    sandbox(async |sandbox| {
        let routed = RoutedDaemon::up(sandbox, "queue = 64", &[("a", Script::default(), "")]).await;
        routed.daemon.ready("a").await;
        let before = routed.daemon.resident_bytes();
        let digest = MODEL_FIRST.digest();
        let answers = join_all((0..20).map(|_| MODEL_FIRST.send(routed.port(), "", false)));
        let mut most = 0;
        let watched = async {
            tokio::pin!(answers);
            loop {
                tokio::select! {
                    answers = &mut answers => return answers,
                    held = routed.metric("body_bytes", &[]) => {
                        assert!(held <= 256.0 * MIB as f64, "{held}");
                        most = most.max(routed.daemon.resident_bytes());
                    }
                }
            }
        };
        for answer in watched.await {
            assert_eq!(parsed_answer(&answer), (200, digest.clone()));
        }
        routed.is_idle("a").await;
        assert!(most < before + 128 * MIB, "{before} before, {most} at most");
    });
}

/// Bodies whose model comes last have to be held, and there is room for two of them.
#[test]
fn bodies_that_have_to_be_held_share_the_memory_and_who_gets_none_is_told_so() {
    sandbox(async |sandbox| {
        let keys = "max-body = \"24MiB\"\nbody-memory = \"48MiB\"";
        let routed = RoutedDaemon::up(sandbox, keys, &[("a", Script::default(), "")]).await;
        routed.daemon.ready("a").await;
        let before = routed.daemon.resident_bytes();
        let digest = MODEL_LAST.digest();
        let answers = join_all((0..8).map(|number| MODEL_LAST.send(routed.port(), "", number % 2 == 0))).await;
        let mut whole = 0;
        for answer in answers {
            let (status, body) = parsed_answer(&answer);
            if status == 200 {
                assert_eq!(body, digest);
                whole += 1;
            } else {
                assert_eq!((status, error_word(&body)), (503, "overloaded"), "{answer}");
                assert!(answer.contains("retry-after: "), "{answer}");
            }
        }
        assert!(whole >= 1, "the oldest one may always go on");
        routed.is_idle("a").await;
        let after = routed.daemon.resident_bytes();
        assert!(after < before + 160 * MIB, "{before} before, {after} after");
    });
}

/// Of a client that says that its body is long and sends nothing, only what it says takes room, and others pass it.
#[test]
fn a_client_that_takes_the_room_and_sends_nothing_keeps_no_small_request_waiting() {
    sandbox(async |sandbox| {
        let keys = "max-body = \"16MiB\"\nbody-memory = \"48MiB\"";
        let routed = RoutedDaemon::up(sandbox, keys, &[("a", Script::default(), "")]).await;
        routed.daemon.ready("a").await;
        let mut silent = Vec::new();
        for _ in 0..3 {
            let mut stream = connect(routed.port()).await;
            let head = post_head(CHAT, "Content-Length: 12582912\r\n");
            stream.write_all(format!("{head}{{\"model\":").as_bytes()).await.unwrap();
            silent.push(stream);
        }
        eventually("two have their room", WAIT_LIMIT, async || {
            routed.metric("body_bytes", &[]).await >= 2.0 * 12.0 * MIB as f64
        })
        .await;
        let small = post_bytes(CHAT, "", json!({ "model": "a", "messages": [], "max_tokens": 1 }).to_string());
        assert_eq!(parsed_answer(&exchange_bytes(routed.port(), &small).await).0, 200);
        // The third one gets no room.
        let answer = read_answer(&mut silent[2]).await;
        assert_eq!(error_word(&parsed_answer(&answer).1), "overloaded", "{answer}");
        drop(silent);
        routed.is_idle("a").await;
    });
}

/// A chunk keeps the buffer of its connection, so that many short ones would take much more than their bytes.
#[test]
fn a_body_in_chunks_of_one_byte_takes_no_more_than_its_bytes() {
    sandbox(async |sandbox| {
        let routed = RoutedDaemon::up(sandbox, "", &[("a", Script::default(), "enabled = false")]).await;
        let before = routed.daemon.resident_bytes();
        let mut stream = connect(routed.port()).await;
        let head = post_head(CHAT, "Transfer-Encoding: chunked\r\n");
        stream.write_all(format!("{head}d\r\n{{\"model\":\"a\",\r\n").as_bytes()).await.unwrap();
        let chunks = "1\r\n \r\n".repeat(100_000);
        for _ in 0..10 {
            stream.write_all(chunks.as_bytes()).await.unwrap();
        }
        eventually("it is read", WAIT_LIMIT, async || routed.metric("body_bytes", &[]).await >= MIB as f64).await;
        let most = routed.daemon.resident_bytes();
        assert!(most < before + 24 * MIB, "{before} before, {most} at most");
        drop(stream);
        routed.is_idle("a").await;
    });
}
