//! An independent witness of readiness: asks `/health` every millisecond until it answers 200.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use super::daemon::PATIENCE;

const STEP: Duration = Duration::from_millis(1);
/// Longest wait for one answer; a server that loads may be slow.
const ANSWER: Duration = Duration::from_secs(2);
const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// What the poller saw, on the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// When the last request was begun that was not answered with 200.
    pub not_ready: SystemTime,
    /// When the first 200 was read.
    pub ready: SystemTime,
}

/// A poller that runs, until its first 200 or for [`PATIENCE`].
#[derive(Debug)]
pub struct Poller(JoinHandle<Option<Sighting>>);

impl Poller {
    /// Begins to poll `port` on the loopback address.
    pub fn begin(port: u16) -> Self {
        Self(thread::spawn(move || poll(port, Instant::now() + PATIENCE)))
    }

    /// Waits for the first 200; `None` if none came.
    pub fn sighting(self) -> Option<Sighting> {
        self.0.join().ok().flatten()
    }
}

fn poll(port: u16, deadline: Instant) -> Option<Sighting> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut not_ready = SystemTime::now();
    while Instant::now() < deadline {
        let (began, step) = (SystemTime::now(), Instant::now() + STEP);
        if answers_200(&address) {
            return Some(Sighting { not_ready, ready: SystemTime::now() });
        }
        not_ready = began;
        thread::sleep(step.saturating_duration_since(Instant::now()));
    }
    None
}

/// Whether a fresh connection gets a 200. Its status line is in the first bytes, which come in one piece.
fn answers_200(address: &SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(address, ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(REQUEST)?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok::<_, std::io::Error>(status)
    };
    ask().is_ok_and(|status| status.ends_with(b" 200"))
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
            for status in ["503 no", "503 no", "200 OK"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; REQUEST.len()];
                stream.read_exact(&mut request).unwrap();
                stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).unwrap();
            }
            SystemTime::now()
        });
        let poller = Poller::begin(port);
        let answered = server.join().unwrap();
        let sighting = poller.sighting().expect("it answered 200");
        assert!(sighting.not_ready < answered && sighting.not_ready < sighting.ready);
    }

    #[test]
    fn a_server_that_never_answers_is_not_seen() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert_eq!(poll(port, Instant::now() + 3 * STEP), None);
    }
}
