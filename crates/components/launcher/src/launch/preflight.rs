//! Checks what would make any llama-server fail: the executable, the model, the key file, the addresses.
//!
//! The exit code of llama-server does not say why it failed, and some builds lose their error line (measured). A failure found
//! here has a reason and a next step. Everything here may wait for a disk or a name server.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use llama_warden_config::{KeyError, ServerSpec};
use llama_warden_dialects::InputFile;
use llama_warden_events::FailureReason;
use llama_warden_procfs::SocketAddress;
use nix::fcntl::OFlag;

use super::failure::LaunchFailure;
use llama_warden_processes::listener;
use llama_warden_processes::server_address::{self, HostEntry};

mod program;

pub(crate) use program::{ProgramKind, check_program};

/// The keys of a server.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerKeys {
    pub(crate) keys: Vec<String>,
    /// Whether one of their files has comments.
    pub(crate) has_comments: bool,
    /// One sentence for each thing that is odd about their files.
    pub(crate) doubts: Vec<String>,
}

/// Checks the executable, the model, the keys and, unless it runs already, the addresses of a server; returns the keys, which must not be
/// shown. Removes a unix socket on which no process listens any more.
///
/// # Errors
/// The first failure found.
pub(crate) fn check(server: &ServerSpec, program: &Path, runs: bool) -> Result<ServerKeys, LaunchFailure> {
    check_program(program)?;
    // A model that the server downloads is no file of ours.
    if server.model_repository().is_none() {
        check_model(&server.model)?;
    }
    let keys = read_keys(server)?;
    if !runs {
        check_addresses(&server.host, server.port)?;
    }
    Ok(keys)
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

/// Reads every key of a server. One that cannot read its keys, or has none, answers everybody, or nobody.
fn read_keys(server: &ServerSpec) -> Result<ServerKeys, LaunchFailure> {
    let mut all = ServerKeys::default();
    for source in server.key_sources() {
        let read = source.read().map_err(|error| match &error {
            KeyError::Unreadable { source, .. } => {
                // What is there and no text cannot become a key file by itself.
                let is_absent = source.raw_os_error().is_some();
                let reason = if is_absent { FailureReason::FileNotFound } else { FailureReason::BadArgument };
                LaunchFailure::of_io(reason, error.to_string(), source)
            }
            KeyError::EmptyFile(_) | KeyError::EmptyList(_) => {
                LaunchFailure::new(FailureReason::BadArgument, error.to_string())
            }
        })?;
        all.keys.extend(read.keys);
        all.has_comments |= read.has_comments;
        let doubt = |oddity| format!("the key file: {oddity}, which the server may take for a part of the key");
        all.doubts.extend(read.oddities.into_iter().map(doubt));
    }
    Ok(all)
}

/// Checks that the files and folders exist that options name. llama-server says what is missing only late, or not at all: a
/// missing or broken key for TLS ends as an address that cannot be bound (measured).
pub(crate) fn check_files(files: &[InputFile]) -> Result<(), LaunchFailure> {
    files.iter().try_for_each(|file| {
        file.look().map_err(|error| {
            if error.kind() == ErrorKind::InvalidData {
                let detail = format!("{} of `{}` cannot be used: {error}", file.path.display(), file.option);
                return LaunchFailure::new(FailureReason::BadArgument, detail);
            }
            let detail = format!("cannot find {} of `{}`: {error}", file.path.display(), file.option);
            LaunchFailure::of_io(FailureReason::FileNotFound, detail, &error)
        })
    })
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
        // A name server may be up later; what cannot be a name never resolves.
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-._:%[]".contains(c);
        let may_resolve = !text.starts_with('-') && text.chars().all(is_name);
        let reason = if may_resolve { FailureReason::AddressUnavailable } else { FailureReason::BadArgument };
        LaunchFailure::of_io(reason, detail, &error)
    })?;
    entries.iter().try_for_each(check_entry)
}

fn check_entry(entry: &HostEntry) -> Result<(), LaunchFailure> {
    let mut last = None;
    for address in &entry.addresses {
        let bound = match address {
            SocketAddress::Tcp(address) => TcpListener::bind(address).map(drop),
            SocketAddress::Unix(path) => clear_socket(path),
        };
        match bound {
            // Builds until 2025-08 set SO_REUSEPORT. Their closed connections keep the port for a minute from everybody but
            // the next server of that kind (measured): only the server itself can find out whether it can bind.
            Err(error) if error.kind() == ErrorKind::AddrInUse && listener::is_unused(address) => return Ok(()),
            // The next address of the name is not tried: clients that connect to the name would reach the other process.
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(in_use(address)),
            Err(error) => last = Some((address, error)),
            Ok(()) => return Ok(()),
        }
    }
    let Some((address, error)) = last else {
        let detail = format!("the host `{}` has no address", entry.text);
        return Err(LaunchFailure::new(FailureReason::AddressUnavailable, detail));
    };
    let detail = format!("cannot listen on `{}`: {error}", entry.text);
    let reason =
        if may_appear(address, &error) { FailureReason::AddressUnavailable } else { FailureReason::BadArgument };
    Err(LaunchFailure::of_io(reason, detail, &error))
}

/// Whether an address that cannot be bound may be there later: an interface that is not up yet, a folder that is not mounted.
fn may_appear(address: &SocketAddress, error: &io::Error) -> bool {
    match address {
        SocketAddress::Tcp(_) => {
            matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::NetworkDown | ErrorKind::NetworkUnreachable)
        }
        // A path that is too long, or taken by something else, is no error of the kernel.
        SocketAddress::Unix(_) => error.raw_os_error().is_some(),
    }
}

fn in_use(address: &SocketAddress) -> LaunchFailure {
    let place = match address {
        SocketAddress::Tcp(address) => address.to_string(),
        SocketAddress::Unix(path) => path.display().to_string(),
    };
    let owner = listener::describe_owner(address).unwrap_or_else(|| "another process".to_owned());
    let detail = format!("{owner} already listens on {place}; stop it, or give this server another `port`");
    LaunchFailure::new(FailureReason::PortInUse, detail)
}

/// Removes a socket file on which no process listens, because it would block the bind (measured). Removes nothing else.
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
mod tests;
