//! The component: serves listeners that are bound already.

use std::fmt;
use std::io;
use std::sync::Arc;

use llama_warden_api_types::ExtraRoute;
use llama_warden_bus::{Bus, CommandSetId, OutputLane};
use llama_warden_component::{Component, Ports};
use llama_warden_events::{NoCommand, SuperviseCommand};
use tokio::net::{TcpListener, UnixListener};

use crate::app::AppState;
use crate::http_security::{ListenerReach, RequestPolicy, Token};
use crate::listen::{ControlSocket, Listeners};
use crate::router::{UnusablePath, router};
use crate::serve::{ControlListener, serve};

/// Where `/api/v1/models` gets its answer from.
pub trait ModelsSource: Send + Sync + 'static {
    /// The models that discovery found at the start or the latest reload, as JSON. Called for each request on the runtime's
    /// only thread, so it must not read files.
    fn models(&self) -> serde_json::Value;
}

/// The parts of [`Api`].
pub struct ApiParts {
    /// The addresses to serve.
    pub listeners: Listeners,
    /// Source of snapshots and of the event stream.
    pub bus: Bus,
    /// Source of the servers' output.
    pub lane: OutputLane,
    /// Routes of other components, such as `/metrics`.
    pub routes: Vec<ExtraRoute>,
    /// Answers `/api/v1/models`.
    pub models: Arc<dyn ModelsSource>,
    /// The answer to `/openapi.json`: the text of [`openapi_document`](crate::openapi_document), generated beforehand.
    pub description: &'static str,
    /// The token that clients of the TCP listener must send; `None` admits every client on loopback, and elsewhere only to open
    /// paths.
    pub token: Option<Token>,
}

/// Serves status and control over HTTP.
pub struct Api {
    parts: ApiParts,
}

/// Why the component failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The runtime refused a bound listener.
    #[error("cannot use the {listener} listener")]
    Listener {
        /// `control` or `TCP`.
        listener: &'static str,
        /// The error of the kernel.
        source: io::Error,
    },
    /// An extra route has a path that is not literal, or that another route has.
    #[error("cannot add the route {path}: its path has parameters, or another route has the same")]
    UnusablePath {
        /// The path of the route.
        path: &'static str,
    },
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
    const SENDS: &'static [CommandSetId] = &[CommandSetId::of::<SuperviseCommand>()];

    type Command = NoCommand;
    type Error = ApiError;

    async fn run(self, ports: Ports<NoCommand>) -> Result<(), ApiError> {
        let ApiParts { listeners, bus, lane, routes, models, description, token } = self.parts;
        let reach = listeners.tcp.as_ref().map_or(ListenerReach::Loopback, |tcp| tcp.reach());
        let host = listeners.tcp.as_ref().map(|tcp| tcp.host.clone());
        let (events, commands, cancel) = (ports.events, ports.commands, ports.cancel.clone());
        let app = Arc::new(AppState { bus, lane, events, commands, models, description, cancel });
        let router = router(app, &routes, RequestPolicy::new(reach, host, token))
            .map_err(|UnusablePath(path)| ApiError::UnusablePath { path })?;

        let ControlSocket { listener, path, peers } = listeners.control;
        let listener =
            UnixListener::from_std(listener).map_err(|source| ApiError::Listener { listener: "control", source })?;
        let control = serve(ControlListener { listener, peers, _path: path }, router.clone(), ports.cancel.clone());
        match listeners.tcp {
            Some(tcp) => {
                let listener = TcpListener::from_std(tcp.listener);
                let listener = listener.map_err(|source| ApiError::Listener { listener: "TCP", source })?;
                tokio::join!(control, serve(listener, router, ports.cancel));
            }
            None => control.await,
        }
        Ok(())
    }
}
