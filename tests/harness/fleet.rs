//! Builds the configuration of a daemon, with the models and the stand-in scripts that its servers need.
//!
//! Paths are in the sandbox and ports are leased, so that tests do not disturb each other.

use std::path::{Path, PathBuf};

use llama_warden_stand_in::Script;
use llama_warden_tiny_gguf::TinyModel;
use serde_json::json;

use crate::port::Port;

/// A configuration under construction.
#[derive(Debug)]
pub struct TestFleet {
    name: String,
    directory: PathBuf,
    binary: PathBuf,
    listen: Port,
    daemon: String,
    llama_server: String,
    sections: String,
    servers: Vec<Server>,
}

#[derive(Debug)]
struct Server {
    id: String,
    model: PathBuf,
    port: Port,
    /// Further keys of its table, as lines of TOML.
    keys: String,
}

impl TestFleet {
    /// A fleet without servers. `name` is the prefix of its files; `binary` is the llama-server that runs its servers.
    pub(crate) fn new(name: &str, directory: &Path, binary: PathBuf) -> Self {
        std::fs::create_dir_all(directory.join("models")).expect("the sandbox can be written");
        Self {
            name: name.to_owned(),
            directory: directory.to_owned(),
            binary,
            listen: Port::lease(),
            daemon: String::new(),
            llama_server: String::new(),
            sections: String::new(),
            servers: Vec::new(),
        }
    }

    /// Adds a server with a valid model, whose stand-in follows `script`.
    pub fn server(&mut self, id: &str, script: Script) -> &mut Self {
        self.server_with(id, script, "")
    }

    /// As [`Self::server`], with further keys as lines of TOML. A `port` among them replaces the leased one, and a comment
    /// `# port` leaves it out.
    pub fn server_with(&mut self, id: &str, script: Script, keys: &str) -> &mut Self {
        let model = self.model(id);
        TinyModel::new(id).write(&model).expect("the sandbox can be written");
        script.write_beside(&model).expect("the sandbox can be written");
        self.server_of(id, &model, keys)
    }

    /// Adds a server of the model at `model`, which the test itself creates or leaves out.
    pub fn server_of(&mut self, id: &str, model: &Path, keys: &str) -> &mut Self {
        let (id, model, keys) = (id.to_owned(), model.to_owned(), keys.to_owned());
        self.servers.push(Server { id, model, port: Port::lease(), keys });
        self
    }

    /// Takes a server out, for the next configuration.
    pub fn remove(&mut self, id: &str) -> &mut Self {
        self.servers.retain(|server| server.id != id);
        self
    }

    /// Adds keys to a server, as lines of TOML, for the next configuration.
    pub fn change(&mut self, id: &str, keys: &str) -> &mut Self {
        for server in self.servers.iter_mut().filter(|server| server.id == id) {
            server.keys += keys;
        }
        self
    }

    /// Replaces the further keys of a server, for the next configuration.
    pub fn replace_keys(&mut self, id: &str, keys: &str) -> &mut Self {
        for server in self.servers.iter_mut().filter(|server| server.id == id) {
            keys.clone_into(&mut server.keys);
        }
        self
    }

    /// Replaces the script of a server; its stand-in follows the new one from the next launch on.
    pub fn rewrite(&self, id: &str, script: &Script) {
        script.write_beside(&self.model(id)).expect("the sandbox can be written");
    }

    /// Adds keys to `[daemon]`.
    pub fn daemon(&mut self, keys: &str) -> &mut Self {
        self.daemon.push_str(keys);
        self.daemon.push('\n');
        self
    }

    /// Adds keys to `[llama-server]`.
    pub fn llama_server(&mut self, keys: &str) -> &mut Self {
        self.llama_server.push_str(keys);
        self.llama_server.push('\n');
        self
    }

    /// Adds whole sections.
    pub fn section(&mut self, toml: &str) -> &mut Self {
        self.sections.push_str(toml);
        self.sections.push('\n');
        self
    }

    /// Sets the llama-server that runs the servers.
    pub fn binary(&mut self, program: &Path) -> &mut Self {
        self.binary = program.to_owned();
        self
    }

    /// The path of the model that [`Self::server`] writes.
    pub fn model(&self, id: &str) -> PathBuf {
        self.directory.join("models").join(format!("{id}.gguf"))
    }

    /// The leased port of a server.
    ///
    /// # Panics
    /// If there is no such server.
    pub fn port(&self, id: &str) -> u16 {
        let server = self.servers.iter().find(|server| server.id == id);
        server.unwrap_or_else(|| panic!("no server {id}")).port.number()
    }

    /// The leased port of the daemon's HTTP listener.
    pub fn listen(&self) -> u16 {
        self.listen.number()
    }

    /// The daemon's state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.directory.join(format!("{}-state", self.name))
    }

    /// The path of the configuration file.
    pub fn path(&self) -> PathBuf {
        self.directory.join(format!("{}.toml", self.name))
    }

    /// The configuration as TOML.
    pub fn toml(&self) -> String {
        // A JSON string without control characters is also a TOML string.
        let quoted = |path: &Path| json!(path.to_string_lossy()).to_string();
        let mut toml = String::from("[daemon]\n");
        let mut line = |text: String| {
            toml.push_str(&text);
            toml.push('\n');
        };
        // A test that sets these keys itself replaces the defaults.
        if !self.daemon.contains("listen") {
            line(format!("listen = \"127.0.0.1:{}\"", self.listen()));
        }
        if !self.daemon.contains("state-dir") {
            line(format!("state-dir = {}", quoted(&self.state_dir())));
        }
        line(self.daemon.clone());
        line(format!("[llama-server]\nbinary = {}\n{}", quoted(&self.binary), self.llama_server));
        line(self.sections.clone());
        if !self.sections.contains("[restart]") {
            // Most tests examine one launch, and a restart after its failure would hide it.
            line("[restart]\npolicy = \"never\"".to_owned());
        }
        for Server { id, model, port, keys } in &self.servers {
            line(format!("[[servers]]\nid = \"{id}\"\nmodel = {}", quoted(model)));
            if !keys.lines().any(|key| key.trim_start_matches([' ', '#']).starts_with("port")) {
                line(format!("port = {}", port.number()));
            }
            line(keys.clone());
        }
        toml
    }

    /// Writes the configuration file and returns its path. The file is replaced in one step, since a daemon may be
    /// reading it.
    pub fn write(&self) -> PathBuf {
        let path = self.path();
        let new = path.with_extension("toml.new");
        std::fs::write(&new, self.toml())
            .and_then(|()| std::fs::rename(&new, &path))
            .expect("the sandbox can be written");
        path
    }
}
