//! Checks what would make any llama-server fail: the executable, the model, the key file, the addresses.
//!
//! The exit code of llama-server does not tell why it failed, and some builds lose their error line (measured). A failure found
//! here has a reason and a next step. Everything here may wait for a disk or a name server.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use llama_warden_config::ServerSpec;
use llama_warden_events::FailureReason;
use nix::fcntl::OFlag;

use super::failure::LaunchFailure;
use crate::process::listener;
use crate::process::server_address::{self, HostEntry, ServerAddress};

/// Longest part of a key file that is read, in bytes.
const MAX_KEY_FILE: u64 = 64 * 1024;

/// Checks the executable, the model, the key file and the addresses of a server; returns the keys, which must not be
/// shown. Removes a unix socket on which nobody listens any more.
///
/// # Errors
/// The first failure found.
pub(crate) fn check(server: &ServerSpec, program: &Path) -> Result<Vec<String>, LaunchFailure> {
    check_program(program)?;
    check_model(&server.model)?;
    let keys = server.api_key_file.as_deref().map_or(Ok(Vec::new()), read_keys)?;
    check_addresses(&server.host, server.port)?;
    Ok(keys)
}

/// Checks that the kernel would execute the file. Without this check std would pass a file of an unknown format to a shell.
fn check_program(path: &Path) -> Result<(), LaunchFailure> {
    let shown = path.display();
    let failure = |detail: String| LaunchFailure::new(FailureReason::BinaryNotFound, detail);
    let metadata = path.metadata().map_err(|error| {
        failure(format!("cannot find the executable {shown}: {error}; set `binary` to a llama-server"))
    })?;
    if !metadata.is_file() {
        return Err(failure(format!("{shown} is {}; set `binary` to the executable itself", kind_of(&metadata))));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(failure(format!("{shown} is not executable; try `chmod +x`")));
    }
    // A file that we may execute but not read is left to the kernel.
    let mut header = [0; 20];
    let read = File::open(path).and_then(|mut file| read_up_to(&mut file, &mut header));
    match read {
        Ok(count) if !is_runnable(&header[..count]) && !has_foreign_formats() => {
            Err(failure(format!("{shown} is no executable for this machine ({})", std::env::consts::ARCH)))
        }
        _ => Ok(()),
    }
}

/// Checks that the model is a readable GGUF file. Does not wait for the writer of a FIFO.
fn check_model(path: &Path) -> Result<(), LaunchFailure> {
    let shown = path.display();
    let not_found = |error: io::Error| {
        let detail = format!("cannot open the model {shown}: {error}");
        LaunchFailure::of_io(FailureReason::ModelNotFound, detail, &error)
    };
    let invalid =
        |detail: String| LaunchFailure::new(FailureReason::ModelInvalid, format!("the model {shown} {detail}"));
    let (mut file, metadata) = open(path).map_err(not_found)?;
    if !metadata.is_file() {
        return Err(invalid(format!("is {}, not a file", kind_of(&metadata))));
    }
    let mut header = [0; 24];
    let count = read_up_to(&mut file, &mut header).map_err(not_found)?;
    check_header(&header[..count], metadata.len()).map_err(invalid)
}

/// Reads a key file, one key per line. A server that cannot read its key file serves everybody, or nobody.
fn read_keys(path: &Path) -> Result<Vec<String>, LaunchFailure> {
    let failure = |error: io::Error| {
        let detail = format!("cannot read the key file {}: {error}", path.display());
        LaunchFailure::of_io(FailureReason::BadArgument, detail, &error)
    };
    let (file, metadata) = open(path).map_err(failure)?;
    if !metadata.is_file() {
        return Err(failure(io::Error::other(format!("it is {}", kind_of(&metadata)))));
    }
    let mut text = String::new();
    file.take(MAX_KEY_FILE).read_to_string(&mut text).map_err(failure)?;
    Ok(text.lines().map(str::trim).filter(|line| !line.starts_with('#')).map(str::to_owned).collect())
}

