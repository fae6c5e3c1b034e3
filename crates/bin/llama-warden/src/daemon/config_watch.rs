//! The component that notices a changed configuration file and asks for a reload.
//!
//! The folder is watched, not the file: editors and Kubernetes replace files by renames and symbolic links, and the folder
//! of what the path leads to is watched beside it. A change counts when the text is another one than the last that was
//! seen, so that neither a touch nor our own reading asks for anything; the first text is the one that the daemon started
//! with, so that a change during the start is not lost.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use llama_warden_bus::PendingReply;
use llama_warden_component::{Component, Ports};
use llama_warden_config::ArcStr;
use llama_warden_events::{NoCommand, RefusalReason, Refused, SuperviseCommand, Uptime};
use nix::errno::Errno;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// How long a file has to be left alone before it is read: writers write in pieces.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Longest time from a change to a look at the file, in a folder in which something always happens.
const LONGEST: Duration = Duration::from_secs(2);

/// Watches a configuration file.
#[derive(Debug)]
pub struct ConfigWatch {
    path: PathBuf,
    /// What the file said last; `None` where it could not be read.
    text: Option<ArcStr>,
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    /// Told on each change. A permit is kept, so a change between two waits is not lost, and many are one.
    changes: Arc<Notify>,
}

impl ConfigWatch {
    /// Watches the file at `path`, which said `text` when it was read.
    ///
    /// # Errors
    /// Where the kernel gives no watch.
    pub fn new(path: &Path, text: ArcStr) -> notify::Result<Self> {
        let changes = Arc::new(Notify::new());
        let told = changes.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error says that events may have been lost: then looking is what helps.
            if event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                return;
            }
            told.notify_one();
        })?;
        let mut watch = Self { path: path.to_owned(), text: Some(text), watcher, watched: BTreeSet::new(), changes };
        watch.arm()?;
        // What changed before the watch stood is found by the first look.
        watch.changes.notify_one();
        Ok(watch)
    }

    /// Watches the folders of the path and of what it leads to now.
    fn arm(&mut self) -> notify::Result<()> {
        let target = fs::canonicalize(&self.path).ok();
        let files = [Some(&self.path), target.as_ref()];
        let folders: BTreeSet<PathBuf> =
            files.into_iter().flatten().filter_map(|file| file.parent()).map(Path::to_owned).collect();
        for gone in self.watched.difference(&folders) {
            // Its folder may be gone, and the watch with it.
            let _ = self.watcher.unwatch(gone);
        }
        for folder in &folders {
            self.watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        self.watched = folders;
        Ok(())
    }

    /// Looks at the file: whether it says something new, or can no longer be read. That the daemon ran out of descriptors
    /// says nothing of the file.
    ///
    /// # Errors
    /// Where it cannot be told now.
    fn has_changed(&mut self) -> io::Result<bool> {
        if let Err(error) = self.arm() {
            let path = self.path.display();
            tracing::warn!(%path, %error, "the configuration may not be watched any more; send HUP after a change");
        }
        let text = match read(&self.path) {
            Err(error) if is_exhaustion(&error) => return Err(error),
            text => text.ok(),
        };
        let changed = text.as_deref() != self.text.as_deref();
        if changed {
            self.text = text.map(ArcStr::from);
        }
        Ok(changed)
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM))
}

fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path)
}

impl Component for ConfigWatch {
    const NAME: &'static str = "config-watch";

    type Command = NoCommand;
    type Error = Infallible;

    async fn run(mut self, ports: Ports<NoCommand>) -> Result<(), Infallible> {
        let mut changed_at: Option<Uptime> = None;
        let mut look_at: Option<Uptime> = None;
        let mut reply: Option<PendingReply> = None;
        loop {
            tokio::select! {
                () = ports.cancel.cancelled() => return Ok(()),
                () = self.changes.notified() => {
                    let now = ports.clock.now();
                    let first = *changed_at.get_or_insert(now);
                    let look = (now.as_duration() + DEBOUNCE).min(first.as_duration() + LONGEST);
                    look_at = Some(Uptime::new(look));
                }
                () = ports.clock.sleep_until(look_at), if look_at.is_some() => {
                    (changed_at, look_at) = (None, None);
                    match self.has_changed() {
                        Ok(true) => {
                            let trigger = format!("a change of {}", self.path.display());
                            reply = Some(ports.commands.post(SuperviseCommand::Reload { trigger }));
                        }
                        Ok(false) => {}
                        Err(error) => {
                            tracing::debug!(%error, "the configuration cannot be looked at now");
                            look_at = Some(Uptime::new(ports.clock.now().as_duration() + LONGEST));
                        }
                    }
                }
                answer = answer(&mut reply), if reply.is_some() => {
                    reply = None;
                    // Why a configuration is refused is told as an event.
                    if let Err(refused) = answer
                        && refused.reason != RefusalReason::InvalidConfiguration
                    {
                        tracing::warn!(%refused, "a changed configuration is not taken up");
                    }
                }
            }
        }
    }
}

async fn answer(reply: &mut Option<PendingReply>) -> Result<(), Refused> {
    match reply {
        Some(reply) => reply.await.map(|_| ()),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use llama_warden_bus::{Bus, CommandReceiver, CommandRouter};
    use llama_warden_events::BootId;
    use tokio::task::JoinHandle;
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// Longest time for a notice that must come.
    const PATIENCE: Duration = Duration::from_secs(20);

    struct Watched {
        inbox: CommandReceiver<SuperviseCommand>,
        task: JoinHandle<Result<(), Infallible>>,
        cancel: CancellationToken,
    }

    fn watch(path: &Path, text: &str) -> Watched {
        let (bus, events) = Bus::start(BootId::from_random(1), 16);
        let mut router = CommandRouter::new(bus.clock());
        let cancel = CancellationToken::new();
        let ports = Ports {
            events,
            subscription: bus.subscribe("config-watch"),
            commands: router.sender(),
            inbox: router.take("config-watch").expect("free"),
            clock: bus.clock(),
            cancel: cancel.clone(),
        };
        let inbox = router.take("test").expect("free");
        let watch = ConfigWatch::new(path, text.into()).expect("the kernel has watches");
        Watched { inbox, task: tokio::spawn(watch.run(ports)), cancel }
    }

    impl Watched {
        async fn expect_reload(&mut self, what: &str) {
            let request = tokio::time::timeout(PATIENCE, self.inbox.recv()).await.expect(what).expect("it runs");
            assert!(matches!(&request.command, SuperviseCommand::Reload { trigger } if trigger.contains("a.toml")));
            request.refuse(Refused::new(RefusalReason::InvalidConfiguration, "a test"));
        }

        /// That nothing was asked for before the notice that `change` brings about.
        async fn expect_one(&mut self, what: &str, change: impl FnOnce()) {
            change();
            self.expect_reload(what).await;
            let more = tokio::time::timeout(DEBOUNCE * 3, self.inbox.recv()).await;
            assert!(more.is_err(), "{what}: asked twice");
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
