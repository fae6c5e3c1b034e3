//! Candidates to headers, on as many threads as there are usable CPUs.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::fs::{Mode, OFlags};

use crate::gguf::{ByteOrder, GgufHeader, HeaderError};
use crate::report::{ModelProblem, ProblemReason};
use crate::walk::Candidate;

/// A file whose header was read.
#[derive(Debug)]
pub(crate) struct Sound {
    pub(crate) bytes: u64,
    pub(crate) header: GgufHeader,
}

/// Reads all candidates; the outcomes are in their order.
pub(crate) fn read_all(candidates: &[Candidate]) -> Vec<Result<Sound, ModelProblem>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let indices = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        let in_range = indices.map_while(|index| Some((index, candidates.get(index)?)));
        in_range.map(|(index, candidate)| (index, read(candidate))).collect::<Vec<_>>()
    };
    // How many CPUs there are takes longer to read, from control groups, than one header.
    let helpers = match candidates {
        [] | [_] => 0,
        _ => thread::available_parallelism().map_or(1, usize::from).min(candidates.len()) - 1,
    };
    let mut outcomes = thread::scope(|scope| {
        // This thread works too, so that a helper that cannot be had costs nothing but time.
        let helpers: Vec<_> =
            (0..helpers).filter_map(|_| thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
        let mut outcomes = work();
        for helper in helpers {
            match helper.join() {
                Ok(read) => outcomes.extend(read),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        outcomes
    });
    outcomes.sort_unstable_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Reads one file's header.
pub(crate) fn read(candidate: &Candidate) -> Result<Sound, ModelProblem> {
    let problem = |reason, detail: String| ModelProblem::new(&candidate.path, reason, detail);
    let unreadable = |error: io::Error| problem(ProblemReason::FileUnreadable, format!("cannot read it: {error}"));
    // Since the check of the name, it may have become a FIFO, on which a blocking open waits, or a link.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
    let file = rustix::fs::open(&candidate.target, flags, Mode::empty()).map_err(|errno| unreadable(errno.into()))?;
    let file = File::from(file);
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(problem(ProblemReason::NotAFile, "not a regular file".to_owned()));
    }
    let bytes = metadata.len();
    let header = GgufHeader::read(file, bytes).map_err(|error| problem(reason(&error), error.to_string()))?;
    if header.byte_order != ByteOrder::NATIVE {
        let detail = "the file is of the other byte order than this machine";
        return Err(problem(ProblemReason::ByteOrderForeign, detail.to_owned()));
    }
    Ok(Sound { bytes, header })
}

const fn reason(error: &HeaderError) -> ProblemReason {
    match error {
        HeaderError::Io(_) => ProblemReason::FileUnreadable,
        HeaderError::Empty | HeaderError::NotGguf(_) => ProblemReason::NotGguf,
        HeaderError::Version(_) => ProblemReason::VersionUnsupported,
        HeaderError::HeaderCut { .. } | HeaderError::TensorsCut { .. } => ProblemReason::Truncated,
        HeaderError::TooLong => ProblemReason::HeaderTooLong,
        HeaderError::Count { .. } | HeaderError::Malformed { .. } => ProblemReason::HeaderMalformed,
    }
}