/// Opens for reading; `O_NONBLOCK` keeps a FIFO without a writer from blocking.
fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

/// Checks that a server could bind each of its addresses at this moment.
fn check_addresses(host: &str, port: u16) -> Result<(), LaunchFailure> {
    let entries = server_address::resolve(host, port).map_err(|(text, error)| {
        let detail = format!("cannot resolve the host `{text}`: {error}");
        LaunchFailure::of_io(FailureReason::BadArgument, detail, &error)
    })?;
    entries.iter().try_for_each(check_entry)
}

fn check_entry(entry: &HostEntry) -> Result<(), LaunchFailure> {
    let mut last = None;
    for address in &entry.addresses {
        let bound = match address {
            ServerAddress::Tcp(address) => TcpListener::bind(address).map(drop),
            ServerAddress::Unix(path) => clear_socket(path),
        };
        match bound {
            // Builds until 2025-08 set SO_REUSEPORT. Their closed connections keep the port for a minute from everybody but
            // the next server of that kind (measured): only the server itself can find out whether it can bind.
            Err(error) if error.kind() == ErrorKind::AddrInUse && listener::is_nobodys(address) => return Ok(()),
            // The next address of the name is not tried: clients that connect to the name would reach the other process.
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(in_use(address)),
            Err(error) => last = Some(error),
            Ok(()) => return Ok(()),
        }
    }
    let error = last.unwrap_or_else(|| io::Error::other("it has no address"));
    let detail = format!("cannot listen on `{}`: {error}", entry.text);
    Err(LaunchFailure::of_io(FailureReason::BadArgument, detail, &error))
}

fn in_use(address: &ServerAddress) -> LaunchFailure {
    let place = match address {
        ServerAddress::Tcp(address) => address.to_string(),
        ServerAddress::Unix(path) => path.display().to_string(),
    };
    let owner = listener::describe_owner(address).unwrap_or_else(|| "another process".to_owned());
    let detail = format!("{owner} already listens on {place}; stop it, or give this server another `port`");
    LaunchFailure::new(FailureReason::PortInUse, detail)
}

/// Removes a socket file on which nobody listens, because it would block the bind (measured). Removes nothing else.
fn clear_socket(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::other(format!("{} is in the way and no socket", path.display())));
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => return Err(ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            Err(error) => return Err(error),
        },
    }
    // A trial bind checks that the folder exists and may be written, and that the path is short enough.
    UnixListener::bind(path)?;
    fs::remove_file(path)
}

/// Checks the header of a GGUF file: magic, version, and since version 2 the counts of tensors and key-value pairs.
fn check_header(header: &[u8], file_size: u64) -> Result<(), String> {
    if header.is_empty() {
        return Err("is empty".to_owned());
    }
    if !header.starts_with(b"GGUF") {
        return Err("is no GGUF file: it does not start with `GGUF`".to_owned());
    }
    let four: Option<[u8; 4]> = header.get(4..8).and_then(|bytes| bytes.try_into().ok());
    let version = four.map(|bytes| (u32::from_le_bytes(bytes), u32::from_be_bytes(bytes)));
    let is_little_endian = match version {
        None => return Err("is cut off in its header".to_owned()),
        Some((1..=3, _)) => true,
        Some((_, 1..=3)) => false,
        Some((version, _)) => return Err(format!("has GGUF version {version}; versions 1 to 3 are known")),
    };
    if version.is_some_and(|(little, big)| little == 1 || big == 1) {
        return Ok(());
    }
    let count = |at: usize| -> Option<u64> {
        let bytes = header.get(at..at + 8)?.try_into().ok()?;
        Some(if is_little_endian { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) })
    };
    let (Some(tensors), Some(pairs)) = (count(8), count(16)) else {
        return Err("is cut off in its header".to_owned());
    };
    // A tensor takes at least 24 bytes (length of its name, dimensions, type, offset), a pair 13 (length, type, value).
    let least = tensors.saturating_mul(24).saturating_add(pairs.saturating_mul(13));
    if least > file_size {
        return Err(format!("is cut off or corrupt: {tensors} tensors do not fit into {file_size} bytes"));
    }
    Ok(())
}

