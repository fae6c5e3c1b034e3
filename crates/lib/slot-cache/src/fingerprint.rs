//! Everything that decides whether a file of one launch may be used by another.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// By how much the time of a change and that of a start may be wrong: the clocks behind them tick.
const TICKS: Duration = Duration::from_millis(40);

/// Clock ticks a second in `/proc`, on every Linux.
const TICKS_A_SECOND: f64 = 100.0;

/// Options whose value is a file that the server writes.
const WRITTEN: [&str; 2] = ["--log-file", "--log_file"];

/// Bytes at the beginning of a file that are looked at.
const HEAD: u64 = 64 * 1024;

/// A launch, as it is known without a look at its files.
#[derive(Debug, Clone)]
pub struct LaunchIdentity {
    /// Its process.
    pub pid: u32,
    /// When the process was started.
    pub started: SystemTime,
    /// Its command line, the program first.
    pub argv: Vec<String>,
    /// The version that the build prints.
    pub version: Option<String>,
    /// The variables that it was given.
    pub environment: BTreeMap<String, String>,
    /// Relative paths among the arguments are relative to it.
    pub directory: PathBuf,
}

/// What two launches have in common that may use each other's files. Equal means: the same bytes of code, the same bytes of model, the
/// same arguments.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaunchFingerprint {
    argv: Vec<String>,
    version: Option<String>,
    environment: BTreeMap<String, String>,
    files: BTreeSet<FileStamp>,
}

/// A file as it is now. The time of its last change (ctime) cannot be set, so that an overwritten file differs from what it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct FileStamp {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    head: u32,
}

/// A launch has no fingerprint, since something of it cannot be read.
#[derive(Debug)]
pub struct FingerprintError {
    path: PathBuf,
    error: io::Error,
}

impl std::fmt::Display for FingerprintError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot tell what {} is: {}", self.path.display(), self.error)
    }
}

impl std::error::Error for FingerprintError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl LaunchFingerprint {
    /// Looks at the code that a process has mapped, and at every file that its command line names.
    ///
    /// # Errors
    /// A file cannot be read, or was replaced since the process mapped it.
    pub fn read(launch: &LaunchIdentity) -> Result<Self, FingerprintError> {
        let maps = PathBuf::from(format!("/proc/{}/maps", launch.pid));
        let text = fs::read_to_string(&maps).map_err(|error| FingerprintError { path: maps, error })?;
        let mut paths: BTreeSet<PathBuf> = code(&text).collect();
        paths.extend(launch.argv.first().map(PathBuf::from));
        let is_read = |at: &usize| !WRITTEN.contains(&launch.argv[at - 1].as_str());
        let arguments = (1..launch.argv.len()).filter(is_read).map(|at| &launch.argv[at]);
        paths.extend(arguments.flat_map(|argument| named_files(argument, &launch.directory)));
        let files = paths.into_iter().map(|path| {
            let identity = FileStamp::of(&path).and_then(|identity| identity.unchanged_since(launch.started));
            identity.map_err(|error| FingerprintError { path, error })
        });
        let files = files.collect::<Result<_, _>>()?;
        let LaunchIdentity { argv, version, environment, .. } = launch.clone();
        Ok(Self { argv, version, environment, files })
    }
}

/// When a process was started, by its start in clock ticks since the machine booted.
///
/// # Errors
/// `/proc/uptime` cannot be read.
pub fn start_time(start_ticks: u64) -> io::Result<SystemTime> {
    let text = fs::read_to_string("/proc/uptime")?;
    let uptime = text.split(' ').next().and_then(|seconds| seconds.parse::<f64>().ok());
    let age = uptime.map(|uptime| uptime - start_ticks as f64 / TICKS_A_SECOND);
    let age = age.and_then(|age| Duration::try_from_secs_f64(age.max(0.0)).ok());
    age.and_then(|age| SystemTime::now().checked_sub(age)).ok_or_else(|| io::Error::other("/proc/uptime has no number"))
}

