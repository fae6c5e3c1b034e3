//! The messages between the daemon and a shim, over a stream socket that also carries descriptors.
//!
//! A frame is two lengths, a message in JSON, and raw bytes: JSON because a daemon may meet the shims of an older version, and
//! both ignore the fields that they do not know. Frames of a length that no message has end the connection.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use llama_warden_events::{ProcessEnd, StreamName};
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Bytes of the two lengths before a message: of its JSON and of its body, little endian.
const LENGTHS: usize = 8;
/// Most bytes of a message in JSON.
const MAX_MESSAGE: usize = 64 * 1024;
/// Most bytes of a body: more than the kernel takes as arguments and environment.
const MAX_BODY: usize = 16 * 1024 * 1024;
/// Most descriptors of a frame: both pipes of a process, and the page of its launch.
const MAX_DESCRIPTORS: usize = 3;

/// What a daemon says to a shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ShimOrder {
    /// Run a program; the body is the program, its arguments and its variables, with a NUL between two. The first message, and sent once.
    Spawn(SpawnOrder),
    /// Send a signal to every process of the launch, and, unless it is CONT, wait for their ends.
    Signal {
        /// The number of the signal.
        number: i32,
    },
    /// Kill every process of the launch.
    Kill,
    /// Every message was taken: end. Processes that are left are killed.
    Release,
    /// Outlive the daemon from now on, or do not.
    Outlive(bool),
    /// Add the body to the note about the program that the next daemon reads.
    Note,
    /// The body was read from a pipe and is no whole line: the next daemon gets it before the rest.
    Unread {
        /// The pipe.
        stream: StreamName,
    },
}

/// Where a shim that outlives its daemon waits for the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keeping {
    /// The folder of the shims' sockets.
    pub(crate) folder: PathBuf,
    /// The name of the socket, before the process id of the shim.
    pub(crate) name: String,
}

/// How a program is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SpawnOrder {
    /// The short name of the shim, for people.
    pub(crate) name: String,
    /// The lock's file, which the process and its descendants hold.
    pub(crate) lock: Option<PathBuf>,
    /// How many arguments the program has.
    pub(crate) arguments: usize,
    /// Whether processes that outlive the program may run on while the daemon lives.
    pub(crate) may_leave_descendants: bool,
    /// The note about the program that the next daemon reads.
    pub(crate) note: String,
    /// Where to wait for the next daemon, if the program is to outlive this one.
    pub(crate) keeping: Option<Keeping>,
    /// Whether it is to outlive this daemon. Otherwise everything is killed when the daemon is gone.
    pub(crate) outlives: bool,
}

/// What a shim says to a daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ShimReport {
    /// The program runs; the frame carries the read ends of its standard output and standard error, and then the page that is kept for
    /// the next daemon, where there is one.
    Spawned(ProgramIdentity),
    /// The first message to the next daemon; the frame carries the same descriptors, and the body is the note.
    Held(ProgramIdentity),
    /// What was read while no daemon was there; the body is the rest of it.
    Output {
        /// The pipe.
        stream: StreamName,
        /// How many bytes before the body were dropped.
        dropped: u64,
        /// The line feeds among them; a shim of an older version has not counted them.
        #[serde(default)]
        dropped_lines: u64,
    },
    /// The program cannot be run.
    Refused {
        /// The error of the kernel.
        errno: i32,
    },
    /// A signal reached no process for another reason than that there is none.
    Undelivered {
        /// The number of the signal.
        number: i32,
        /// The error of the kernel.
        errno: i32,
    },
    /// The program runs, and would not outlive the daemon now, as it is to.
    Unkept {
        /// The error of the kernel.
        errno: i32,
    },
    /// The program has ended, and no descendant is left but those named.
    Ended(EndReport),
}

/// Names a process for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProgramIdentity {
    /// Its process id.
    pub(crate) pid: u32,
    /// Its start in clock ticks since the machine booted; 0 if `/proc` cannot be read.
    pub(crate) start_ticks: u64,
}

