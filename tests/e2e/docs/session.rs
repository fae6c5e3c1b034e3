//! A reader's terminal: one shell for a page, in a network of its own, so that the addresses of a page are free.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use llama_warden_tests::{Sandbox, WAIT_LIMIT, daemon_program, eventually, executable, own_namespaces};
use llama_warden_tiny_gguf::TinyModel;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::{Instant, timeout};

use super::page::checkout;
use super::shape::{has_lines, has_shape};

/// Reads what to do from its input: `run BLOCK`, `start BLOCK` or `stop PID`. Job control gives what is started a process group
/// of its own that does not ignore INT.
const DRIVER: &str = r#"
set -E -m
python3 -c 'import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh22x", b"lo", 1))' || exit 1
while read -r _what _which; do
    case $_what in
    run)
        : >"$_which.failed"
        trap 'echo "$? $BASH_COMMAND" >>"$_which.failed"' ERR
        source "$_which" >"$_which.out" 2>&1 </dev/null
        trap - ERR
        echo done ;;
    start)
        (source "$_which") >"$_which.out" 2>&1 </dev/null &
        echo $! ;;
    stop)
        kill -INT -- "-$_which"
        wait "$_which" 2>/dev/null
        echo $? ;;
    esac
done
"#;

/// `cargo` for a reader whose build is done: it runs the programs that are built, and nothing that needs a compiler.
const CARGO: &str = r#"#!/bin/sh
case "$1 $2 $3" in
"run --release --") shift 3; exec llama-warden "$@" ;;
"xtask gguf "* | "xtask llama-server "*) shift; exec XTASK "$@" ;;
esac
echo "cargo $*: not in a test; mark the block with needs-build" >&2
exit 99
"#;

/// A command that failed, and its exit code.
#[derive(Debug, PartialEq, Eq)]
pub struct FailedCommand {
    pub code: i32,
    pub command: String,
}

/// The shell of one page.
pub struct ShellSession {
    shell: Child,
    input: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    blocks: PathBuf,
    folder: PathBuf,
    terminals: Vec<String>,
    count: usize,
}

