//! The component: listeners that are already bound, and what is needed to answer from them.

use std::fmt;
use std::io;
use std::sync::Arc;

use llama_warden_bus::{Bus, OutputLane};
use llama_warden_component::{Component, Ports};
use llama_warden_events::NoCommand;
use tokio::net::{TcpListener, UnixListener};

use crate::endpoints::AppState;
use crate::http_security::{ListenerReach, RequestPolicy, Token};
use crate::listen::{ControlSocket, Listeners};
use crate::routes;
use crate::serve::{ControlListener, serve};

/// Renders the metrics for a client that sent this `Accept` header: content type and body, or why
/// not. Runs on a thread that may block.
pub type MetricsSource = Arc<dyn Fn(Option<&str>) -> Result<(&'static str, Vec<u8>), String> + Send + Sync>;

/// What discovery knows of models, as `/api/v1/models` answers it. Called for each request, so it only hands over what was
/// found before.
pub type ModelsSource = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// What the component is made of.
pub struct ApiParts {
    /// Where it listens.
    pub listeners: Listeners,
    /// The line of events, to read.
    pub bus: Bus,
    /// The output of the servers.
    pub lane: OutputLane,
    /// What `/metrics` answers.
    pub metrics: MetricsSource,
    /// What `/api/v1/models` answers.
    pub models: ModelsSource,
    /// What `/openapi.json` answers: the text of [`openapi_document`](crate::openapi_document), generated beforehand.
    pub description: &'static str,
    /// What guards the TCP listener.
    pub token: Option<Token>,
}

/// Serves status and control over HTTP.
pub struct Api {
    parts: ApiParts,
}

/// Why the component ended by itself.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the {listener} listener")]
pub struct ApiError {
    listener: &'static str,
    source: io::Error,
}

impl Api {
    /// A component that serves `parts.listeners` once it runs.
    pub const fn new(parts: ApiParts) -> Self {
        Self { parts }
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("listeners", &self.parts.listeners).finish_non_exhaustive()
    }
}

impl Component for Api {
    const NAME: &'static str = "api";

    type Command = NoCommand;
    type Error = ApiError;

    async fn run(self, ports: Ports<NoCommand>) -> Result<(), ApiError> {
        let ApiParts { listeners, bus, lane, metrics, models, description, token } = self.parts;
        let reach = listeners.tcp.as_ref().map_or(ListenerReach::Loopback, |tcp| tcp.reach());
        let host = listeners.tcp.as_ref().map(|tcp| tcp.host.clone());
        let shared = AppState {
            bus,
            lane,
            metrics,
            models,
            description,
            events: ports.events,
            commands: ports.commands,
            cancel: ports.cancel.clone(),
        };
        let router = routes::router(Arc::new(shared), Arc::new(RequestPolicy::new(reach, host, token)));

        let ControlSocket { listener, place, peers } = listeners.control;
        let listener = UnixListener::from_std(listener).map_err(|source| ApiError { listener: "control", source })?;
        let control = serve(ControlListener { listener, peers, _place: place }, router.clone(), ports.cancel.clone());
        match listeners.tcp {
            Some(tcp) => {
                let listener = TcpListener::from_std(tcp.listener);
                let listener = listener.map_err(|source| ApiError { listener: "TCP", source })?;
                tokio::join!(control, serve(listener, router, ports.cancel));
            }
            None => control.await,
        }
        Ok(())
    }
}
