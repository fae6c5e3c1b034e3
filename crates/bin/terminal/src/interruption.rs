//! The signals that end a command which has changed the terminal: it gives the terminal back first.

use llama_warden_events::Signal;
use tokio::signal::unix::{SignalKind, signal as stream};

/// Waits for a signal that ends a command.
pub async fn interruption() -> Signal {
    let handler = |signal: Signal| {
        let mut stream = stream(SignalKind::from_raw(signal.number())).ok();
        async move {
            match &mut stream {
                Some(stream) => stream.recv().await,
                // Without a handler, the signal ends the process by itself.
                None => std::future::pending().await,
            }
        }
    };
    tokio::select! {
        _ = handler(Signal::INT) => Signal::INT,
        _ = handler(Signal::TERM) => Signal::TERM,
        _ = handler(Signal::HUP) => Signal::HUP,
    }
}
