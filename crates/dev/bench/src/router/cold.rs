//! Measures how soon a request is answered that waits for the start of its server.
//!
//! Each request comes to a daemon of its own, so that no stop of the server comes in between.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::SystemTime;

use llama_warden_test_parts::error::{Error, OnPath};

use crate::Effort;
use crate::daemon::{MeasuredDaemon, WAIT_LIMIT};
use crate::events::{at, milliseconds};
use crate::figure::Figure;
use crate::poller::HealthPoller;
use crate::ports;
use crate::programs::{self, Programs, quoted};
use crate::targets::{ROUTER_AFTER_POLL, ROUTER_AFTER_READY};

/// One request, in milliseconds.
struct ColdStart {
    after_ready: f64,
    after_poll: f64,
    /// From the request to its first byte.
    whole: f64,
    /// The precision of the poller.
    resolution: f64,
}

/// Measures the first byte after `ReadyReached`, and after the first 200 that a poller of `/health` got.
///
/// # Errors
/// When the daemon does not run, or a request is not answered.
pub fn measure(programs: &Programs, effort: Effort) -> Result<[Figure; 2], Error> {
    let starts: Vec<ColdStart> = (0..effort.pick(25, 3)).map(|_| cold_start(programs)).collect::<Result<_, _>>()?;
    let of = |value: fn(&ColdStart) -> f64| starts.iter().map(value);
    Ok([
        ROUTER_AFTER_READY.figure(of(|start| start.after_ready), of(|start| start.whole)),
        ROUTER_AFTER_POLL.figure(of(|start| start.after_poll), of(|start| start.resolution)),
    ])
}

fn cold_start(programs: &Programs) -> Result<ColdStart, Error> {
    let home = programs::empty_folder()?;
    let ports = ports::free_ports(2)?;
    let model = programs::model(home.path(), "cold", 0)?;
    let script = model.with_extension("gguf.stand-in.json");
    fs::write(&script, r#"{"max_life_s": 300, "load_ms": 200, "token_ms": 0}"#).on("write", &script)?;
    let sections = format!(
        "[llama-server]\nbinary = {}\n[router]\nlisten = \"127.0.0.1:{}\"\nmax-loaded = 0\n\
         [[servers]]\nid = \"cold\"\nmodel = {}\nport = {}\nenabled = false\n",
        quoted(&programs.stand_in),
        ports[0],
        quoted(&model),
        ports[1]
    );
    let daemon = MeasuredDaemon::start(&programs.daemon, home.path(), &sections)?;
    daemon.wait_until_idle()?;
    let poller = HealthPoller::begin(ports[1]);
    let asked = SystemTime::now();
    let first = first_byte(ports[0]).on("ask", Path::new("the router"))?;
    let observation = poller.observation();
    let ready = daemon.events()?.iter().find(|event| event["event"]["type"] == "ReadyReached").and_then(at);
    daemon.stop()?;
    let (Some(observation), Some(ready)) = (observation, ready) else {
        return Err(Error::missing("the server was never ready", "run it again with `--only router`"));
    };
    Ok(ColdStart {
        after_ready: milliseconds(ready, first),
        after_poll: milliseconds(observation.ready, first),
        whole: milliseconds(asked, first),
        resolution: milliseconds(observation.not_ready, observation.ready),
    })
}

/// Sends a request and returns when the first byte of its answer came.
fn first_byte(port: u16) -> std::io::Result<SystemTime> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(WAIT_LIMIT))?;
    let body = r#"{"model": "cold", "messages": [], "max_tokens": 1}"#;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: ";
    write!(stream, "{head}{}\r\n\r\n{body}", body.len())?;
    let mut begun = [0; 12];
    stream.read_exact(&mut begun)?;
    let first = SystemTime::now();
    match &begun {
        b"HTTP/1.1 200" => Ok(first),
        other => Err(std::io::Error::other(format!("answered with {}", String::from_utf8_lossy(other)))),
    }
}