/// How a launch ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndReport {
    /// How the program ended.
    pub(crate) end: ProcessEnd,
    /// Number of descendants that were killed.
    pub(crate) killed: u32,
    /// Descendants that cannot be killed.
    pub(crate) left: Vec<u32>,
    /// The control groups that the program was in at its end, as `/proc/PID/cgroup` shows them.
    pub(crate) control_groups: String,
}

/// A message with its body and its descriptors.
#[derive(Debug)]
pub(crate) struct Frame<M> {
    pub(crate) message: M,
    pub(crate) body: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// Encodes a message and its body.
pub(crate) fn encode(message: &impl Serialize, body: &[u8]) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(message)?;
    let length = |bytes: usize, limit: usize| match u32::try_from(bytes) {
        Ok(length) if bytes <= limit => Ok(length.to_le_bytes()),
        _ => Err(io::Error::from(rustix::io::Errno::TOOBIG)),
    };
    let mut frame = Vec::with_capacity(LENGTHS + json.len() + body.len());
    frame.extend(length(json.len(), MAX_MESSAGE)?);
    frame.extend(length(body.len(), MAX_BODY)?);
    frame.extend(json);
    frame.extend(body);
    Ok(frame)
}

/// Sends `bytes` with `descriptors`, as much as the socket takes now; the descriptors go with the first byte.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(rustix::io::Errno::TOOBIG.into());
    }
    // A call with a time limit is interrupted where the process is stopped and goes on.
    Ok(retry_on_intr(|| sendmsg(socket.as_fd(), &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL))?)
}

/// Collects the bytes and descriptors of a socket into frames.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    bytes: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl FrameReader {
    /// Receives once. 0 is the end of the stream.
    pub(crate) fn receive(&mut self, socket: impl AsFd) -> io::Result<usize> {
        let mut chunk = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut buffers = [IoSliceMut::new(&mut chunk)];
        let received =
            retry_on_intr(|| recvmsg(socket.as_fd(), &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC))?.bytes;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        self.bytes.extend_from_slice(&chunk[..received]);
        Ok(received)
    }

    /// The next whole frame, with the number of descriptors that its message has.
    ///
    /// # Errors
    /// If the bytes are no frame: nothing that follows can be read.
    pub(crate) fn next<M: DeserializeOwned + Carries>(&mut self) -> io::Result<Option<Frame<M>>> {
        let length = |at: usize| {
            let bytes = self.bytes.get(at..at + LENGTHS / 2)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
        };
        let (Some(json), Some(body)) = (length(0), length(LENGTHS / 2)) else { return Ok(None) };
        if json > MAX_MESSAGE || body > MAX_BODY {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame longer than any message"));
        }
        let end = LENGTHS + json + body;
        if self.bytes.len() < end {
            return Ok(None);
        }
        let message: M = serde_json::from_slice(&self.bytes[LENGTHS..LENGTHS + json])?;
        let body = self.bytes[LENGTHS + json..end].to_vec();
        self.bytes.drain(..end);
        if self.bytes.is_empty() {
            // Frames are rare: nothing is kept between them.
            self.bytes = Vec::new();
        }
        let carried = message.descriptors().min(self.descriptors.len());
        Ok(Some(Frame { descriptors: self.descriptors.drain(..carried).collect(), message, body }))
    }
}

/// How many descriptors come with a message.
pub(crate) trait Carries {
    /// The number.
    fn descriptors(&self) -> usize;
}

impl Carries for ShimOrder {
    fn descriptors(&self) -> usize {
        0
    }
}

impl Carries for ShimReport {
    fn descriptors(&self) -> usize {
        if matches!(self, Self::Spawned(_) | Self::Held(_)) { MAX_DESCRIPTORS } else { 0 }
    }
}

#[cfg(test)]
mod tests;