impl FileStamp {
    /// An error where the file has changed since the process was started: it may have read what was there before.
    fn unchanged_since(self, started: SystemTime) -> io::Result<Self> {
        let (seconds, nanoseconds) = self.changed;
        let since = Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanoseconds).unwrap_or(0));
        if SystemTime::UNIX_EPOCH + since + TICKS < started {
            return Ok(self);
        }
        Err(io::Error::other("it has changed since the server was started"))
    }

    fn of(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let mut head = Vec::new();
        file.take(HEAD).read_to_end(&mut head)?;
        Ok(Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            head: crc32fast::hash(&head),
        })
    }
}

/// The files that are mapped as code: the executable and its libraries.
fn code(maps: &str) -> impl Iterator<Item = PathBuf> {
    maps.lines().filter_map(|line| {
        // ADDRESS PERMISSIONS OFFSET DEVICE INODE PATH
        let mut rest = line;
        let mut word = || {
            let (word, after) = rest.trim_start().split_once(' ')?;
            rest = after;
            Some(word)
        };
        let permissions = word().and_then(|_| word())?;
        let _ = word().and_then(|_| word()).and_then(|_| word())?;
        let path = rest.trim_start();
        (permissions.contains('x') && path.starts_with('/')).then(|| PathBuf::from(path))
    })
}

/// The files that an argument names, alone or in a list, with a scale or behind a name; and every shard of a model in shards.
fn named_files(argument: &str, directory: &Path) -> Vec<PathBuf> {
    let texts = std::iter::once(argument).chain(argument.split([',', ':', '=']));
    let files: BTreeSet<PathBuf> = texts
        .filter(|text| !text.is_empty())
        .map(|text| directory.join(text))
        .filter(|path| path.metadata().is_ok_and(|found| found.is_file()))
        .collect();
    files.into_iter().flat_map(|file| shards(&file).unwrap_or_else(|| vec![file])).collect()
}

