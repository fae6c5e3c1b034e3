//! The inventory of this machine: the configuration, with its problems shown, and the servers that discovered models become.

mod load;
mod models;
mod ports;
mod report;

pub use llama_warden_state_files::{KeptServer, KeptServers, PortFile};
pub use load::{LoadedConfig, control_socket, print_problems, print_warnings, slot_folders};
pub use models::{DiscoveryOutcome, FormerModels, Inventory, ModelFolders, discover_servers, search};
pub use ports::another_port;
pub use report::{KnownModel, ModelsReport, word};