/// Whether a file with this header is a program for this machine: ELF, or a script that names its interpreter.
fn is_runnable(header: &[u8]) -> bool {
    let machine = header.get(18..20).map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]));
    let machines: &[u16] = match std::env::consts::ARCH {
        // EM_X86_64, and EM_386, which 64-bit kernels execute too.
        "x86_64" => &[62, 3],
        // EM_AARCH64 and EM_ARM.
        "aarch64" => &[183, 40],
        _ => return true,
    };
    let is_ours = header.starts_with(b"\x7fELF") && machine.is_some_and(|machine| machines.contains(&machine));
    is_ours || header.starts_with(b"#!")
}

/// Whether binfmt_misc is set up for further formats. Its folder always has `register` and `status`.
fn has_foreign_formats() -> bool {
    fs::read_dir("/proc/sys/fs/binfmt_misc").is_ok_and(|formats| formats.count() > 2)
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = Vec::with_capacity(buffer.len());
    file.take(buffer.len() as u64).read_to_end(&mut read)?;
    buffer[..read.len()].copy_from_slice(&read);
    Ok(read.len())
}

fn kind_of(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

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
        let mut foreign = fs::read("/proc/self/exe").expect("read");
        foreign.truncate(64);
        // EM_S390.
        foreign[18..20].copy_from_slice(&22_u16.to_ne_bytes());
        let cases = [
            (folder.path().join("missing"), "cannot find"),
            (folder.path().to_owned(), "a directory"),
            (file(&folder, "plain", "#!/bin/sh\n", 0o644), "chmod +x"),
            (file(&folder, "foreign", foreign, 0o755), "for this machine"),
            (file(&folder, "text", "echo hello\n", 0o755), "for this machine"),
            (file(&folder, "empty", "", 0o755), "for this machine"),
        ];
        for (path, expected) in cases {
            let failure = check_program(&path).expect_err(expected);
            assert_eq!(failure.reason, FailureReason::BinaryNotFound, "{failure}");
            assert!(failure.reason.is_permanent() && failure.detail.contains(expected), "{failure}");
        }
        for good in [file(&folder, "script", "#!/bin/sh\n", 0o755), "/proc/self/exe".into()] {
            assert_eq!(check_program(&good), Ok(()));
        }
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

    #[test]
    fn keys_are_read_line_by_line_and_a_key_file_that_is_none_is_refused() {
        let folder = folder();
        let keys = file(&folder, "keys", "# mine\nsk-1\n  sk-2\n", 0o600);
        assert_eq!(read_keys(&keys), Ok(vec!["sk-1".to_owned(), "sk-2".to_owned()]));
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
        for path in [&fifo, &folder.path().join("missing")] {
            assert_eq!(read_keys(path).expect_err("refused").reason, FailureReason::BadArgument);
        }
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
    fn a_host_that_is_not_ours_is_a_bad_argument() {
        // TEST-NET-1 is assigned to nobody.
        for host in ["192.0.2.1", "no such host", "127.0.0.1,192.0.2.1"] {
            let failure = check_addresses(host, 8001).expect_err(host);
            assert_eq!(failure.reason, FailureReason::BadArgument, "{failure}");
        }
    }

    #[test]
    fn a_dead_unix_socket_is_removed_and_nothing_else_is() {
        let folder = folder();
        let check = |path: &Path| check_addresses(path.to_str().expect("text"), 8001);
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
        for path in [&plain, &pointing, &too_long, &no_folder] {
            assert_eq!(check(path).expect_err("unusable").reason, FailureReason::BadArgument, "{}", path.display());
        }
        assert!(alive.exists() && plain.exists() && pointing.exists());
    }
}
