//! The component: serves listeners that are bound already.

use std::fmt;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use llama_warden_api_types::{ConfigurationPlace, ExtraRoute};
use llama_warden_bus::{Bus, CommandSetId, OutputLane};
use llama_warden_component::{Component, Context, Ports};
use llama_warden_config::LocalUsers;
use llama_warden_events::{CanaryCommand, NoCommand, SuperviseCommand};
use llama_warden_http_server::{ControlSocket, Listeners, serve};
use llama_warden_memory::MemoryProbe;
use llama_warden_peers::Peers;
use nix::unistd::geteuid;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::app::{AppState, ModelsSource};
use crate::http_security::{ListenerReach, RequestPolicy, TcpAccess, TokenInForce};
use crate::router::{UnusablePath, router};
use crate::serve::{ApiService, LIMITS};

/// Serves status and control over HTTP.
pub struct Api {
    bus: Bus,
    lane: OutputLane,
    access: TcpAccess,
    resources: ApiResources,
}

/// What the API shares with other parts of the daemon, or what was acquired before it is built.
pub struct ApiResources {
    /// The addresses to serve.
    pub listeners: Listeners,
    /// The token that clients must send over TCP, where there is one.
    pub token: TokenInForce,
    /// Routes of other components, such as `/metrics`.
    pub routes: Vec<ExtraRoute>,
    /// Answers `/api/v1/models`.
    pub models: ModelsSource,
    /// The daemons of other machines, which are asked for a request that wants them.
    pub peers: Peers,
    /// Answers `/api/v1/memory`. It blocks, so it is asked on the blocking pool.
    pub memory: Arc<dyn MemoryProbe>,
    /// The answer to `/api/v1/configuration`.
    pub configuration: ConfigurationPlace,
    /// The answer to `/openapi.json`: the text of [`openapi_document`](crate::openapi_document), generated beforehand.
    pub description: &'static str,
}

impl Api {
    /// Serves the listeners of `resources`, by the rules of `[daemon]`.
    pub fn build(context: &Context, mut resources: ApiResources) -> Self {
        let daemon = context.config().daemon();
        let access = TcpAccess {
            token: std::mem::take(&mut resources.token),
            hosts: daemon.hosts.clone(),
            user: match daemon.local_users {
                LocalUsers::Same => Some(geteuid().as_raw()),
                LocalUsers::Any => None,
            },
        };
        Self { bus: context.bus().clone(), lane: context.lane().clone(), access, resources }
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("listeners", &self.resources.listeners).finish_non_exhaustive()
    }
}

/// Serves the control socket, and those that replace it when its file is removed, until `cancel`.
async fn serve_control(
    first: ControlSocket,
    mut rebound: mpsc::Receiver<ControlSocket>,
    service: ApiService,
    cancel: CancellationToken,
) {
    let mut serving = FuturesUnordered::from_iter([serve(first, service.clone(), LIMITS, cancel.clone())]);
    loop {
        tokio::select! {
            ended = serving.next() => if ended.is_none() { return },
            Some(next) = rebound.recv() => serving.push(serve(next, service.clone(), LIMITS, cancel.clone())),
        }
    }
}

impl Component for Api {
    const NAME: &'static str = "api";
    const SENDS: &'static [CommandSetId] =
        &[CommandSetId::of::<SuperviseCommand>(), CommandSetId::of::<CanaryCommand>()];

    type Command = NoCommand;
    type Error = UnusablePath;

    async fn run(self, ports: Ports<NoCommand>) -> Result<(), UnusablePath> {
        let Self { bus, lane, access, resources } = self;
        let ApiResources { listeners, routes, models, peers, memory, configuration, description, .. } = resources;
        let reach = listeners.tcp.as_ref().map_or(ListenerReach::Loopback, ListenerReach::from);
        let host = listeners.tcp.as_ref().map(|tcp| tcp.host.clone());
        let (events, commands, cancel) = (ports.events, ports.commands, ports.cancel.clone());
        let app = Arc::new(AppState {
            bus,
            lane,
            events,
            commands,
            models,
            peers,
            memory,
            configuration,
            description,
            cancel,
        });
        let service = ApiService(router(Arc::clone(&app), &routes, RequestPolicy::new(reach, host, access))?);
        // Servers are configured by one event each. Connections wait until all of them are known, in the kernel's queue.
        let mut snapshots = app.bus.watch();
        tokio::select! {
            _ = snapshots.wait_for(|snapshot| snapshot.daemon.is_configured) => {}
            () = ports.cancel.cancelled() => return Ok(()),
        }
        let control = serve_control(listeners.control, listeners.rebound, service.clone(), ports.cancel.clone());
        match listeners.tcp {
            Some(tcp) => {
                tokio::join!(control, serve(tcp.listener, service, LIMITS, ports.cancel));
            }
            None => control.await,
        }
        Ok(())
    }
}
