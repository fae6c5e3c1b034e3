//! The watch on a test bus, and the ways in which programs write files.

use std::fs;
use std::os::unix::fs::symlink;

use llama_warden_bus::CommandReceiver;
use llama_warden_component_kit::{PATIENCE, RunningComponent, TestBus};

use super::*;

/// A watch, and the reader of the file that it asks.
struct Watched {
    path: PathBuf,
    latest: LatestText,
    inbox: CommandReceiver<SuperviseCommand>,
    running: RunningComponent<BusClosed>,
    /// The watch ends with its bus.
    _bus: TestBus,
}

fn watch(path: &Path, text: &str) -> Watched {
    watch_with(path, text, |_| {})
}

/// With a change of the watch before it runs.
fn watch_with(path: &Path, text: &str, change: impl FnOnce(&mut ConfigWatch)) -> Watched {
    let mut bus = TestBus::new();
    let inbox = bus.own();
    let latest = LatestText::new(text.into());
    let mut watch = ConfigWatch::new(path.to_owned(), latest.clone());
    change(&mut watch);
    Watched { path: path.to_owned(), latest, inbox, running: bus.run(watch), _bus: bus }
}

impl Watched {
    async fn expect_reload(&mut self, what: &str) {
        let request = tokio::time::timeout(PATIENCE, self.inbox.recv()).await.expect(what);
        assert!(
            matches!(&request.command, SuperviseCommand::Reload { trigger, force: false } if trigger.contains("a.toml"))
        );
        self.read();
        request.refuse(Refused::new(RefusalReason::InvalidConfiguration, "a test"));
    }

    /// Reads the file, as a reload does.
    fn read(&self) {
        self.latest.set(fs::read_to_string(&self.path).ok().map(Into::into));
    }

    /// Expects one request after `change`, and no second one.
    async fn expect_one(&mut self, what: &str, change: impl FnOnce()) {
        change();
        self.expect_reload(what).await;
        self.expect_none(what).await;
    }

    async fn expect_none(&mut self, what: &str) {
        let more = tokio::time::timeout(DEBOUNCE * 3, self.inbox.recv()).await;
        assert!(more.is_err(), "{what}: requested once more");
    }

    async fn end(self) {
        self.running.end().await;
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
    for named in [path, folder.path().join("..data/a.toml")] {
        let mut watched = watch(&named, "..1");
        let swap = |version: &str| {
            symlink(version, folder.path().join("..next")).expect("writable");
            fs::rename(folder.path().join("..next"), folder.path().join("..data")).expect("writable");
        };
        watched.expect_one("the swap", || swap("..2")).await;
        let target = folder.path().join("..2/a.toml");
        watched
            .expect_one("the file behind the links", || {
                fs::write(target, named.as_os_str().as_encoded_bytes()).expect("writable")
            })
            .await;
        watched.expect_one("the swap back", || swap("..1")).await;
        watched.end().await;
    }
}

#[tokio::test]
async fn a_link_in_the_middle_of_the_path_that_is_swapped_is_a_change() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    for release in ["1", "2"] {
        fs::create_dir_all(folder.path().join("releases").join(release)).expect("writable");
        fs::write(folder.path().join("releases").join(release).join("a.toml"), release).expect("writable");
    }
    symlink("releases/1", folder.path().join("current")).expect("writable");
    let mut watched = watch(&folder.path().join("current/a.toml"), "1");
    let swap = || {
        symlink("releases/2", folder.path().join("next")).expect("writable");
        fs::rename(folder.path().join("next"), folder.path().join("current")).expect("writable");
    };
    watched.expect_one("the swap", swap).await;
    watched.end().await;
}

#[tokio::test]
async fn a_file_that_is_written_under_another_name_is_a_change() {
    let (folder, elsewhere) = (tempfile::tempdir().expect("writable"), tempfile::tempdir().expect("writable"));
    let (path, other) = (folder.path().join("a.toml"), elsewhere.path().join("b.toml"));
    fs::write(&path, "1").expect("writable");
    fs::hard_link(&path, &other).expect("one file system");
    let mut watched = watch(&path, "1");
    watched.expect_one("the hard link", || fs::write(&other, "2").expect("writable")).await;
    let replace = || {
        fs::write(folder.path().join("new"), "3").expect("writable");
        fs::rename(folder.path().join("new"), &path).expect("writable");
    };
    watched.expect_one("a rename", replace).await;
    fs::write(&other, "4").expect("writable");
    watched.expect_none("the former file").await;
    watched.expect_one("the file in place", || fs::write(&path, "5").expect("writable")).await;
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

#[tokio::test]
async fn a_change_without_a_notice_is_found_by_the_slow_look() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("a.toml");
    fs::write(&path, "1").expect("writable");
    let mut watched = watch_with(&path, "1", |watch| watch.file.notices = None);
    watched.expect_none("nothing has changed").await;
    watched.expect_one("without a notice", || fs::write(&path, "2").expect("writable")).await;
    watched.end().await;
}

#[tokio::test]
async fn a_change_that_a_reload_has_read_already_asks_for_no_second_one() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("a.toml");
    fs::write(&path, "1").expect("writable");
    let mut watched = watch(&path, "1");
    fs::write(&path, "2").expect("writable");
    watched.read();
    watched.expect_none("HUP came right after the save").await;
    watched.end().await;
}

#[tokio::test]
async fn a_file_that_became_a_pipe_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("a.toml");
    fs::write(&path, "1").expect("writable");
    let mut watched = watch(&path, "1");
    fs::remove_file(&path).expect("it is there");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("writable");
    let request = tokio::time::timeout(PATIENCE, watched.inbox.recv()).await.expect("the pipe");
    watched.latest.set(None);
    request.refuse(Refused::new(RefusalReason::InvalidConfiguration, "a test"));
    watched.expect_none("a pipe").await;
    watched.end().await;
}
