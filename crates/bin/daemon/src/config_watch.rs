//! The component that requests a reload when the configuration file changes.
//!
//! It watches the file's folder and the folder of the link's target, not the file: editors and Kubernetes replace files by
//! renames and symbolic links. It compares the text with the latest one that it read, so that neither a touch nor our own
//! reading requests anything. The first text is the one that the daemon started with, so that a change during the start is
//! not lost.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use llama_warden_bus::{Accepted, BusClosed, CommandSender, CommandSetId, Delivery};
use llama_warden_component::{Component, Ports, Worker, next_task};
use llama_warden_events::{NoCommand, RefusalReason, Refused, SuperviseCommand, Uptime};
use llama_warden_support::try_thread;
use nix::errno::Errno;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};

/// Time without a notice before the file is read: a writer may need several writes.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Longest time from a notice to a read, in a folder that never comes to rest.
const LONGEST: Duration = Duration::from_secs(2);

/// Watches a configuration file.
#[derive(Debug)]
pub struct ConfigWatch {
    path: PathBuf,
    /// The latest text of the file; `None` if it could not be read.
    text: Option<Arc<str>>,
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    /// Notified on each change. It stores one permit, so a change between two waits is not lost, and many become one.
    changes: Arc<Notify>,
}

impl ConfigWatch {
    /// Watches the file at `path`, which contained `text` when it was read.
    ///
    /// # Errors
    /// The kernel refuses a watch.
    pub fn new(path: &Path, text: Arc<str>) -> notify::Result<Self> {
        // The library panics where the kernel gives it no thread, and aborts the process when it is dropped then.
        try_thread().map_err(notify::Error::io)?;
        let changes = Arc::new(Notify::new());
        let notifier = changes.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error means that notices may be lost: it notifies too, since reading the file finds a change anyway.
            if event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                return;
            }
            notifier.notify_one();
        })?;
        let mut watch = Self { path: path.to_owned(), text: Some(text), watcher, watched: BTreeSet::new(), changes };
        watch.arm()?;
        // Reads once for changes before the watch was armed.
        watch.changes.notify_one();
        Ok(watch)
    }

    /// Watches the folders of the path and of its present target, and no others.
    fn arm(&mut self) -> notify::Result<()> {
        let target = fs::canonicalize(&self.path).ok();
        let files = [Some(&self.path), target.as_ref()];
        let folders: BTreeSet<PathBuf> =
            files.into_iter().flatten().filter_map(|file| file.parent()).map(Path::to_owned).collect();
        for gone in self.watched.difference(&folders) {
            // Fails if the folder is gone, and the watch with it.
            let _ = self.watcher.unwatch(gone);
        }
        // All of them, watched or not: a folder may have been replaced by another of the same name.
        for folder in &folders {
            self.watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        self.watched = folders;
        Ok(())
    }

    /// Reads the file, and returns whether its text is new or it can no longer be read.
    ///
    /// # Errors
    /// The daemon is out of descriptors or memory, which says nothing about the file.
    fn has_changed(&mut self) -> io::Result<bool> {
        if let Err(error) = self.arm() {
            let path = self.path.display();
            tracing::warn!(%path, %error, "the configuration may no longer be watched; send HUP after a change");
        }
        let text = match fs::read_to_string(&self.path) {
            Err(error) if is_exhaustion(&error) => return Err(error),
            text => text.ok(),
        };
        let changed = text.as_deref() != self.text.as_deref();
        if changed {
            self.text = text.map(Arc::<str>::from);
        }
        Ok(changed)
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM))
}

impl Component for ConfigWatch {
    const NAME: &'static str = "config-watch";
    const SENDS: &'static [CommandSetId] = &[CommandSetId::of::<SuperviseCommand>()];

    type Command = NoCommand;
    type Error = BusClosed;

    async fn run(self, ports: Ports<NoCommand>) -> Result<(), BusClosed> {
        let worker = WatchWorker {
            watch: self,
            commands: ports.commands.clone(),
            changed_at: None,
            read_at: None,
            replies: JoinSet::new(),
        };
        ports.drive(worker).await
    }
}

struct WatchWorker {
    watch: ConfigWatch,
    commands: CommandSender,
    /// The first notice since the file was read.
    changed_at: Option<Uptime>,
    /// When the file is read next.
    read_at: Option<Uptime>,
    /// The answers to reloads.
    replies: JoinSet<Result<Accepted, Refused>>,
}

/// Wakes the watch.
enum WatchInput {
    /// Something in a watched folder changed.
    Changed,
    /// The supervisor answered a reload.
    Answered(Result<Result<Accepted, Refused>, JoinError>),
}

impl Worker for WatchWorker {
    type Command = NoCommand;
    type Error = BusClosed;
    type Input = WatchInput;

    async fn on_event(&mut self, _: Delivery, _: Uptime) -> Result<(), BusClosed> {
        Ok(())
    }

    async fn next_input(&mut self) -> WatchInput {
        tokio::select! {
            () = self.watch.changes.notified() => WatchInput::Changed,
            answer = next_task(&mut self.replies) => WatchInput::Answered(answer),
        }
    }

