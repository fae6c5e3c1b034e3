//! Asks llama-server executables for their version and options.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use llama_warden_config::{ConfigSource, Environment, HostEnvironment, ServerSpec};
use llama_warden_dialects::BinaryProfile;
use llama_warden_events::OptionNote;
use llama_warden_exit::CommandFailure;
use llama_warden_inventory::LoadedConfig;
use llama_warden_launcher::{
    ChildEnvironment, EnvironmentPolicy, GuardianProgram, IdentifyError, Spawner, child_environment, identify,
};
use llama_warden_support::{NotInPath, find_program, masked_variable};

/// The absolute path of an executable that is named by a path or by a name on PATH.
pub fn find(binary: &Path) -> Result<PathBuf, NotInPath> {
    find_program(binary, std::env::var_os("PATH").as_deref())
}

/// The absolute path of an existing executable, for commands that are given one.
pub fn locate(binary: &Path) -> Result<PathBuf, CommandFailure> {
    let path =
        find(binary).map_err(|error| CommandFailure::usage(error).next_step("name the executable by its path"))?;
    if path.is_file() {
        return Ok(path);
    }
    Err(CommandFailure::usage(format!("there is no executable {}", path.display()))
        .next_step("name a llama-server by its path; `command -v llama-server` prints the one on PATH"))
}

/// The version and options of the executable at `path`, run in the environment that a server of `spec` gets. The inner
/// error is the executable's own failure.
pub async fn ask(spec: &ServerSpec, path: &Path) -> Result<Result<BinaryProfile, IdentifyError>, CommandFailure> {
    let environment = environment(spec)?;
    Ok(match Spawner::start(GuardianProgram::default()) {
        Ok(spawner) => identify(&spawner, path, &environment).await,
        Err(source) => Err(IdentifyError::NotRun { path: path.to_owned(), argument: "--help", source }),
    })
}

/// The environment that a server of `spec` gets from a daemon with the environment of this process.
fn environment(spec: &ServerSpec) -> Result<ChildEnvironment, CommandFailure> {
    let policy = EnvironmentPolicy { pass: &spec.env_pass, set: &spec.env };
    child_environment(std::env::vars_os(), policy, None).map_err(CommandFailure::usage)
}

/// The same as it may be shown, secrets replaced.
pub fn shown_environment(spec: &ServerSpec) -> Result<BTreeMap<String, String>, CommandFailure> {
    Ok(environment(spec)?.into_iter().map(|(name, value)| masked(&name, &value)).collect())
}

/// The environment that a process was started with, secrets masked; empty if the kernel does not show it to this user.
pub fn environment_of(pid: u32) -> BTreeMap<String, String> {
    let bytes = llama_warden_procfs::environment(pid);
    let entries = bytes.split(|byte| *byte == 0).filter_map(|entry| {
        let at = entry.iter().position(|byte| *byte == b'=')?;
        Some(masked(OsStr::from_bytes(&entry[..at]), OsStr::from_bytes(&entry[at + 1..])))
    });
    entries.collect()
}

fn masked(name: &OsStr, value: &OsStr) -> (String, String) {
    let (name, value) = (name.to_string_lossy().into_owned(), value.to_string_lossy());
    let value = masked_variable(&name, &value).into_owned();
    (name, value)
}

/// A server of `binary` with the built-in defaults, independent of any configuration.
pub fn default_spec(id: &str, binary: &Path, model: &Path, port: u16) -> Result<ServerSpec, CommandFailure> {
    // A JSON string of a path is a TOML string too.
    let quoted = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
    let text =
        format!("[[servers]]\nid = \"{id}\"\nbinary = {}\nmodel = {}\nport = {port}\n", quoted(binary), quoted(model));
    let loaded = LoadedConfig::parse(&ConfigSource::text("/", text.as_str()), Environment::default())?;
    let fleet = loaded.configuration.resolve(None, &HostEnvironment::current())?;
    let spec = fleet.get(id).map(|spec| ServerSpec::clone(spec));
    spec.ok_or_else(|| CommandFailure::failed("the server that was just written is not there"))
}

/// The translation of an option in one line.
pub fn describe_note(note: &OptionNote) -> String {
    let spelled = if note.spelled.is_empty() { "nothing".to_owned() } else { note.spelled.to_vec().join(" ") };
    format!("{} -> {spelled}: {}", note.option, note.because)
}
