//! The signals that end a command which has changed the terminal: it gives the terminal back first.

use llama_warden_events::Signal;
use tokio::signal::unix::{SignalKind, signal as stream};

/// Takes the signals that end a command from now on, and waits for one. What was taken before the terminal is changed ends no process
/// that has changed it.
pub fn interruption() -> impl Future<Output = Signal> {
    let taken = |signal: Signal| {
        let mut stream = stream(SignalKind::from_raw(signal.number())).ok();
        async move {
            match &mut stream {
                Some(stream) => stream.recv().await,
                // Without a handler, the signal ends the process by itself.
                None => std::future::pending().await,
            }
        }
    };
    let [int, term, hup] = [Signal::INT, Signal::TERM, Signal::HUP].map(taken);
    async move {
        tokio::select! {
            _ = int => Signal::INT,
            _ = term => Signal::TERM,
            _ = hup => Signal::HUP,
        }
    }
}
