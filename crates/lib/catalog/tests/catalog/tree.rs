//! Directories that are not what they should be.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use llama_warden_catalog::{DirectoryLinks, ProblemReason, discover};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{Models, ids};
use crate::support::Gguf;

fn make_fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("fifo");
}

#[test]
fn special_files_are_reported_and_never_opened() {
    let models = Models::new();
    let fifo = models.path("fifo.gguf");
    make_fifo(&fifo);
    let _socket = UnixListener::bind(models.path("socket.gguf")).expect("socket");
    let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).expect("inotify");
    inotify::add_watch(&watch, &fifo, WatchFlags::OPEN).expect("watch");
    let expected = ["fifo.gguf", "socket.gguf"].map(|name| (name.to_owned(), ProblemReason::NotAFile));
    assert_eq!(models.problems(), expected);
    let mut events = [0; 512];
    let opened = rustix::io::read(&watch, &mut events);
    assert_eq!(opened, Err(rustix::io::Errno::AGAIN), "the FIFO was opened");
}

#[test]
fn a_link_to_a_special_file_is_reported() {
    let models = Models::new();
    make_fifo(&models.path("pipe"));
    symlink(models.path("pipe"), models.path("m.gguf")).expect("link");
    assert_eq!(models.problems(), [("m.gguf".to_owned(), ProblemReason::NotAFile)]);
}

/// Fault S23.
#[test]
fn links_to_files_are_followed_and_links_to_other_directories_where_that_is_asked_for() {
    let (models, outside) = (Models::new(), Models::new());
    let secret = outside.put("secret.gguf", &Gguf::model("llama"));
    models.put("blobs/0a1b2c", &Gguf::model("llama"));
    fs::create_dir(models.path("snapshots")).expect("directory");
    symlink("../blobs/0a1b2c", models.path("snapshots/Inside-8B.gguf")).expect("link");
    symlink(&secret, models.path("out.gguf")).expect("link");
    symlink(outside.root(), models.path("elsewhere")).expect("link");
    symlink("/etc/hostname", models.path("hostname")).expect("link");
    let report = models.discover();
    assert_eq!(ids(&report), ["inside_8b_q4km", "out_8b_q4km"]);
    assert_eq!(report.models[0].path, models.path("snapshots/Inside-8B.gguf"));
    assert_eq!(report.models[1].path, models.path("out.gguf"));
    assert_eq!(models.problems(), [("elsewhere".to_owned(), ProblemReason::LinkOutside)]);
    assert!(report.problems[0].help.contains("follow-links"), "{}", report.problems[0].help);
    fs::remove_file(models.path("out.gguf")).expect("it is there");
    let followed = discover(&[models.root().to_owned()], DirectoryLinks::Followed);
    assert_eq!(ids(&followed), ["inside_8b_q4km", "secret_8b_q4km"]);
    assert_eq!(followed.models[1].path, models.path("elsewhere/secret.gguf"));
    assert_eq!(followed.problems, []);
    // With both directories named, nothing leads outside.
    let both = discover(&[models.root().to_owned(), outside.root().to_owned()], DirectoryLinks::Reported);
    assert_eq!(ids(&both), ["inside_8b_q4km", "secret_8b_q4km"]);
    assert_eq!(both.problems, []);
}

#[test]
fn loops_and_dead_links_are_reported() {
    let models = Models::new();
    fs::create_dir_all(models.path("a/b")).expect("directories");
    symlink("../..", models.path("a/b/up")).expect("link");
    symlink("self.gguf", models.path("self.gguf")).expect("link");
    symlink("nowhere", models.path("dead.gguf")).expect("link");
    symlink("nowhere", models.path("dead.txt")).expect("link");
    let expected = [
        ("a/b/up".to_owned(), ProblemReason::LinkLoop),
        ("dead.gguf".to_owned(), ProblemReason::LinkBroken),
        ("self.gguf".to_owned(), ProblemReason::LinkLoop),
    ];
    assert_eq!(models.problems(), expected);
    // Two directories that link to each other are each scanned once.
    let (here, there) = (Models::new(), Models::new());
    here.put("A-8B.gguf", &Gguf::model("llama"));
    symlink(there.root(), here.path("there")).expect("link");
    symlink(here.root(), there.path("here")).expect("link");
    let report = discover(&[here.root().to_owned()], DirectoryLinks::Followed);
    assert_eq!((ids(&report), &report.problems[..]), (vec!["a_8b_q4km"], &[][..]));
}