/// `NAME-00001-of-00003.gguf`: all three.
fn shards(path: &Path) -> Option<Vec<PathBuf>> {
    let name = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
    let (rest, count) = name.rsplit_once("-of-")?;
    let (start, number) = rest.rsplit_once('-')?;
    if number.len() != 5 || count.len() != 5 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let last: u32 = count.parse().ok()?;
    Some((1..=last).map(|shard| path.with_file_name(format!("{start}-{shard:05}-of-{count}.gguf"))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(folder: &Path) -> LaunchIdentity {
        let program = folder.join("server");
        let model = folder.join("model.gguf");
        for file in [&program, &model, &folder.join("adapter")] {
            fs::write(file, b"first").expect("writable");
        }
        LaunchIdentity {
            pid: std::process::id(),
            started: SystemTime::now() + Duration::from_secs(3600),
            argv: [
                program.to_str(),
                Some("--model"),
                model.to_str(),
                Some("--lora-scaled=adapter:0.5"),
                Some("-c"),
                Some("64"),
            ]
            .map(|text| text.expect("UTF-8").to_owned())
            .to_vec(),
            version: Some("b1".to_owned()),
            environment: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
            directory: folder.to_owned(),
        }
    }

    fn read(launch: &LaunchIdentity) -> LaunchFingerprint {
        LaunchFingerprint::read(launch).expect("readable")
    }

    #[test]
    fn a_launch_of_the_same_files_and_arguments_is_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let launch = identity(folder.path());
        assert_eq!(read(&launch), read(&launch));
    }

    #[test]
    fn every_difference_makes_another_launch() {
        let folder = tempfile::tempdir().expect("a folder");
        let launch = identity(folder.path());
        let first = read(&launch);
        let changed = |change: &dyn Fn(&mut LaunchIdentity)| {
            let mut other = launch.clone();
            change(&mut other);
            read(&other)
        };
        assert_ne!(first, changed(&|other| other.argv[5] = "65".to_owned()));
        assert_ne!(first, changed(&|other| other.argv.push("--swa-full".to_owned())));
        assert_ne!(first, changed(&|other| other.version = Some("b2".to_owned())));
        assert_ne!(first, changed(&|other| drop(other.environment.insert("A".to_owned(), "2".to_owned()))));
        // Of the same length each, and the time of the writing is put back.
        for name in ["server", "model.gguf", "adapter"] {
            let before = read(&launch);
            let path = folder.path().join(name);
            let time = fs::metadata(&path).expect("is there").modified().expect("a time");
            fs::write(&path, b"other").expect("writable");
            File::options().write(true).open(&path).and_then(|file| file.set_modified(time)).expect("is ours");
            assert_ne!(before, read(&launch), "{name}");
            let before = read(&launch);
            fs::rename(&path, folder.path().join("aside")).expect("movable");
            fs::copy(folder.path().join("aside"), &path).expect("writable");
            assert_ne!(before, read(&launch), "{name} is a copy");
        }
    }

    #[test]
    fn a_launch_whose_files_have_changed_since_its_start_cannot_be_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let launch = LaunchIdentity { started: SystemTime::now(), ..identity(folder.path()) };
        let error = LaunchFingerprint::read(&launch).expect_err("written just now");
        assert!(error.to_string().ends_with("it has changed since the server was started"), "{error}");
    }

    #[test]
    fn a_file_that_the_server_writes_is_no_part_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut launch = identity(folder.path());
        let log = folder.path().join("log");
        fs::write(&log, b"1").expect("writable");
        launch.argv.extend(["--log-file", log.to_str().expect("UTF-8")].map(str::to_owned));
        let before = read(&launch);
        fs::write(&log, b"12").expect("writable");
        assert_eq!(before, read(&launch));
    }

    #[test]
    fn the_start_of_a_process_is_known_to_a_few_hundredths() {
        let now = start_time(u64::MAX / 1000).expect("readable");
        assert!(now.elapsed().is_ok_and(|since| since < Duration::from_secs(5)), "a start in the future is now");
        let stat = fs::read_to_string("/proc/self/stat").expect("readable");
        let ticks: u64 =
            stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(19)?.parse().ok()).expect("field 22");
        let started = start_time(ticks).expect("readable");
        assert!(started.elapsed().is_ok_and(|age| age < Duration::from_secs(600)), "this test has just begun");
    }

    #[test]
    fn every_shard_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut launch = identity(folder.path());
        let shard = |number: u32| folder.path().join(format!("m-{number:05}-of-00002.gguf"));
        fs::write(shard(1), b"1").expect("writable");
        fs::write(shard(2), b"2").expect("writable");
        launch.argv[2] = shard(1).to_str().expect("UTF-8").to_owned();
        let before = read(&launch);
        fs::write(shard(2), b"3").expect("writable");
        assert_ne!(before, read(&launch));
        fs::remove_file(shard(2)).expect("is there");
        LaunchFingerprint::read(&launch).expect_err("a shard is missing");
    }

    #[test]
    fn code_is_what_is_mapped_for_execution() {
        let maps = "7f01-7f02 r--p 00000000 fd:00 11   /usr/lib/libllama.so\n\
                    7f02-7f03 r-xp 00001000 fd:00 11   /usr/lib/libllama.so\n\
                    7f03-7f04 r-xp 00001000 fd:00 12   /opt/a b/llama-server (deleted)\n\
                    7f05-7f06 r-xp 00000000 00:00 0    [vdso]\n\
                    7f07-7f08 r--s 00000000 fd:00 13   /models/a.gguf\n";
        let found: Vec<PathBuf> = code(maps).collect();
        assert_eq!(found, ["/usr/lib/libllama.so", "/opt/a b/llama-server (deleted)"].map(PathBuf::from));
    }
}
