//! A component of your own: writes a page, here a line in a file, when llama-warden gives a server up.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;

use llama_warden::component::{
    BlockingError, BusClosed, Component, Context, Delivery, Event, EventDraft, NoCommand, Ports, Publisher, Uptime,
    Worker, blocking,
};

/// Reads `[extensions.pager]`: `file` is the file that pages are appended to, below the state directory.
#[derive(Debug)]
pub struct Pager {
    file: Option<PathBuf>,
}

struct PagerWorker {
    file: PathBuf,
    events: Publisher,
}

#[derive(Debug, thiserror::Error)]
pub enum PagerError {
    #[error("set `file` in [extensions.pager]")]
    NoFile,
    #[error("cannot append a page to the file")]
    File(#[from] io::Error),
    #[error(transparent)]
    Blocking(#[from] BlockingError),
    #[error(transparent)]
    Bus(#[from] BusClosed),
}

impl Pager {
    pub fn new(context: &Context) -> Self {
        let file = context.config().extension(Self::NAME).and_then(|table| table.get("file")?.as_str());
        Self { file: file.map(|file| context.state_dir().join(file)) }
    }
}

impl Component for Pager {
    const NAME: &'static str = "pager";
    type Command = NoCommand;
    type Error = PagerError;

    async fn run(self, ports: Ports<NoCommand>) -> Result<(), PagerError> {
        let worker = PagerWorker { file: self.file.ok_or(PagerError::NoFile)?, events: ports.events.clone() };
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
        let (file, line) = (self.file.clone(), format!("{} {server}: {because}\n", envelope.at));
        // The loop never blocks: other components share its thread.
        blocking(move || OpenOptions::new().append(true).create(true).open(file)?.write_all(line.as_bytes())).await??;
        let sent = Event::extension(Pager::NAME, "PageSent", server.as_str());
        Ok(self.events.publish(EventDraft::server(server.clone(), sent).because(envelope.seq)).await?)
    }
}