impl ShellSession {
    /// Opens it in a folder that looks like a checkout and has models. `llama_server` is the one on PATH; `more` are further
    /// programs on it.
    pub async fn open(sandbox: &Sandbox, llama_server: &Path, more: &[PathBuf]) -> Self {
        let (folder, blocks, bin) = (sandbox.file("work"), sandbox.file("blocks"), sandbox.file("bin"));
        for folder in [&folder, &blocks, &bin, &sandbox.file("state")] {
            fs::create_dir(folder).expect("the sandbox can be written");
        }
        for name in ["config", "docs", "crates", "examples", "Cargo.toml"] {
            std::os::unix::fs::symlink(checkout(name), folder.join(name)).expect("linked");
        }
        fs::create_dir(folder.join("models")).expect("the sandbox can be written");
        for name in ["qwen3", "coder"] {
            let path = folder.join(format!("models/{name}.gguf"));
            TinyModel::new(name).write(&path).expect("the sandbox can be written");
        }
        // A script and not a link: llama-server finds its libraries beside its executable.
        let wrap = |name: &str, program: &Path| {
            executable(&bin.join(name), &format!("#!/bin/sh\nexec '{}' \"$@\"\n", program.display()))
        };
        wrap("llama-server", llama_server);
        for program in more {
            wrap(&program.file_name().expect("a name").to_string_lossy(), program);
        }
        std::os::unix::fs::symlink(daemon_program(), bin.join("llama-warden")).expect("linked");
        let xtask = daemon_program().with_file_name("xtask");
        executable(&bin.join("cargo"), &CARGO.replace("XTASK", &xtask.display().to_string()));
        fs::write(sandbox.file("driver.sh"), DRIVER).expect("the sandbox can be written");
        let under = own_namespaces(&["--net", "bash", "--noprofile", "--norc"]);
        let mut command = sandbox.program(&under[0]);
        command.args(&under[1..]).arg(sandbox.file("driver.sh")).current_dir(&folder);
        command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()));
        command.env("XDG_STATE_HOME", sandbox.file("state")).env("TMPDIR", sandbox.path()).env("LANG", "C.UTF-8");
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare and bash start");
        let input = shell.stdin.take().expect("piped");
        let answers = BufReader::new(shell.stdout.take().expect("piped")).lines();
        Self { shell, input, answers, blocks, folder, terminals: Vec::new(), count: 0 }
    }

    /// Writes a file that a page shows, or adds to it.
    pub fn write(&self, name: &str, text: &str, is_added: bool) {
        let path = self.folder.join(name);
        let folder = path.parent().expect("a file in a folder");
        fs::create_dir_all(folder).expect("the sandbox can be written");
        let real = fs::canonicalize(folder).expect("it exists");
        assert!(real.starts_with(fs::canonicalize(&self.folder).expect("it exists")), "{name} lies in the checkout");
        let before = if is_added { fs::read_to_string(&path).expect("a file to add to") + "\n" } else { String::new() };
        fs::write(path, before + text).expect("the sandbox can be written");
    }

    async fn ask(&mut self, request: &str) -> String {
        self.input.write_all(format!("{request}\n").as_bytes()).await.expect("the shell reads");
        let answer = timeout(2 * WAIT_LIMIT, self.answers.next_line()).await;
        let answer = answer.unwrap_or_else(|_| panic!("no end within {:?}: {request}", 2 * WAIT_LIMIT));
        answer.expect("readable").unwrap_or_else(|| panic!("the shell ended at: {request}"))
    }

    fn write_block(&mut self, script: &str) -> PathBuf {
        self.count += 1;
        let block = self.blocks.join(self.count.to_string());
        fs::write(&block, format!("{script}\n")).expect("the sandbox can be written");
        block
    }

    /// Runs commands to their end. Returns what they wrote, and those that failed.
    pub async fn run(&mut self, script: &str) -> (String, Vec<FailedCommand>) {
        let block = self.write_block(script);
        self.ask(&format!("run {}", block.display())).await;
        let failed = read(&block, "failed");
        let failed = failed.lines().map(|line| {
            let (code, command) = line.split_once(' ').unwrap_or((line, ""));
            FailedCommand { code: code.parse().unwrap_or(-1), command: command.to_owned() }
        });
        // The shell counts the block as a command of its own, which failed with the last one of it.
        let failed =
            failed.filter(|failed: &FailedCommand| !failed.command.starts_with("source \"$_which\"")).collect();
        (read(&block, "out"), failed)
    }

    /// Runs commands that only read, until they end well and write what is shown, if anything is.
    pub async fn run_until(&mut self, script: &str, shown: Option<&str>) {
        let limit = Instant::now() + WAIT_LIMIT;
        loop {
            let (output, failed) = self.run(script).await;
            let is_shown = shown.map_or(Ok(()), |shown| has_shape(shown, &output));
            if failed.is_empty() && is_shown.is_ok() {
                return;
            }
            assert!(
                Instant::now() < limit,
                "not within {WAIT_LIMIT:?}: {is_shown:?}, failed: {failed:?}; it said\n{output}"
            );
        }
    }

    /// Starts commands in a terminal of their own, and waits until they show these lines, or any where none are given.
    pub async fn start(&mut self, script: &str, shown: Option<&str>) {
        let block = self.write_block(script);
        let pid = self.ask(&format!("start {}", block.display())).await;
        self.terminals.push(pid);
        let what = format!("{script:?} shows {shown:?}");
        let is_shown = async || {
            let output = read(&block, "out");
            shown.map_or(!output.is_empty(), |shown| has_lines(shown, &output))
        };
        let shows = eventually(&what, WAIT_LIMIT, is_shown);
        if futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(shows)).await.is_err() {
            panic!("not within {WAIT_LIMIT:?}: {what}; it showed\n{}", read(&block, "out"));
        }
    }

    /// Ends what goes on in terminals, as Ctrl-C does.
    pub async fn end_terminals(&mut self) {
        for pid in std::mem::take(&mut self.terminals).into_iter().rev() {
            let code = self.ask(&format!("stop {pid}")).await;
            assert!(code == "0" || code == "130", "a command ended with {code} after INT");
        }
    }

    /// Ends what runs, as a reader does: Ctrl-C in every terminal, and `down` for a daemon in the background.
    pub async fn close(mut self) {
        self.end_terminals().await;
        if self.run("llama-warden status").await.1.is_empty() {
            let (output, failed) = self.run("llama-warden down").await;
            assert_eq!(failed, [], "{output}");
        }
        let Self { mut shell, input, .. } = self;
        drop(input);
        timeout(WAIT_LIMIT, shell.wait()).await.expect("the shell ends with its input").expect("it can be waited for");
    }
}

fn read(block: &Path, extension: &str) -> String {
    let bytes = fs::read(block.with_extension(extension)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
