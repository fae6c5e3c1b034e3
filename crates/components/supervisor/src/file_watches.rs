//! Looks at the file that a launch failed for, until it changes: a failure that is permanent for the file as it is.
//!
//! A look is a few calls of `stat` at most every `restart.max-delay`. Rejected: inotify, which says nothing about network file
//! systems and replaced folders, where models lie.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::future::pending;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use llama_warden_backoff::FaultyFile;
use llama_warden_config::ServerSpec;
use llama_warden_events::{Incarnation, ServerId};
use llama_warden_support::{blocking, find_program};
use tokio::task::{AbortHandle, JoinSet};

/// The watches under way: at most one for each server.
#[derive(Debug, Default)]
pub(crate) struct FileWatches {
    tasks: JoinSet<(ServerId, Incarnation)>,
    handles: BTreeMap<ServerId, AbortHandle>,
}

/// What changes when a file is replaced or written: device, inode, size, and the time of the last change of any of it.
type FileState = (u64, u64, u64, i64, i64);

impl FileWatches {
    /// Watches the file of the failed launch of a server until it changes.
    pub(crate) fn watch(&mut self, spec: &ServerSpec, incarnation: Incarnation, file: FaultyFile) {
        let (server, every) = (spec.id.clone(), spec.restart.max_delay);
        let paths = match file {
            FaultyFile::Model => vec![spec.model.clone()],
            FaultyFile::Executable => executable(&spec.binary),
        };
        self.forget(&server);
        let of = server.clone();
        let handle = self.tasks.spawn(async move {
            changed(paths, every).await;
            (of, incarnation)
        });
        self.handles.insert(server, handle);
    }

    /// Ends the watch of a server that is launched again or gone.
    pub(crate) fn forget(&mut self, server: &ServerId) {
        if let Some(handle) = self.handles.remove(server) {
            handle.abort();
        }
    }

    /// The next failed launch whose file has changed. Waits for ever while nothing is watched.
    pub(crate) async fn next(&mut self) -> (ServerId, Incarnation) {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(changed)) => return changed,
                // Forgotten: a watch does not panic.
                Some(Err(_)) => {}
                None => pending().await,
            }
        }
    }
}

/// An executable and its folder, in which its libraries lie.
fn executable(binary: &Path) -> Vec<PathBuf> {
    let path = find_program(binary, std::env::var_os("PATH").as_deref()).unwrap_or_else(|_| binary.to_owned());
    let folder = path.parent().map(Path::to_owned);
    std::iter::once(path).chain(folder).collect()
}

async fn changed(paths: Vec<PathBuf>, every: Duration) {
    let before = look(paths.clone()).await;
    loop {
        tokio::time::sleep(every).await;
        // A look that was not taken says nothing.
        let now = look(paths.clone()).await;
        if now.is_some() && now != before {
            return;
        }
    }
}

/// The state of each file; `None` for one that is missing.
async fn look(paths: Vec<PathBuf>) -> Option<Vec<Option<FileState>>> {
    let state =
        |metadata: Metadata| (metadata.dev(), metadata.ino(), metadata.size(), metadata.ctime(), metadata.ctime_nsec());
    blocking(move || paths.iter().map(|path| path.metadata().ok().map(state)).collect()).await.ok()
}
