//! Questions to peers: bounded, shared, and each peer's own matter.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use llama_warden_api_types::PeerProblem;
use llama_warden_events::BootId;
use llama_warden_fleet::PeerSettings;
use llama_warden_peers::Peers;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const STATUS: &str = "{\"total_servers\":0,\"ready_servers\":0,\"running_servers\":0,\"profile\":null,\"boot\":\"00000000000000aa\",\"seq\":1,\"servers\":[],\"of\":\"a later version\"}";

/// Serves every connection by `serve`, and counts them.
async fn peer<F>(name: &str, serve: fn(TcpStream) -> F) -> (PeerSettings, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound")).parse().expect("a url");
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut request = [0; 4096];
                // A client that is gone gets no answer.
                let _ = stream.read(&mut request).await;
                serve(stream).await;
            });
        }
    });
    (PeerSettings { name: name.to_owned(), url, token_file: None }, count)
}

async fn answer(mut stream: TcpStream, head: &str, body: &str) {
    let text = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    // A client that is gone gets no answer.
    let _ = stream.write_all(text.as_bytes()).await;
}

fn own() -> BootId {
    BootId::from_random(7)
}

#[tokio::test]
async fn those_who_ask_together_share_one_question() {
    let (settings, count) = peer("a", |stream| async { answer(stream, "200 OK", STATUS).await }).await;
    let peers = Peers::new(&[settings]);
    let (one, other) = tokio::join!(peers.statuses(own()), peers.statuses(own()));
    assert_eq!(one, other);
    assert_eq!(one[0].problem, None);
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_answer_without_an_end_is_given_up_and_its_connection_closed() {
    let (closed, mut is_closed) = tokio::sync::mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound")).parse().expect("a url");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let closed = closed.clone();
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                let _ = stream.read(&mut bytes).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
                // Reads until the other end closes, and goes on with its answer meanwhile.
                loop {
                    let end = tokio::select! {
                        read = stream.read(&mut bytes) => !matches!(read, Ok(1..)),
                        () = tokio::time::sleep(std::time::Duration::from_millis(50)) => false,
                    };
                    if end || stream.write_all(b"1\r\n \r\n").await.is_err() {
                        break;
                    }
                }
                let _ = closed.send(());
            });
        }
    });
    let peers = Peers::new(&[PeerSettings { name: "drip".to_owned(), url, token_file: None }]);
    let reports = peers.statuses(own()).await;
    assert_eq!(reports[0].problem.as_ref().map(|problem| problem.reason), Some(PeerProblem::TimedOut));
    let patience = std::time::Duration::from_secs(30);
    tokio::time::timeout(patience, is_closed.recv()).await.expect("the connection is closed");
}

#[tokio::test]
async fn what_is_no_daemon_is_told_from_one_that_refuses() {
    let peers = [
        peer("breaks", |stream| async { drop(stream) }).await.0,
        peer("moved", |stream| async { answer(stream, "302 Found", "").await }).await.0,
        peer("nobody", |stream| async { answer(stream, "404 Not Found", "{}").await }).await.0,
        peer("refuses", |stream| async {
            let problem =
                "{\"type\":\"x\",\"title\":\"x\",\"status\":401,\"detail\":\"no token\",\"reason\":\"unauthorized\"}";
            answer(stream, "401 Unauthorized", problem).await;
        })
        .await
        .0,
    ];
    let reports = Peers::new(&peers).statuses(own()).await;
    let reasons: Vec<_> = reports.iter().map(|report| report.problem.as_ref().map(|problem| problem.reason)).collect();
    let no_daemon = Some(PeerProblem::NotADaemon);
    assert_eq!(reasons, [no_daemon, no_daemon, no_daemon, Some(PeerProblem::Unauthorized)], "{reports:?}");
}

#[tokio::test]
async fn two_names_of_one_daemon_show_its_servers_once_and_this_one_shows_none() {
    let (first, _) = peer("a", |stream| async { answer(stream, "200 OK", STATUS).await }).await;
    let (second, _) = peer("b", |stream| async { answer(stream, "200 OK", STATUS).await }).await;
    let peers = Peers::new(&[first, second]);
    let reasons = |reports: &[llama_warden_api_types::PeerReport]| {
        reports.iter().map(|report| report.problem.as_ref().map(|problem| problem.reason)).collect::<Vec<_>>()
    };
    assert_eq!(reasons(&peers.statuses(own()).await), [None, Some(PeerProblem::Duplicate)]);
    let same = BootId::from_random(0xaa);
    assert_eq!(reasons(&peers.statuses(same).await), [Some(PeerProblem::Itself); 2]);
}
