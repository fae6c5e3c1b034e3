//! A client of the daemon's HTTP API, over TCP and the control socket.
//!
//! Each request opens a connection of its own; a stream keeps its connection. Answers are decoded into the types of
//! `llama-warden-api-types`, which the daemon encodes them from.
//!
//! ```
//! use llama_warden_client::{Client, ClientError, DaemonAddress};
//!
//! let address: DaemonAddress = "unix:/run/llama-warden/control.sock".parse()?;
//! assert_eq!(address, DaemonAddress::Unix("/run/llama-warden/control.sock".into()));
//! // Without a port, an address means the default port.
//! let address: DaemonAddress = "http://gpu-box".parse()?;
//! assert_eq!(address.to_string(), "http://gpu-box:9888");
//!
//! // Connects at the first request.
//! let client = Client::new(address, Some("the content of token-file".to_owned()));
//!
//! async fn print_ready_servers(client: &Client) -> Result<(), ClientError> {
//!     for server in client.status().await?.servers.iter().filter(|server| server.is_ready) {
//!         println!("{} is {}", server.model_id, server.phase);
//!     }
//!     Ok(())
//! }
//! # Ok::<(), llama_warden_client::InvalidDaemonAddress>(())
//! ```

mod address;
mod client;
mod error;
mod options;
mod records;

pub use address::{DaemonAddress, InvalidDaemonAddress};
pub use client::Client;
pub use error::ClientError;
pub use options::{
    CanaryOptions, CommandOptions, EventRange, LogOptions, LogPosition, ReloadOptions, ServerAction, ShutdownMode,
    SwitchMode,
};
pub use records::Records;
