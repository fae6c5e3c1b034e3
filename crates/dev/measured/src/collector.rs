//! A collector for OpenTelemetry that takes everything by HTTP and counts it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use llama_warden_test_parts::error::{Error, OnPath};

/// A running collector. Its threads end with the process.
#[derive(Debug)]
pub struct CountingCollector {
    address: SocketAddr,
    taken: Arc<AtomicU64>,
}

impl CountingCollector {
    /// Listens on a free port of the loopback.
    ///
    /// # Errors
    /// When there is no port or no thread.
    pub fn start() -> Result<Self, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").on("listen on", "127.0.0.1".as_ref())?;
        let address = listener.local_addr().on("listen on", "127.0.0.1".as_ref())?;
        let taken = Arc::<AtomicU64>::default();
        let count = Arc::clone(&taken);
        let accept = move || {
            for stream in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                // A client that breaks off has nothing more to count.
                thread::spawn(move || drop(serve(stream, &count)));
            }
        };
        thread::Builder::new().name("collector".to_owned()).spawn(accept).on("start", "a thread".as_ref())?;
        Ok(Self { address, taken })
    }

    /// The value of `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Bytes of bodies so far.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

/// Answers every request of a connection with 200.
fn serve(stream: TcpStream, taken: &AtomicU64) -> std::io::Result<()> {
    let mut requests = BufReader::new(stream.try_clone()?);
    let mut answers = stream;
    let mut line = String::new();
    let mut length = 0;
    while requests.read_line(&mut line)? > 0 {
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().unwrap_or_default();
            }
            // The end of the head.
            None if line.trim_end().is_empty() => {
                let body = std::io::copy(&mut requests.by_ref().take(length), &mut std::io::sink())?;
                taken.fetch_add(body, Ordering::Relaxed);
                answers.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
                length = 0;
            }
            _ => {}
        }
        line.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bodies_of_all_requests_of_a_connection_are_counted() {
        let collector = CountingCollector::start().unwrap();
        let mut stream = TcpStream::connect(collector.address).unwrap();
        for body in ["one", "and two"] {
            let head = format!("POST /v1/logs HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
            let mut answer = [0; 38];
            stream.read_exact(&mut answer).unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(b"\r\n\r\n"), "{answer:?}");
        }
        assert_eq!(collector.taken(), 10);
    }
}
