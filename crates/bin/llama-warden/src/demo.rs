//! What `demo` runs: three servers with tiny models in a temporary directory.

use std::ffi::{OsStr, OsString};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use llama_warden_config::ConfigSource;
use llama_warden_tiny_gguf::TinyModel;
use tempfile::TempDir;

use crate::exit::{Exit, Failure};

/// The `argv[0]` under which this program acts as a llama-server.
pub const STAND_IN: &str = "stand-in-llama-server";

/// Ids and names of the three servers.
const SERVERS: [(&str, &str); 3] = [("tiny_a", "Tiny A"), ("tiny_b", "Tiny B"), ("tiny_c", "Tiny C")];

/// A directory with three models, and a configuration that runs them. Gone when dropped.
#[derive(Debug)]
pub struct Demo {
    directory: TempDir,
    binary: Binary,
    text: String,
}

/// The llama-server that a demo runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binary {
    /// A real one on PATH.
    OnPath(PathBuf),
    /// The real one that `cargo xtask llama-server` installed.
    Installed(PathBuf),
    /// None was found: this program's own stand-in.
    StandIn(PathBuf),
}

impl Demo {
    /// Writes the models and finds a llama-server and free ports.
    ///
    /// # Errors
    /// Where the temporary directory cannot be written.
    pub fn prepare() -> Result<Self, Failure> {
        let failed = |what: &str, error: std::io::Error| {
            Failure::new(Exit::Failed, format!("cannot {what} for the demo: {error}"))
                .next_step("free some space in the temporary directory, or set TMPDIR to another one")
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
        let binary = match find(std::env::var_os("PATH").as_deref(), std::env::current_exe().ok().as_deref()) {
            Some(binary) => binary,
            None => stand_in(directory.path()).map_err(|error| failed("link the stand-in", error))?,
        };
        let ports = free_ports().map_err(|error| failed("find free ports", error))?;
        let text = configuration(directory.path(), binary.path(), ports);
        Ok(Self { directory, binary, text })
    }

    /// What it found to run.
    pub const fn binary(&self) -> &Binary {
        &self.binary
    }

    /// Its configuration.
    pub fn source(&self) -> ConfigSource {
        ConfigSource::text(self.directory.path(), self.text.as_str())
    }
}

impl Binary {
    /// The executable.
    pub fn path(&self) -> &Path {
        match self {
            Self::OnPath(path) | Self::Installed(path) | Self::StandIn(path) => path,
        }
    }

    /// What it is, for the demo's first line.
    pub fn describe(&self) -> String {
        let path = self.path().display();
        match self {
            Self::OnPath(_) => format!("the llama-server on PATH, {path}"),
            Self::Installed(_) => format!("the llama-server that `cargo xtask llama-server` installed, {path}"),
            Self::StandIn(_) => "the built-in stand-in, since no llama-server is on PATH; \
                                 `cargo xtask llama-server` installs a real one"
                .to_owned(),
        }
    }
}

/// A real llama-server: the first on `path`, else the installed one beside the folder of `this_program`.
fn find(path: Option<&OsStr>, this_program: Option<&Path>) -> Option<Binary> {
    let on_path = path.into_iter().flat_map(std::env::split_paths).map(|folder| folder.join("llama-server"));
    let installed =
        this_program.and_then(|program| Some(program.parent()?.parent()?.join("llama-server/current/llama-server")));
    on_path
        .filter(|candidate| candidate.is_absolute())
        .find(|candidate| is_executable(candidate))
        .map(Binary::OnPath)
        .or_else(|| installed.filter(|candidate| is_executable(candidate)).map(Binary::Installed))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok()
}

fn stand_in(directory: &Path) -> std::io::Result<Binary> {
    let link = directory.join(STAND_IN);
    symlink(std::env::current_exe()?, &link)?;
    Ok(Binary::StandIn(link))
}

/// Three ports that are free now. All are held until the last is found, so that no two are the same.
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

/// Whether these arguments ask this program to act as the stand-in.
pub fn is_stand_in(program: Option<&OsString>) -> bool {
    program.is_some_and(|program| Path::new(program).file_name() == Some(OsStr::new(STAND_IN)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Loaded;

    #[test]
    fn the_demo_is_a_valid_configuration_of_three_servers() {
        let demo = Demo::prepare().expect("a temporary directory");
        let loaded = Loaded::parse(&demo.source(), std::iter::empty::<(OsString, OsString)>().collect());
        let fleet = loaded.expect("valid").fleet(None).expect("no profile is named");
        assert_eq!(fleet.iter().filter(|spec| spec.enabled && spec.model.is_file()).count(), 3);
    }

    #[test]
    fn a_real_server_on_path_goes_before_the_installed_one() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let program = folder.path().join("release/llama-warden");
        let installed = folder.path().join("llama-server/current/llama-server");
        assert_eq!(find(None, Some(&program)), None);
        std::fs::create_dir_all(installed.parent().expect("a parent")).expect("writable");
        std::fs::copy("/bin/true", &installed).expect("writable");
        assert_eq!(find(None, Some(&program)), Some(Binary::Installed(installed.clone())));
        let path = installed.parent().expect("a parent").as_os_str();
        assert_eq!(find(Some(path), Some(&program)), Some(Binary::OnPath(installed)));
    }
}
