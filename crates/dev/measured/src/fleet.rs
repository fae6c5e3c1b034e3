//! Configures stand-ins that take a given time to load and to stop.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use llama_warden_test_parts::error::{Error, OnPath};

use crate::ports;
use crate::programs::{self, Programs, quoted};

/// How long a server takes to load and to stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// From the start of the process to its ready line.
    pub load: Duration,
    /// From TERM to the end of the process.
    pub stop: Duration,
}

/// Servers that start on request only.
#[derive(Debug)]
pub struct StandInFleet {
    /// Ids in the order of the paces.
    pub ids: Vec<String>,
    /// The configuration of the servers and of the executable.
    pub sections: String,
}

impl StandInFleet {
    /// Configures one server for each pace, and writes models and scripts into `folder`.
    ///
    /// # Errors
    /// When a file cannot be written, or there are not enough free ports.
    pub fn write(programs: &Programs, folder: &Path, paces: &[Pace]) -> Result<Self, Error> {
        let mut sections = format!("[llama-server]\nbinary = {}\n", quoted(&programs.stand_in));
        let ids: Vec<String> = (0..paces.len()).map(|number| format!("s{number:03}")).collect();
        for ((id, pace), port) in ids.iter().zip(paces).zip(ports::free_ports(paces.len())?) {
            let (load, stop) = (pace.load.as_millis(), pace.stop.as_millis());
            let model = programs::model(folder, &format!("load-{load}-stop-{stop}"), 0)?;
            let script = model.with_extension("gguf.stand-in.json");
            let term = if stop == 0 { String::new() } else { format!(r#", "term": {{"slow": {stop}}}"#) };
            fs::write(&script, format!(r#"{{"load_ms": {load}{term}}}"#)).on("write", &script)?;
            let model = quoted(&model);
            // Writing into a string cannot fail.
            let _ = writeln!(sections, "[[servers]]\nid = \"{id}\"\nmodel = {model}\nport = {port}\nenabled = false");
        }
        Ok(Self { ids, sections })
    }

    /// Adds the profile `name` with the servers `ids`.
    pub fn add_profile(&mut self, name: &str, ids: &[String]) {
        let _ = writeln!(self.sections, "[profiles.{name}]\nservers = {ids:?}");
    }
}