#[test]
fn a_file_is_one_model_however_many_ways_lead_to_it() {
    let models = Models::new();
    let real = models.put("z/Real-8B.gguf", &Gguf::model("llama"));
    symlink("z/Real-8B.gguf", models.path("alias.gguf")).expect("link");
    symlink("z", models.path("y")).expect("link");
    let twice =
        discover(&[models.root().to_owned(), models.path("z"), models.root().to_owned()], DirectoryLinks::Reported);
    assert_eq!((twice.models.len(), twice.problems), (1, vec![]));
    assert_eq!(twice.models[0].path, real);
}

#[test]
fn a_root_may_be_a_link_itself() {
    let models = Models::new();
    models.put("disk/A-8B.gguf", &Gguf::model("llama"));
    symlink("disk", models.path("models")).expect("link");
    let report = discover(&[models.path("models")], DirectoryLinks::Reported);
    assert_eq!(report.models[0].path, models.path("models/A-8B.gguf"));
}

#[test]
fn names_that_cannot_be_passed_on_are_reported() {
    let models = Models::new();
    models.put("a\nb.gguf", &Gguf::model("llama"));
    models.put("x\u{1b}[2J/c.gguf", &Gguf::model("llama"));
    let raw = models.root().join(OsStr::from_bytes(b"\xff.gguf"));
    fs::write(raw, b"").expect("written");
    models.put("good-8B.gguf", &Gguf::model("llama"));
    let report = models.discover();
    assert_eq!(ids(&report), ["good_8b_q4km"]);
    let expected = ["a\\nb.gguf", "x\\u{1b}[2J", "\u{fffd}.gguf"];
    assert_eq!(models.problems(), expected.map(|name| (name.to_owned(), ProblemReason::NameUnusable)));
    serde_json::to_string(&report).expect("serializes");
}

#[test]
fn a_name_like_an_option_is_only_a_name() {
    let models = Models::new();
    let path = models.put("--host.gguf", &Gguf::model("llama"));
    let model = models.only();
    assert_eq!((model.id.as_str(), &model.path), ("host_8b_q4km", &path));
    assert!(model.path.is_absolute());
}

#[test]
fn hidden_files_and_other_files_are_passed_over() {
    let models = Models::new();
    for name in ["._Qwen3.gguf", ".cache/x.gguf", "README.md", "model.gguf.part", "gguf"] {
        models.put(name, &Gguf::new().version(99));
    }
    let report = models.discover();
    assert_eq!((report.models, report.skipped, report.problems), (vec![], vec![], vec![]));
}

#[test]
fn a_directory_that_cannot_be_listed_is_reported() {
    let models = Models::new();
    fs::write(models.path("file"), "").expect("written");
    for name in ["missing", "file"] {
        let report = discover(&[models.path(name)], DirectoryLinks::Reported);
        let reasons: Vec<_> = report.problems.iter().map(|problem| problem.reason).collect();
        assert_eq!(reasons, [ProblemReason::DirectoryUnreadable], "{name}");
    }
}

#[test]
fn what_may_not_be_read_is_reported_and_the_rest_is_found() {
    let models = Models::new();
    models.put("good-8B.gguf", &Gguf::model("llama"));
    let file = models.put("closed-8B.gguf", &Gguf::model("llama"));
    let directory = models.path("closed");
    fs::create_dir(&directory).expect("directory");
    for path in [&file, &directory] {
        fs::set_permissions(path, Permissions::from_mode(0o000)).expect("permissions");
    }
    let (problems, report) = (models.problems(), models.discover());
    // A superuser may read everything, so the outcome is compared with what this process may do.
    let mut expected = Vec::new();
    if fs::read_dir(&directory).is_err() {
        expected.push(("closed".to_owned(), ProblemReason::DirectoryUnreadable));
    }
    if fs::File::open(&file).is_err() {
        expected.push(("closed-8B.gguf".to_owned(), ProblemReason::FileUnreadable));
    }
    fs::set_permissions(&directory, Permissions::from_mode(0o700)).expect("permissions");
    assert_eq!(problems, expected);
    assert!(ids(&report).contains(&"good_8b_q4km"));
}

#[test]
fn directories_deeper_than_anyone_nests_models_are_reported() {
    let models = Models::new();
    let deep = |levels: usize| "d/".repeat(levels);
    models.put(&format!("{}found-8B.gguf", deep(32)), &Gguf::model("llama"));
    models.put(&format!("{}lost-8B.gguf", deep(33)), &Gguf::model("llama"));
    let report = models.discover();
    assert_eq!(ids(&report), ["found_8b_q4km"]);
    assert_eq!(report.problems.len(), 1);
    assert_eq!(report.problems[0].reason, ProblemReason::DirectoryTooLarge);
}
