//! Servers for a daemon that is measured: stand-ins that take the time that they are told to load and to stop.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use xtask::error::{Error, OnPath};

use crate::programs::{self, Programs, quoted};

/// How long a server takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// From its start to its ready line.
    pub load: Duration,
    /// From TERM to its end.
    pub stop: Duration,
}

/// Servers that are configured and start when they are asked to.
#[derive(Debug)]
pub struct StandInFleet {
    /// In order.
    pub ids: Vec<String>,
    /// Their part of a configuration, with the executable.
    pub sections: String,
}

impl StandInFleet {
    /// Configures a server for each pace; their models and scripts are written into `folder`.
    ///
    /// # Errors
    /// Whatever the file system says, or when there are no free ports.
    pub fn write(programs: &Programs, folder: &Path, paces: &[Pace]) -> Result<Self, Error> {
        let mut sections = format!("[llama-server]\nbinary = {}\n", quoted(&programs.stand_in));
        let ids: Vec<String> = (0..paces.len()).map(|number| format!("s{number:03}")).collect();
        for ((id, pace), port) in ids.iter().zip(paces).zip(programs::free_ports(paces.len())?) {
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

    /// Adds a profile of some of them.
    pub fn add_profile(&mut self, name: &str, ids: &[String]) {
        let _ = writeln!(self.sections, "[profiles.{name}]\nservers = {ids:?}");
    }
}
