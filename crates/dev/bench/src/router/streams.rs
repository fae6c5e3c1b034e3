//! Measures the memory of a thousand streams in flight.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use llama_warden_test_parts::error::{Error, OnPath};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::server;
use crate::Effort;
use crate::daemon::{MeasuredDaemon, WAIT_LIMIT};
use crate::figure::Figure;
use crate::ports;
use crate::procfs;
use crate::programs::{self, Programs, quoted};
use crate::targets::ROUTER_STREAMS;

/// So many that no server has more connections than the usual limit of descriptors.
const SERVERS: usize = 2;
const STREAMS: usize = 1000;
/// Of a body, as in the other figures.
const BODY: usize = 300;

/// Measures the growth of the daemon.
///
/// # Errors
/// When the daemon does not run, or a stream does not begin.
pub fn measure(programs: &Programs, effort: Effort) -> Result<Figure, Error> {
    getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most))
        .map_err(std::io::Error::from)
        .on("raise", Path::new("the limit of open files"))?;
    let runs: Vec<(f64, f64)> = (0..effort.pick(3, 1)).map(|_| grown(programs)).collect::<Result<_, _>>()?;
    Ok(ROUTER_STREAMS.figure(runs.iter().map(|run| run.0), runs.iter().map(|run| run.1)))
}

/// The growth, and the memory before, in MiB.
fn grown(programs: &Programs) -> Result<(f64, f64), Error> {
    let home = programs::empty_folder()?;
    let ports = ports::free_ports(SERVERS + 1)?;
    let mut sections = format!(
        "[llama-server]\nbinary = {}\n[health]\ninterval = \"1h\"\n\
         [router]\nlisten = \"127.0.0.1:{}\"\nmax-loaded = 0\nconcurrency = {STREAMS}\nqueue = {STREAMS}\n",
        quoted(&programs.stand_in),
        ports[SERVERS]
    );
    let ids: Vec<String> = (0..SERVERS).map(|number| format!("many{number}")).collect();
    for (id, port) in ids.iter().zip(&ports) {
        sections += &server(home.path(), id, 200, *port)?;
    }
    let daemon = MeasuredDaemon::start(&programs.daemon, home.path(), &sections)?;
    daemon.wait_until_idle()?;
    daemon.ask(&["wait", &ids[0], &ids[1]])?;
    daemon.wait_until_idle()?;
    let before = procfs::memory(daemon.pid())?.resident as f64 / 1024.0;
    let streams = (0..STREAMS).map(|number| begin(ports[SERVERS], &ids[number % SERVERS]));
    let mut streams = streams.collect::<Result<Vec<_>, _>>().on("open a stream at", Path::new("the router"))?;
    for stream in &mut streams {
        await_event(stream).on("read a stream of", Path::new("the router"))?;
    }
    let grown = procfs::memory(daemon.pid())?.resident as f64 / 1024.0 - before;
    drop(streams);
    daemon.stop()?;
    Ok((grown, before))
}

fn begin(port: u16, model: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(WAIT_LIMIT))?;
    let body = |text: &str| {
        format!(
            r#"{{"model": "{model}", "stream": true, "max_tokens": -1, "messages": [{{"role": "user", "content": "{text}"}}]}}"#
        )
    };
    let body = body(&"x".repeat(BODY - body("").len()));
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: ";
    write!(stream, "{head}{}\r\n\r\n{body}", body.len())?;
    Ok(stream)
}

/// Reads up to the first event.
fn await_event(stream: &mut TcpStream) -> std::io::Result<()> {
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    while !text.windows(5).any(|window| window == b"data:") {
        match stream.read(&mut piece)? {
            0 => return Err(std::io::Error::other(String::from_utf8_lossy(&text).into_owned())),
            count => text.extend_from_slice(&piece[..count]),
        }
    }
    Ok(())
}
