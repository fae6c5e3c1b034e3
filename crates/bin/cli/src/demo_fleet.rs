//! Prepares the fleet of `demo`: three servers with tiny models in a temporary directory.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use llama_warden_config::ConfigSource;
use llama_warden_exit::CommandFailure;
use llama_warden_support::{find_program, is_executable};
use llama_warden_tiny_gguf::TinyModel;
use tempfile::TempDir;

/// The `argv[0]` under which this program acts as a llama-server.
const STAND_IN: &str = "stand-in-llama-server";

/// The ids and display names of the servers.
const SERVERS: [(&str, &str); 3] = [("tiny_a", "Tiny A"), ("tiny_b", "Tiny B"), ("tiny_c", "Tiny C")];

/// A directory with the models, and a configuration that runs them. Dropping it deletes the directory.
#[derive(Debug)]
pub struct DemoFleet {
    _directory: TempDir,
    binary: DemoBinary,
    source: ConfigSource,
}

/// The llama-server that a demo runs.
#[derive(Debug, PartialEq, Eq)]
struct DemoBinary {
    path: PathBuf,
    /// Its origin, for the demo's first line.
    description: String,
}

impl DemoFleet {
    /// Writes the models, and finds a llama-server and free ports.
    ///
    /// # Errors
    /// The temporary directory cannot be written, or the kernel has no free port.
    pub fn prepare() -> Result<Self, CommandFailure> {
        let failed = |what: &str, error: std::io::Error| {
            let next_step = match error.kind() {
                ErrorKind::StorageFull => "free some space in the temporary directory, or set TMPDIR to another one",
                _ => "set TMPDIR to a directory that exists and can be written",
            };
            CommandFailure::failed(format!("cannot {what} for the demo: {error}")).next_step(next_step)
        };
        let directory = tempfile::Builder::new()
            .prefix("llama-warden-demo-")
            .tempdir()
            .map_err(|error| failed("make a directory", error))?;
        for (seed, (id, name)) in SERVERS.iter().enumerate() {
            let model = TinyModel::new(*name).seed(seed as u64 + 1);
            let path = directory.path().join(format!("{id}.gguf"));
            model.write(&path).map_err(|error| failed("write a model", error))?;
        }
        let binary =
            match DemoBinary::find(std::env::var_os("PATH").as_deref(), std::env::current_exe().ok().as_deref()) {
                Some(binary) => binary,
                None => DemoBinary::stand_in(directory.path()).map_err(|error| failed("link the stand-in", error))?,
            };
        let ports = free_ports().map_err(|error| failed("find free ports", error))?;
        // A file, so that commands can read it too.
        let file = directory.path().join("llama-warden.toml");
        std::fs::write(&file, configuration(directory.path(), &binary.path, ports))
            .map_err(|error| failed("write the configuration", error))?;
        let source = ConfigSource::read(&file, directory.path())?;
        Ok(Self { _directory: directory, binary, source })
    }

    /// The llama-server that it runs, in words.
    pub fn binary(&self) -> &str {
        &self.binary.description
    }

    /// Its configuration.
    pub fn source(&self) -> &ConfigSource {
        &self.source
    }
}

impl DemoBinary {
    /// A real llama-server: the first on `path`, otherwise the one that `cargo xtask llama-server` installed beside the
    /// folder of `this_program`.
    fn find(path: Option<&OsStr>, this_program: Option<&Path>) -> Option<Self> {
        let installed = || {
            let folder = this_program?.parent()?.parent()?;
            let path = folder.join("llama-server/current/llama-server");
            is_executable(&path).then_some((path, "the installed llama-server"))
        };
        let on_path = find_program(Path::new("llama-server"), path).ok();
        let (path, what) = on_path.map(|path| (path, "the llama-server on PATH")).or_else(installed)?;
        Some(Self { description: format!("{what}, {}", path.display()), path })
    }

    /// This program itself, called by the name of the stand-in.
    fn stand_in(directory: &Path) -> std::io::Result<Self> {
        let path = directory.join(STAND_IN);
        symlink(std::env::current_exe()?, &path)?;
        let description = "the built-in stand-in, since no llama-server is on PATH";
        Ok(Self { path, description: description.to_owned() })
    }
}

/// Three ports that are free now. All stay bound until the last is found, so that no two are the same.
fn free_ports() -> std::io::Result<[u16; 3]> {
    let bind = || TcpListener::bind(("127.0.0.1", 0));
    let held = [bind()?, bind()?, bind()?];
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

fn configuration(directory: &Path, binary: &Path, ports: [u16; 3]) -> String {
    let quoted = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
    let mut text = format!(
        "[daemon]\nstate-dir = {}\n[llama-server]\nbinary = {}\n[flags]\nctx-size = 512\n",
        quoted(&directory.join("state")),
        quoted(binary)
    );
    for ((id, name), port) in SERVERS.iter().zip(ports) {
        text.push_str(&format!(
            "[[servers]]\nid = \"{id}\"\ndisplay-name = \"{name}\"\nmodel = \"{id}.gguf\"\nport = {port}\n"
        ));
    }
    text
}

/// Whether the program was started under the name of the stand-in.
pub fn is_stand_in(program: Option<&OsStr>) -> bool {
    program.is_some_and(|program| Path::new(program).file_name() == Some(OsStr::new(STAND_IN)))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use llama_warden_inventory::LoadedConfig;

    #[test]
    fn the_demo_is_a_valid_configuration_of_three_servers() {
        let demo = DemoFleet::prepare().expect("a temporary directory");
        let loaded = LoadedConfig::parse(demo.source(), std::iter::empty::<(OsString, OsString)>().collect());
        let fleet = loaded.expect("valid").fleet(None).expect("no profile is named");
        assert_eq!(fleet.iter().filter(|spec| spec.enabled && spec.model.is_file()).count(), 3);
    }

    #[test]
    fn a_real_server_on_path_goes_before_the_installed_one() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let program = folder.path().join("release/llama-warden");
        let installed = folder.path().join("llama-server/current/llama-server");
        let find = |path| DemoBinary::find(path, Some(&program)).map(|binary| (binary.path, binary.description));
        assert_eq!(find(None), None);
        std::fs::create_dir_all(installed.parent().expect("a parent")).expect("writable");
        std::fs::copy("/bin/true", &installed).expect("writable");
        let (found, description) = find(None).expect("installed");
        assert_eq!((&found, description.contains("installed")), (&installed, true));
        let path = installed.parent().expect("a parent").as_os_str();
        let (found, description) = find(Some(path)).expect("on PATH");
        assert_eq!((&found, description.contains("on PATH")), (&installed, true));
    }
}
