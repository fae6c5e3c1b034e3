//! Tests of every check, against real files and sockets.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use llama_warden_config::{ConfigSource, Configuration, Environment};

use super::*;

/// As much of a program as the check reads.
const HEADER: usize = 4096;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("tempdir")
}

fn file(folder: &tempfile::TempDir, name: &str, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, content).expect("write");
    fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("chmod");
    path
}

fn gguf(version: u32, tensors: u64, pairs: u64, size: usize) -> Vec<u8> {
    let mut content = b"GGUF".to_vec();
    content.extend(version.to_le_bytes());
    content.extend(tensors.to_le_bytes());
    content.extend(pairs.to_le_bytes());
    content.resize(size, 0);
    content
}

#[test]
fn a_program_that_the_kernel_would_not_run_is_found() {
    let folder = folder();
    let own = fs::read("/proc/self/exe").expect("read");
    let mut foreign = own[..64].to_vec();
    // EM_S390.
    foreign[18..20].copy_from_slice(&22_u16.to_ne_bytes());
    let at = own.windows(4).position(|bytes| bytes == b"/lib").expect("a test links against a loader");
    let mut lost = own[..HEADER].to_vec();
    lost[at..at + 4].copy_from_slice(b"/bil");
    let (not_found, broken) = (FailureReason::BinaryNotFound, FailureReason::BinaryBroken);
    let cases = [
        (folder.path().join("missing"), not_found, "cannot find"),
        (folder.path().to_owned(), not_found, "a directory"),
        (file(&folder, "plain", "#!/bin/sh\n", 0o644), not_found, "chmod +x"),
        (file(&folder, "foreign", foreign, 0o755), broken, "for this machine"),
        (file(&folder, "text", "echo hello\n", 0o755), broken, "for this machine"),
        (file(&folder, "empty", "", 0o755), broken, "for this machine"),
        (file(&folder, "windows", "#!/bin/sh\r\necho hello\r\n", 0o755), broken, "line ends of Windows"),
        (file(&folder, "lost", "#! /no/such/sh -e\n", 0o755), broken, "needs /no/such/sh to run"),
        (file(&folder, "loader", lost, 0o755), broken, "needs /bil"),
    ];
    for (path, reason, expected) in cases {
        let failure = check_program(&path).expect_err(expected);
        assert_eq!(failure.reason, reason, "{failure}");
        assert!(failure.detail.contains(expected), "{failure}");
    }
    let script = file(&folder, "script", "#!/bin/sh\n", 0o755);
    assert_eq!(check_program(&script), Ok(ProgramKind::Script));
    assert_eq!(check_program(Path::new("/proc/self/exe")), Ok(ProgramKind::Binary));
}

#[test]
fn a_model_that_no_build_reads_is_found() {
    let folder = folder();
    let fifo = folder.path().join("fifo.gguf");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    let dangling = folder.path().join("dangling.gguf");
    symlink("/no/such/file", &dangling).expect("symlink");
    let (not_found, invalid) = (FailureReason::ModelNotFound, FailureReason::ModelInvalid);
    let cases = [
        (folder.path().join("missing.gguf"), not_found, "No such file"),
        (dangling, not_found, "No such file"),
        (fifo, invalid, "named pipe"),
        (folder.path().to_owned(), invalid, "directory"),
        (file(&folder, "empty.gguf", "", 0o644), invalid, "is empty"),
        (file(&folder, "text.gguf", "hello", 0o644), invalid, "no GGUF"),
        (file(&folder, "short.gguf", "GGUF\x03", 0o644), invalid, "cut off in its header"),
        (file(&folder, "header.gguf", &gguf(3, 0, 0, 24)[..20], 0o644), invalid, "cut off in its header"),
        (file(&folder, "future.gguf", gguf(99, 0, 0, 24), 0o644), invalid, "version 99"),
        (file(&folder, "cut.gguf", gguf(3, 100, 10, 1000), 0o644), invalid, "100 tensors do not fit"),
        (file(&folder, "absurd.gguf", gguf(3, u64::MAX, u64::MAX, 1000), 0o644), invalid, "do not fit"),
    ];
    for (path, reason, expected) in cases {
        let failure = check_model(&path).expect_err(expected);
        assert_eq!(failure.reason, reason, "{failure}");
        assert!(failure.detail.contains(expected), "{failure}");
    }
}

