//! A component of your own: writes a page, here a line in a file, when llama-warden gives a server up.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;

use llama_warden::component::{
    BlockingError, BusClosed, Component, ConfigProblem, Context, Delivery, Event, EventDraft, NoCommand, Ports, Publisher, Uptime,
    Worker, blocking,
};

/// Appends pages to a file below the state directory.
#[derive(Debug)]
pub struct Pager {
    file: PathBuf,
}

/// The table `[extensions.pager]`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    file: PathBuf,
}

struct PagerWorker {
    file: PathBuf,
    events: Publisher,
}

#[derive(Debug, thiserror::Error)]
pub enum PagerError {
    #[error("set `file` in [extensions.pager]")]
    NoTable,
    #[error("its settings are wrong")]
    Settings(#[from] Box<ConfigProblem>),
    #[error("cannot append a page to the file")]
    File(#[from] io::Error),
    #[error(transparent)]
    Blocking(#[from] BlockingError),
    #[error(transparent)]
    Bus(#[from] BusClosed),
}

impl Pager {
    /// An error ends the start of the daemon. It is shown at its place in the configuration.
    pub fn build(context: &Context) -> Result<Self, PagerError> {
        let settings: Option<Settings> = context.config().extension_settings(Self::NAME)?;
        Ok(Self { file: context.state_dir().join(settings.ok_or(PagerError::NoTable)?.file) })
    }
}

impl Component for Pager {
    const NAME: &'static str = "pager";
    type Command = NoCommand;
    type Error = PagerError;

    async fn run(self, ports: Ports<NoCommand>) -> Result<(), PagerError> {
        // An error here ends the daemon in order: nobody would notice later that no page can be sent.
        append(self.file.clone(), String::new()).await?;
        let worker = PagerWorker { file: self.file, events: ports.events.clone() };
        ports.drive(worker).await
    }
}

impl Worker for PagerWorker {
    type Command = NoCommand;
    type Error = PagerError;
    type Input = ();

    async fn on_event(&mut self, delivery: Delivery, _now: Uptime) -> Result<(), PagerError> {
        // After a gap no page is sent: `status` lists the servers that were given up meanwhile.
        let Delivery::Event(envelope) = delivery else { return Ok(()) };
        let (Event::RestartAbandoned { because, .. }, Some(server)) = (&envelope.event, &envelope.server) else {
            return Ok(());
        };
        append(self.file.clone(), format!("{} {server}: {because}\n", envelope.at)).await?;
        let sent = Event::extension(Pager::NAME, "PageSent", server.as_str());
        Ok(self.events.publish(EventDraft::server(server.clone(), sent).because(envelope.seq)).await?)
    }
}

/// Off the thread of the loop, which other components share.
async fn append(file: PathBuf, line: String) -> Result<(), PagerError> {
    Ok(blocking(move || OpenOptions::new().append(true).create(true).open(file)?.write_all(line.as_bytes())).await??)
}
