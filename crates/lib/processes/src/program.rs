//! A program, ready to be executed, and the one way in which a shim makes its child.
//!
//! The child has the shim's memory until it executes, and the shim waits that long, as with vfork(2): no memory is copied, neither at
//! once nor page by page, and an error of the kernel is found where the child has written it. Everything that takes memory is made
//! beforehand.

use std::cell::Cell;
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sched::{CloneFlags, clone};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::waitpid;
use nix::unistd::{dup2_stderr, dup2_stdout, execve, getpid, getppid, setsid};

/// Bytes of the child's stack until it executes. From so many on, the allocator takes fresh pages from the kernel and gives them back:
/// only those that the child touches exist, and only that long.
const STACK: usize = 256 * 1024;
/// Where a name is searched without PATH, as in execvp(3).
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";
/// What runs a file that is no program and names no interpreter.
const SHELL: &CStr = c"/bin/sh";
/// The exit code of a child whose program cannot be executed. Nobody sees it.
const NOT_EXECUTED: isize = 127;

/// A program with its arguments and variables, as the kernel takes them.
#[derive(Debug)]
pub(crate) struct ReadyProgram {
    /// The files to try, in this order.
    files: Vec<CString>,
    is_searched: bool,
    arguments: Vec<CString>,
    /// The arguments of [`SHELL`], with an empty place for the file.
    shell_arguments: Vec<CString>,
    variables: Vec<CString>,
}

impl ReadyProgram {
    /// The program of a `block`: its name, `arguments` arguments and its variables, with a NUL between two.
    ///
    /// # Errors
    /// If it has no name.
    pub(crate) fn new(block: &[u8], arguments: usize) -> io::Result<Self> {
        // Without the NUL bytes that part them, so that an error cannot come.
        let mut words = block.split(|byte| *byte == 0).map(|word| CString::new(word).unwrap_or_default());
        let name = words.next().filter(|name| !name.is_empty()).ok_or(Errno::ENOENT)?;
        let arguments: Vec<CString> = std::iter::once(name.clone()).chain(words.by_ref().take(arguments)).collect();
        let has_name = |variable: &CString| variable.to_bytes().iter().skip(1).any(|byte| *byte == b'=');
        let variables: Vec<CString> = words.filter(has_name).collect();
        let is_searched = !name.to_bytes().contains(&b'/');
        let files = if is_searched { searched(&name, &variables) } else { vec![name] };
        let shell = [SHELL.to_owned(), CString::default()];
        let shell_arguments = shell.into_iter().chain(arguments.iter().skip(1).cloned()).collect();
        Ok(Self { files, is_searched, arguments, shell_arguments, variables })
    }

    /// Runs the program as a child of this process, in a session of its own, with both files as its standard output and standard error.
    /// Returns its process id once it is executed.
    ///
    /// # Errors
    /// If the kernel gives no process, or does not execute the program.
    pub(crate) fn run(mut self, stdout: &impl AsFd, stderr: &impl AsFd) -> io::Result<u32> {
        let shim = getpid();
        let refused: Cell<Option<Errno>> = Cell::new(None);
        let mut begin = || -> Result<Infallible, Errno> {
            setsid()?;
            // The shim's own, in which everything is blocked, would be inherited.
            SigSet::empty().thread_set_mask()?;
            // The second net, for the case that somebody kills the shim; the kernel takes it away where exec changes the user.
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The shim may have been killed before prctl was called; the kernel sends no signal then.
            if getppid() != shim {
                return Err(Errno::ESRCH);
            }
            // Standard input is the shim's, which reads nothing.
            dup2_stdout(stdout)?;
            dup2_stderr(stderr)?;
            Err(self.execute())
        };
        let child = || {
            let Err(errno) = begin();
            refused.set(Some(errno));
            NOT_EXECUTED
        };
        let mut stack = vec![0; STACK];
        let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
        #[expect(
            unsafe_code,
            reason = "a copy of the memory would be thrown away by exec, and costs more than exec does"
        )]
        // SAFETY: the child makes system calls, allocates, and has a stack of its own, while this thread, the only one, waits. No code of
        // this program handles a signal, so that none runs in the child when it unblocks them.
        let child = unsafe { clone(Box::new(child), &mut stack, flags, Some(Signal::SIGCHLD as i32)) }?;
        match refused.take() {
            None => Ok(child.as_raw().unsigned_abs()),
            Some(errno) => {
                // Waits: the child has given the memory back and is still ending.
                let _ = waitpid(child, None);
                Err(errno.into())
            }
        }
    }

    /// Executes the program in the place of this process, as execvp(3) does. Returns why it cannot.
    fn execute(&mut self) -> Errno {
        let mut last = Errno::ENOENT;
        for file in &mut self.files {
            let Err(mut errno) = execve(file, &self.arguments, &self.variables);
            if errno == Errno::ENOEXEC {
                std::mem::swap(file, &mut self.shell_arguments[1]);
                let Err(error) = execve(SHELL, &self.shell_arguments, &self.variables);
                errno = error;
            }
            match errno {
                // Another file may do, and that this one is refused says more than that others are not there.
                Errno::EACCES if self.is_searched => last = errno,
                Errno::ENOENT | Errno::ENOTDIR if self.is_searched => {}
                _ => return errno,
            }
        }
        last
    }
}

/// The files that a name may mean.
fn searched(name: &CStr, variables: &[CString]) -> Vec<CString> {
    let path = variables.iter().find_map(|variable| variable.to_bytes().strip_prefix(b"PATH="));
    let folders = path.unwrap_or(DEFAULT_PATH).split(|byte| *byte == b':');
    let files = folders.map(|folder| match folder {
        // The current folder.
        b"" => name.to_bytes().to_vec(),
        folder => [folder, b"/", name.to_bytes()].concat(),
    });
    files.filter_map(|file| CString::new(file).ok()).collect()
}

#[cfg(test)]
mod tests;