    async fn on_input(&mut self, input: WatchInput, now: Uptime) -> Result<(), BusClosed> {
        match input {
            WatchInput::Changed => {
                // Each notice puts the read off, but never beyond LONGEST after the first one.
                let first = *self.changed_at.get_or_insert(now);
                let due = (now.as_duration() + DEBOUNCE).min(first.as_duration() + LONGEST);
                self.read_at = Some(Uptime::new(due));
            }
            // An invalid configuration is published as an event, with its problems.
            WatchInput::Answered(Ok(Err(refused))) if refused.reason != RefusalReason::InvalidConfiguration => {
                tracing::warn!(%refused, "the changed configuration is not loaded");
            }
            WatchInput::Answered(_) => {}
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<Uptime> {
        self.read_at
    }

    async fn on_deadline(&mut self, now: Uptime) -> Result<(), BusClosed> {
        (self.changed_at, self.read_at) = (None, None);
        match self.watch.has_changed() {
            Ok(true) => {
                let trigger = format!("a change of {}", self.watch.path.display());
                self.replies.spawn(self.commands.post(SuperviseCommand::Reload { trigger }));
            }
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(%error, "the configuration cannot be read now; retrying");
                self.read_at = Some(Uptime::new(now.as_duration() + LONGEST));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use llama_warden_bus::{Bus, CommandReceiver, CommandRouter, Inbox};
    use llama_warden_events::{BootId, Refused};
    use tokio::task::JoinHandle;
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// Longest time for a request that must come.
    const PATIENCE: Duration = Duration::from_secs(20);

    struct Watched {
        inbox: CommandReceiver<SuperviseCommand>,
        task: JoinHandle<Result<(), BusClosed>>,
        cancel: CancellationToken,
    }

    fn watch(path: &Path, text: &str) -> Watched {
        let (bus, events) = Bus::start(BootId::from_random(1), 16);
        let mut router = CommandRouter::new(bus.clone());
        let cancel = CancellationToken::new();
        let ports = Ports {
            events,
            commands: router.sender(),
            inbox: Inbox::new(bus.subscribe("config-watch"), router.own("config-watch").expect("free")),
            clock: bus.clock(),
            cancel: cancel.clone(),
        };
        let inbox = router.own("test").expect("free");
        let watch = ConfigWatch::new(path, text.into()).expect("the kernel has watches");
        Watched { inbox, task: tokio::spawn(watch.run(ports)), cancel }
    }

    impl Watched {
        async fn expect_reload(&mut self, what: &str) {
            let request = tokio::time::timeout(PATIENCE, self.inbox.recv()).await.expect(what);
            assert!(matches!(&request.command, SuperviseCommand::Reload { trigger } if trigger.contains("a.toml")));
            request.refuse(Refused::new(RefusalReason::InvalidConfiguration, "a test"));
        }

        /// Expects one request after `change`, and no second one.
        async fn expect_one(&mut self, what: &str, change: impl FnOnce()) {
            change();
            self.expect_reload(what).await;
            let more = tokio::time::timeout(DEBOUNCE * 3, self.inbox.recv()).await;
            assert!(more.is_err(), "{what}: requested twice");
        }

        async fn end(self) {
            self.cancel.cancel();
            tokio::time::timeout(PATIENCE, self.task).await.expect("in time").expect("no panic").expect("no error");
        }
    }

    #[tokio::test]
    async fn one_reload_is_asked_for_however_the_text_changed() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("a.toml");
        fs::write(&path, "1").expect("writable");
        let mut watched = watch(&path, "1");
        // Neither a touch nor a neighbour is a change; they come before the notice of the first one.
        fs::write(&path, "1").expect("writable");
        fs::write(folder.path().join("b.toml"), "1").expect("writable");
        let pieces = || (2..20).for_each(|piece| fs::write(&path, piece.to_string()).expect("writable"));
        watched.expect_one("a file in pieces", pieces).await;
        let replace = || {
            fs::write(folder.path().join("new"), "x").expect("writable");
            fs::rename(folder.path().join("new"), &path).expect("writable");
        };
        watched.expect_one("a rename", replace).await;
        watched.expect_one("a file that is gone", || fs::remove_file(&path).expect("it is there")).await;
        watched.expect_one("a file that is back", || fs::write(&path, "y").expect("writable")).await;
        watched.end().await;
    }

    #[tokio::test]
    async fn a_swap_of_links_as_kubernetes_does_it_is_a_change() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("a.toml");
        for version in ["..1", "..2"] {
            fs::create_dir(folder.path().join(version)).expect("writable");
            fs::write(folder.path().join(version).join("a.toml"), version).expect("writable");
        }
        symlink("..1", folder.path().join("..data")).expect("writable");
        symlink("..data/a.toml", &path).expect("writable");
        let mut watched = watch(&path, "..1");
        let swap = || {
            symlink("..2", folder.path().join("..next")).expect("writable");
            fs::rename(folder.path().join("..next"), folder.path().join("..data")).expect("writable");
        };
        watched.expect_one("the swap", swap).await;
        let target = folder.path().join("..2/a.toml");
        watched.expect_one("the file behind the links", || fs::write(target, "3").expect("writable")).await;
        watched.end().await;
    }

    #[tokio::test]
    async fn a_change_before_the_watch_stands_is_found() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("a.toml");
        fs::write(&path, "newer").expect("writable");
        let mut watched = watch(&path, "what was loaded");
        watched.expect_reload("the first look").await;
        watched.end().await;
    }
}
