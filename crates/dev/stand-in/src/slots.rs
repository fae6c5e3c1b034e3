//! Saving and restoring slots. Only the first one holds anything.

use std::{io, sync::atomic::Ordering};

use serde_json::{Value, json};

use nix::sys::signal::Signal;

use crate::{
    connection::{Connection, HttpRequest, HttpResponse},
    ending,
    script::{SlotAnswer, SlotsScript},
    state::Server,
};

/// Answers an action on a slot. Returns as [`crate::health::answer`] does.
pub(crate) fn answer(server: &Server, request: &HttpRequest, connection: &mut Connection) -> io::Result<Option<u16>> {
    let refused = |text: &str| HttpResponse::error(400, text, "invalid_request_error");
    let Some(folder) = &server.settings.slot_folder else {
        let text = "This server does not support slots action. Start it with `--slot-save-path`";
        return connection.respond(&HttpResponse::error(501, text, "not_supported_error"));
    };
    let slot = request.path.strip_prefix("/slots/").and_then(|slot| slot.parse::<u64>().ok());
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let name = body.get("filename").and_then(Value::as_str).filter(|name| !name.contains('/'));
    let (Some(slot), Some(name)) = (slot.filter(|slot| *slot < server.settings.slots), name) else {
        return connection.respond(&refused("Invalid slot ID or filename"));
    };
    let script = server.script.slots.clone().unwrap_or_default();
    let path = folder.join(name);
    let (kind, answer) = match request.query.as_str() {
        "action=save" => (script.save, save(server, &script, slot, &path)?),
        "action=restore" => {
            let Some(answer) = restore(server, &script, slot, &path) else {
                return connection.respond(&refused("Unable to restore slot, invalid slot save file"));
            };
            (script.restore, answer)
        }
        _ => return connection.respond(&refused("Invalid action")),
    };
    match kind {
        SlotAnswer::Works | SlotAnswer::Pretend | SlotAnswer::Empty => {
            connection.respond(&HttpResponse::json(200, answer.to_string()))
        }
        SlotAnswer::Refuse => connection.respond(&refused("Unable to restore slot")),
        SlotAnswer::Hang => {
            connection.await_hang_up();
            Ok(None)
        }
        SlotAnswer::Abort => ending::die(Signal::SIGABRT),
    }
}

fn save(server: &Server, script: &SlotsScript, slot: u64, path: &std::path::Path) -> io::Result<Value> {
    let is_empty = slot != 0 || script.save == SlotAnswer::Empty;
    let tokens = if is_empty { 0 } else { server.slot_tokens.load(Ordering::Relaxed) };
    let bytes = if is_empty { 20 } else { script.file_bytes };
    let written = if script.save == SlotAnswer::Pretend { bytes / 2 } else { bytes };
    let mut content = tokens.to_le_bytes().to_vec();
    content.resize(usize::try_from(written).unwrap_or_default(), 0);
    std::fs::write(path, content)?;
    Ok(
        json!({ "id_slot": slot, "filename": path.file_name().map(|name| name.to_string_lossy()), "n_saved": tokens, "n_written": bytes, "timings": {} }),
    )
}

fn restore(server: &Server, script: &SlotsScript, slot: u64, path: &std::path::Path) -> Option<Value> {
    let content = std::fs::read(path).ok()?;
    let tokens = u64::from_le_bytes(content.get(..8)?.try_into().ok()?);
    if script.restore != SlotAnswer::Pretend {
        server.slot_tokens.store(tokens, Ordering::Relaxed);
    }
    let restored = if script.restore == SlotAnswer::Empty { 0 } else { tokens };
    Some(json!({ "id_slot": slot, "n_restored": restored, "n_read": content.len(), "timings": {} }))
}
