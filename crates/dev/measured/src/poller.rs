//! Observes readiness independently of the daemon: asks `/health` every millisecond until the answer is 200.
//!
//! It reuses its connection as long as the server keeps it open. A thousand new connections a second would stay in the
//! kernel's socket table for a minute each and slow down the daemon, which reads that table to identify listeners.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use crate::daemon::WAIT_LIMIT;

const STEP: Duration = Duration::from_millis(1);
/// Timeout of one answer; a server that loads may be slow.
const ANSWER: Duration = Duration::from_secs(2);
const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// Bytes of the longest answer that is accepted; a healthy one has about 250.
const LONGEST: usize = 4096;

/// The observations of the poller, in wall time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadinessObservation {
    /// When it began its last request that was not answered with 200.
    pub not_ready: SystemTime,
    /// When it had read the first 200.
    pub ready: SystemTime,
}

/// A running poller. It ends at its first 200 or after [`WAIT_LIMIT`].
#[derive(Debug)]
pub struct HealthPoller(JoinHandle<Option<ReadinessObservation>>);

impl HealthPoller {
    /// Starts to poll `port` on the loopback address.
    pub fn begin(port: u16) -> Self {
        Self(thread::spawn(move || poll(port, Instant::now() + WAIT_LIMIT)))
    }

    /// Waits for the first 200; `None` if there was none within [`WAIT_LIMIT`].
    pub fn observation(self) -> Option<ReadinessObservation> {
        self.0.join().ok().flatten()
    }
}

/// Asks `/health` of `port` on the loopback address once, on a connection of its own, and returns whether the answer is 200.
pub fn is_healthy(port: u16) -> bool {
    ask(&mut None, &SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok_and(|status| status == 200)
}

fn poll(port: u16, deadline: Instant) -> Option<ReadinessObservation> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (mut not_ready, mut kept) = (SystemTime::now(), None);
    while Instant::now() < deadline {
        let (began, step) = (SystemTime::now(), Instant::now() + STEP);
        match ask(&mut kept, &address) {
            Ok(200) => return Some(ReadinessObservation { not_ready, ready: SystemTime::now() }),
            Ok(_) => not_ready = began,
            Err(_) => {
                // The server may have closed a reused connection before it read the request: no answer about health.
                let was_kept = kept.take().is_some_and(|kept: KeptConnection| kept.answers > 0);
                not_ready = if was_kept { not_ready } else { began };
            }
        }
        thread::sleep(step.saturating_duration_since(Instant::now()));
    }
    None
}

/// A connection that can be reused.
struct KeptConnection {
    stream: TcpStream,
    answers: u32,
}

/// Sends a request over the kept connection, or over a new one if there is none, and returns the status of the answer.
fn ask(kept: &mut Option<KeptConnection>, address: &SocketAddr) -> io::Result<u16> {
    let connection = match kept {
        Some(connection) => connection,
        None => {
            let stream = TcpStream::connect_timeout(address, ANSWER)?;
            stream.set_read_timeout(Some(ANSWER))?;
            kept.insert(KeptConnection { stream, answers: 0 })
        }
    };
    connection.stream.write_all(REQUEST)?;
    let mut text = Vec::new();
    while !is_whole(&text) {
        let mut piece = [0; LONGEST];
        match connection.stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count if text.len() + count > LONGEST => return Err(io::ErrorKind::InvalidData.into()),
            count => text.extend_from_slice(&piece[..count]),
        }
    }
    connection.answers += 1;
    let status = text.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    status.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Whether `text` is a complete answer, including the last byte of its body.
fn is_whole(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    body.len() >= length.unwrap_or(0_usize)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_first_200_is_seen_after_the_last_answer_that_was_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            // The first connection is closed after two answers, as a server does that has given many.
            for answers in [vec!["503 no", "503 no"], vec!["200 OK"]] {
                let (mut stream, _) = listener.accept().unwrap();
                for status in answers {
                    let mut request = [0; REQUEST.len()];
                    stream.read_exact(&mut request).unwrap();
                    stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n").as_bytes()).unwrap();
                    stream.write_all(b"{}").unwrap();
                }
            }
            SystemTime::now()
        });
        let poller = HealthPoller::begin(port);
        let answered = server.join().unwrap();
        let observation = poller.observation().expect("it answered 200");
        assert!(observation.not_ready < answered && observation.not_ready < observation.ready);
    }

    #[test]
    fn an_answer_is_whole_with_the_last_byte_of_its_body() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}";
        assert!(is_whole(whole));
        assert!((0..whole.len()).all(|end| !is_whole(&whole[..end])));
        assert!(is_whole(b"HTTP/1.1 404 no\r\n\r\n"));
    }

    #[test]
    fn a_server_that_never_answers_is_not_seen() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert_eq!(poll(port, Instant::now() + 3 * STEP), None);
    }
}