#[test]
fn a_model_of_every_known_version_passes() {
    let folder = folder();
    let mut big_endian = gguf(0, 0, 0, 24);
    big_endian[4..8].copy_from_slice(&3_u32.to_be_bytes());
    for (name, content) in
        [("1", gguf(1, 0, 0, 16)), ("2", gguf(2, 1, 1, 64)), ("3", gguf(3, 1, 1, 64)), ("be", big_endian)]
    {
        assert_eq!(check_model(&file(&folder, name, content, 0o644)), Ok(()), "{name}");
    }
}

fn with_key_file(path: PathBuf) -> ServerSpec {
    let source = ConfigSource::text("/", "[[servers]]\nid = 'a'\nmodel = '/m.gguf'\n");
    let configuration = Configuration::parse(&source, &Environment::default()).expect("valid");
    let spec = configuration.servers().next().expect("one server").clone();
    ServerSpec { api_key_file: Some(path), ..spec }
}

#[test]
fn keys_are_read_line_by_line_and_what_is_odd_about_them_is_told() {
    let folder = folder();
    let read = |name, content| read_keys(&with_key_file(file(&folder, name, content, 0o600))).expect("has keys");
    let plain = read("keys", "# mine\nsk-1\nsk-2\n");
    assert_eq!((plain.keys, plain.doubts.len()), (vec!["sk-1".to_owned(), "sk-2".to_owned()], 0));
    let odd = read("windows", "\u{feff}sk-1\r\n sk-2\n");
    assert_eq!((odd.keys, odd.doubts.len()), (vec!["sk-1".to_owned(), "sk-2".to_owned()], 3));
}

#[test]
fn a_key_file_without_a_key_is_a_bad_argument() {
    let folder = folder();
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    let missing = folder.path().join("missing");
    let empty = file(&folder, "empty", "", 0o600);
    let comments = file(&folder, "comments", "# team keys\n\n  \r\n", 0o600);
    for path in [fifo, empty, comments] {
        let failure = read_keys(&with_key_file(path.clone())).expect_err("refused");
        assert_eq!(failure.reason, FailureReason::BadArgument, "{failure}");
        assert!(failure.detail.contains(&*path.to_string_lossy()), "{failure}");
    }
    let failure = read_keys(&with_key_file(missing)).expect_err("refused");
    assert_eq!(failure.reason, FailureReason::FileNotFound, "it may be mounted later");
}

#[test]
fn a_taken_port_is_named_with_who_has_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = taken.local_addr().expect("bound").port();
    for host in ["127.0.0.1", "0.0.0.0"] {
        let failure = check_addresses(host, port).expect_err("taken");
        assert_eq!(failure.reason, FailureReason::PortInUse);
        assert!(failure.detail.contains(&format!("(pid {})", std::process::id())), "{failure}");
    }
    assert_eq!(check_addresses("127.0.0.1", 0), Ok(()), "the kernel has a free one");
}

#[test]
fn a_host_that_is_not_ours_now_may_be_later_and_what_cannot_be_a_name_never() {
    // TEST-NET-1 is assigned to nobody, and `.invalid` never resolves.
    for host in ["192.0.2.1", "no-such-host.invalid", "127.0.0.1,192.0.2.1"] {
        let failure = check_addresses(host, 0).expect_err(host);
        assert_eq!(failure.reason, FailureReason::AddressUnavailable, "{failure}");
    }
    for host in ["no such host", "--port"] {
        let failure = check_addresses(host, 0).expect_err(host);
        assert_eq!(failure.reason, FailureReason::BadArgument, "{failure}");
    }
}

#[test]
fn a_dead_unix_socket_is_removed_and_nothing_else_is() {
    let folder = folder();
    let check = |path: &Path| check_addresses(path.to_str().expect("text"), 0);
    let dead = folder.path().join("dead.sock");
    drop(UnixListener::bind(&dead).expect("bind"));
    assert_eq!(check(&dead), Ok(()));
    assert!(!dead.exists());

    let alive = folder.path().join("alive.sock");
    let _listener = UnixListener::bind(&alive).expect("bind");
    assert_eq!(check(&alive).expect_err("alive").reason, FailureReason::PortInUse);

    let plain = file(&folder, "plain.sock", "precious", 0o644);
    let pointing = folder.path().join("link.sock");
    symlink(&alive, &pointing).expect("symlink");
    let too_long = folder.path().join(format!("{}.sock", "x".repeat(110)));
    let no_folder = folder.path().join("missing/a.sock");
    for path in [&plain, &pointing, &too_long] {
        assert_eq!(check(path).expect_err("unusable").reason, FailureReason::BadArgument, "{}", path.display());
    }
    assert_eq!(check(&no_folder).expect_err("unusable").reason, FailureReason::AddressUnavailable);
    assert!(alive.exists() && plain.exists() && pointing.exists());
}
