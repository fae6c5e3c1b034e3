//! Streams that a client resumes: the answers of requests with `X-Conversation-Id`, which go on when the client has left.

use std::{
    collections::BTreeMap,
    io,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};

use crate::connection::{Connection, HttpRequest, HttpResponse};

/// The streams by the id of their conversation.
#[derive(Debug, Default)]
pub(crate) struct ResumableStreams {
    streams: Mutex<BTreeMap<String, StoredStream>>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct StoredStream {
    bytes: Vec<u8>,
    is_done: bool,
}

impl ResumableStreams {
    /// Begins a stream; one of the same conversation is forgotten.
    pub(crate) fn begin(&self, id: &str) {
        self.lock().insert(id.to_owned(), StoredStream::default());
    }

    /// Adds bytes to a stream. Whether it is still wanted.
    pub(crate) fn push(&self, id: &str, bytes: &[u8]) -> bool {
        let mut streams = self.lock();
        let stream = streams.get_mut(id).map(|stream| stream.bytes.extend_from_slice(bytes));
        self.changed.notify_all();
        stream.is_some()
    }

    pub(crate) fn end(&self, id: &str) {
        if let Some(stream) = self.lock().get_mut(id) {
            stream.is_done = true;
        }
        self.changed.notify_all();
    }

    /// Sends a stream from the byte that the query names, to its end.
    pub(crate) fn resume(&self, request: &HttpRequest, connection: &mut Connection) -> io::Result<Option<u16>> {
        let Some(id) = request.parameter("conv_id") else {
            return connection.respond(&missing_id());
        };
        let mut sent = request.parameter("from").and_then(|from| from.parse().ok()).unwrap_or(0_usize);
        if !self.lock().contains_key(&id) {
            return connection.respond(&HttpResponse::not_found());
        }
        connection.begin_events()?;
        loop {
            let mut streams = self.lock();
            let (bytes, is_done) = loop {
                let Some(stream) = streams.get(&id) else { break (Vec::new(), true) };
                if stream.is_done || stream.bytes.len() > sent {
                    break (stream.bytes.get(sent..).unwrap_or_default().to_vec(), stream.is_done);
                }
                let waited = self.changed.wait_timeout(streams, Duration::from_secs(1));
                streams = waited.map(|(streams, _)| streams).unwrap_or_else(|error| error.into_inner().0);
            };
            drop(streams);
            sent += bytes.len();
            if !bytes.is_empty() {
                connection.chunk(&bytes)?;
            }
            if is_done {
                connection.end_events()?;
                return Ok(Some(200));
            }
        }
    }

    /// Ends a stream and forgets it.
    pub(crate) fn delete(&self, request: &HttpRequest) -> HttpResponse {
        let Some(id) = request.parameter("conv_id") else { return missing_id() };
        self.lock().remove(&id);
        self.changed.notify_all();
        HttpResponse::json(204, String::new())
    }

    /// Which of the conversations in the body have a stream.
    pub(crate) fn look_up(&self, request: &HttpRequest) -> HttpResponse {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let ids = body["conversation_ids"].as_array().cloned().unwrap_or_default();
        let streams = self.lock();
        let known = ids.iter().filter_map(Value::as_str).filter_map(|id| {
            let StoredStream { bytes, is_done } = streams.get(id)?;
            Some(json!({ "conversation_id": id, "is_done": is_done, "total_bytes": bytes.len() }))
        });
        HttpResponse::json(200, Value::Array(known.collect()).to_string())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, StoredStream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn missing_id() -> HttpResponse {
    HttpResponse::error(400, "Missing conversation id in path", "invalid_request_error")
}
