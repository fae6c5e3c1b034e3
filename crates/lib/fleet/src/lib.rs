//! The servers of a configuration, validated and with every default filled in: [`Fleet`] and [`ServerSpec`], their verbatim
//! arguments as llama-server reads them, the keys that they ask clients for, how requests are routed
//! to them, and the settings of the daemon.

mod address;
mod arguments;
mod key_source;
mod model_repository;
mod peers;
mod routing;
mod server_spec;
mod settings;

pub use address::{InvalidListenAddress, ListenAddress, RouterAddress, TcpAddress, is_host_name};
pub use arguments::{WrittenAt, WrittenOption, written_options};
pub use key_source::{COMMENTS_ARE_KEYS, KeyError, KeySource};
pub use model_repository::{REPOSITORY_PREFIX, is_repository};
pub use peers::{InvalidPeerUrl, PeerSettings, PeerUrl};
pub use routing::{JsonObject, MaxLoaded, Progress, RouterSettings, RouterSpec, ServerGroup, ServerPattern};
pub use server_spec::*;
pub use settings::{
    AdmissionPolicy, DaemonSettings, HostEnvironment, LocalUsers, LogSettings, MetricsSettings, OnDaemonDeath,
    StartSettings,
};
