//! The endpoint `/health`, and its scripted misbehaviour.

use std::{io, thread, time::Duration};

use crate::{
    connection::{Connection, HttpResponse},
    eras::Era,
    script::HealthScript,
    state::{Server, ServerPhase},
};

/// Answers a request for `/health` as the script says. Returns the status of the response; `None` if there is none and the
/// connection is to be closed.
pub(crate) fn answer(server: &Server, connection: &mut Connection) -> io::Result<Option<u16>> {
    let loading = server.phase() == ServerPhase::Loading;
    match &server.script.health {
        HealthScript::Status(status) => connection.respond(&with_status(server.script.era, *status)),
        _ if loading => connection.respond(&loading_model()),
        HealthScript::Era => connection.respond(&with_status(server.script.era, 200)),
        HealthScript::Flap(steps) => {
            let elapsed = server.since_loaded().as_millis();
            let step = steps.iter().rev().find(|(after_ms, _)| u128::from(*after_ms) <= elapsed);
            connection.respond(&with_status(server.script.era, step.map_or(200, |(_, status)| *status)))
        }
        HealthScript::Delay(ms) => {
            thread::sleep(Duration::from_millis(*ms));
            connection.respond(&with_status(server.script.era, 200))
        }
        HealthScript::Hang => {
            connection.await_hang_up();
            Ok(None)
        }
        HealthScript::Trickle => {
            let text =
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}";
            for byte in text {
                connection.send(&[*byte])?;
                thread::sleep(Duration::from_secs(1));
            }
            Ok(Some(200))
        }
        HealthScript::EndlessBody => {
            connection.begin_events()?;
            loop {
                connection.event(&"x".repeat(4096))?;
            }
        }
        HealthScript::HugeHeader(megabytes) => {
            connection.send(b"HTTP/1.1 200 OK\r\nX-Huge: ")?;
            let megabyte = vec![b'x'; 1 << 20];
            (0..*megabytes).try_for_each(|_| connection.send(&megabyte))?;
            connection.send(b"\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}")?;
            Ok(Some(200))
        }
        HealthScript::Redirect(target) => {
            let head = format!("HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n");
            connection.send(head.as_bytes())?;
            Ok(Some(302))
        }
    }
}

/// The response to most requests while the model loads.
pub(crate) fn loading_model() -> HttpResponse {
    HttpResponse::error(503, "Loading model", "unavailable_error")
}

fn with_status(era: Era, status: u16) -> HttpResponse {
    match status {
        200 if era == Era::July2024 => {
            HttpResponse::json(200, r#"{"status":"ok","slots_idle":1,"slots_processing":0}"#)
        }
        200 => HttpResponse::json(200, r#"{"status":"ok"}"#),
        503 => loading_model(),
        404 => HttpResponse::not_found(),
        other => HttpResponse::error(other, "scripted", "server_error"),
    }
}
