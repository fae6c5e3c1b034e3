//! An executable that is asked what it is, and a server of it without a configuration of its own.

use std::path::{Path, PathBuf};

use llama_warden_config::{ConfigSource, Environment, HostEnvironment, ServerSpec};
use llama_warden_launcher::{
    BinaryProfile, EnvironmentPolicy, IdentifyError, Spawner, child_environment, identify, resolve,
};

use crate::exit::{Exit, Failure};
use crate::load::Loaded;

/// The absolute path of an executable.
pub fn locate(binary: &Path) -> Result<PathBuf, Failure> {
    let path = resolve(binary, std::env::var_os("PATH").as_deref());
    let path = path.map_err(|error| Failure::new(Exit::Failed, error).next_step("name the executable by its path"))?;
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::new(Exit::Failed, format!("there is no executable {}", path.display()))
        .next_step("name a llama-server, such as the one that `cargo xtask llama-server` prints"))
}

/// What an executable says of itself, in the environment that a server of it gets.
pub async fn ask(spec: &ServerSpec) -> Result<BinaryProfile, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::Failed, error);
    let policy = EnvironmentPolicy { pass: &spec.env_pass, set: &spec.env };
    let environment =
        child_environment(std::env::vars_os(), policy, None).map_err(|error| Failure::new(Exit::Usage, error))?;
    let spawner = Spawner::start().map_err(|error| failed(&error))?;
    identify(&spawner, &spec.binary, &environment).await.map_err(|error: IdentifyError| {
        failed(&error).next_step("see that `BINARY --help` works by hand; its output says which options there are")
    })
}

/// A server of `binary` with what the built-in defaults say, whatever is configured.
pub fn server(id: &str, binary: &Path, model: &Path, port: u16) -> Result<ServerSpec, Failure> {
    // A JSON string of a path is a TOML string too.
    let quoted = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
    let text =
        format!("[[servers]]\nid = \"{id}\"\nbinary = {}\nmodel = {}\nport = {port}\n", quoted(binary), quoted(model));
    let loaded = Loaded::parse(&ConfigSource::text("/", text.as_str()), Environment::default())?;
    let fleet = loaded.configuration.resolve(None, &HostEnvironment::current())?;
    let spec = fleet.get(id).map(|spec| ServerSpec::clone(spec));
    spec.ok_or_else(|| Failure::new(Exit::Failed, "the server that was just written is not there"))
}
