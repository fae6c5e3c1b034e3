//! Reads memory, wake-ups, processor time and children of a process from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use llama_warden_test_parts::error::{Error, OnPath};
use nix::errno::Errno;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

/// Memory of a process, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Pages in RAM, including shared pages of the program file.
    pub resident: u64,
    /// Of those, pages that belong to no file: heap and stacks.
    pub anonymous: u64,
    /// Changed pages that no other process has.
    pub private: u64,
}

/// Reads the memory of process `pid`.
///
/// # Errors
/// When there is no such process.
pub fn memory(pid: u32) -> Result<ProcessMemory, Error> {
    let text = read(&format!("/proc/{pid}/smaps_rollup"))?;
    let (resident, anonymous) = (field(&text, "Rss:"), field(&text, "Anonymous:"));
    Ok(ProcessMemory { resident, anonymous, private: field(&text, "Private_Dirty:") })
}

/// Counts how often the threads of process `pid` have gone to sleep so far, which is how often they were woken.
///
/// # Errors
/// When there is no such process.
pub fn sleeps(pid: u32) -> Result<u64, Error> {
    let tasks = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&tasks).on("read", Path::new(&tasks))?;
    // A thread may end between the listing and the read. Its count is lost, but then the process was not idle anyway.
    let statuses = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    Ok(statuses.map(|status| field(&status, "voluntary_ctxt_switches:")).sum())
}

/// Processor time that process `pid` has used, including its ended threads, to the nanosecond.
///
/// # Errors
/// When there is no such process.
pub fn processor_time(pid: u32) -> Result<Duration, Error> {
    let folder = format!("/proc/{pid}");
    let id = i32::try_from(pid).map_err(|_| Errno::ESRCH);
    let time = id.and_then(|id| clock_getcpuclockid(Pid::from_raw(id))).and_then(ClockId::now);
    time.map(Duration::from).map_err(std::io::Error::from).on("read the processor time of", Path::new(&folder))
}

/// Processor time that this thread has used, to the nanosecond.
///
/// # Errors
/// When the kernel does not know.
pub fn own_thread_time() -> Result<Duration, Error> {
    let time = ClockId::CLOCK_THREAD_CPUTIME_ID.now().map_err(std::io::Error::from);
    time.map(Duration::from).on("read the processor time of", Path::new("/proc/thread-self"))
}

/// The processes whose parent is process `pid`, each with its state: `Z` is a zombie.
pub fn children(pid: u32) -> BTreeMap<u32, char> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let child = |entry: fs::DirEntry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut fields = fields.split(' ');
        let state = fields.next()?.chars().next()?;
        (fields.next()?.parse() == Ok(pid)).then_some((id, state))
    };
    entries.filter_map(child).collect()
}

/// The processes whose command line names `folder`, but for this one.
pub fn processes_naming(folder: &Path) -> Vec<u32> {
    let folder = folder.display().to_string();
    let names = |id: &u32| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&folder)
    };
    let ids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| *id != std::process::id()).filter(names).collect()
}

fn read(path: &str) -> Result<String, Error> {
    fs::read_to_string(path).on("read", Path::new(path))
}

/// Returns the number after `name` at the start of a line, or 0 if there is no such line.
fn field(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    value.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn this_process_has_memory() {
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.resident > memory.anonymous && memory.anonymous > 0, "{memory:?}");
    }

    #[test]
    fn a_process_that_waits_for_input_has_slept_more_after_it() {
        // A child process, because the threads of this process come and go with other tests.
        let mut echo = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut input, mut output) = (echo.stdin.take().unwrap(), echo.stdout.take().unwrap());
        let mut say = || {
            input.write_all(b"x").unwrap();
            output.read_exact(&mut [0]).unwrap();
            sleeps(echo.id()).unwrap()
        };
        let first = say();
        assert!((0..1000).any(|_| say() > first));
        echo.kill().unwrap();
        echo.wait().unwrap();
    }

    #[test]
    fn processor_time_is_that_of_all_threads_also_of_ended_ones() {
        let before = processor_time(std::process::id()).unwrap();
        let work = || {
            let before = own_thread_time().unwrap();
            while own_thread_time().unwrap() - before < Duration::from_millis(5) {}
        };
        std::thread::spawn(work).join().unwrap();
        assert!(processor_time(std::process::id()).unwrap() - before >= Duration::from_millis(5));
    }
}
