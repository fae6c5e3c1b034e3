//! Files that the daemon reads again when they change, and with each reload: of the API token and of the router's keys.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use llama_warden_bus::{BusClosed, Delivery};
use llama_warden_component::{Component, Ports, Worker};
use llama_warden_events::{NoCommand, Uptime};
use llama_warden_state::Snapshot;
use llama_warden_support::{KernelNotices, blocking, lock, next_notice};
use tokio::sync::watch;

use crate::file_watch::FileWatch;

/// Longest time from the first notice to the read, in a folder that changes all the time.
const LONGEST: Duration = Duration::from_secs(2);

/// A file and its parsed content. [`FileReader`] is the component that reads it again when it changes.
pub trait RereadFile: Clone + Send + Sync + 'static {
    /// The name of the component.
    const NAME: &'static str;

    /// Time without a notice before the file is read.
    const REST: Duration;

    /// The parsed content.
    type Value: Send + Sync;

    /// The file, with the content in force.
    fn watched(&self) -> &WatchedFile<Self::Value>;

    /// Reads the file again. Blocks on the file.
    fn reread(&self);
}

/// A file that is watched, and its parsed content.
#[derive(Debug)]
pub struct WatchedFile<T> {
    pub path: PathBuf,
    /// The content in force.
    pub value: watch::Sender<T>,
    watch: Mutex<FileWatch>,
    /// Of each change.
    notices: Option<Arc<KernelNotices>>,
}

impl<T> WatchedFile<T> {
    /// Watches the file from now on, within a tokio runtime. Calls `unwatched` if the kernel refuses to.
    pub fn new(path: &Path, value: T, unwatched: fn(&Path, &io::Error)) -> Self {
        let watch = FileWatch::new(path.to_owned(), unwatched);
        let notices = watch.notices();
        Self { path: path.to_owned(), value: watch::Sender::new(value), watch: Mutex::new(watch), notices }
    }

    /// Watches the file that has the name now. Called before each read, so that no change is missed.
    pub fn arm(&self) {
        lock(&self.watch).arm();
    }
}

/// Reads a file again when it changes.
#[derive(Debug)]
pub struct FileReader<F>(pub F);

impl<F: RereadFile> Component for FileReader<F> {
    const NAME: &'static str = F::NAME;

    type Command = NoCommand;
    type Error = BusClosed;

    async fn run(self, ports: Ports<NoCommand>) -> Result<(), BusClosed> {
        ports.drive(ReaderWorker { file: self.0, changed_at: None, look_at: None }).await
    }
}

struct ReaderWorker<F> {
    file: F,
    /// When the first notice since the latest read came.
    changed_at: Option<Uptime>,
    look_at: Option<Uptime>,
}

impl<F: RereadFile> Worker for ReaderWorker<F> {
    type Command = NoCommand;
    type Error = BusClosed;
    type Input = ();

    async fn on_start(&mut self, _: &Snapshot, now: Uptime) -> Result<(), BusClosed> {
        // The file may have changed since it was read and before it was watched.
        self.on_input((), now).await
    }

    async fn on_event(&mut self, _: Delivery, _: Uptime) -> Result<(), BusClosed> {
        Ok(())
    }

    async fn next_input(&mut self) {
        next_notice(self.file.watched().notices.as_deref()).await;
    }

    async fn on_input(&mut self, (): (), now: Uptime) -> Result<(), BusClosed> {
        let first = *self.changed_at.get_or_insert(now);
        self.look_at = Some((now + F::REST).min(first + LONGEST));
        Ok(())
    }

    fn next_deadline(&self) -> Option<Uptime> {
        self.look_at
    }

    async fn on_deadline(&mut self, now: Uptime) -> Result<(), BusClosed> {
        if self.look_at.take_if(|due| *due <= now).is_some() {
            self.changed_at = None;
            let file = self.file.clone();
            // Fails only when the runtime ends.
            let _ = blocking(move || file.reread()).await;
        }
        Ok(())
    }
}
