//! Completions, typed into real shells.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex};

use llama_warden_stand_in::Script;
use llama_warden_tests::{Sandbox, TestTerminal, WAIT_LIMIT, daemon_program, eventually, sandbox, shell_on_path};
use tokio::process::Child;

/// A shell on a terminal.
struct TypedShell {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<String>>,
}

impl TypedShell {
    /// Starts a shell in which `llama-warden` prints its arguments between angle brackets, with its completions.
    async fn start(sandbox: &Sandbox, shell: &Path) -> Self {
        let program = daemon_program().display().to_string();
        let name = shell.file_name().and_then(|name| name.to_str()).expect("a name");
        let (arguments, setup): (&[&str], String) = match name {
            "bash" => (
                &["--norc", "--noprofile", "-i"],
                format!(
                    "bind 'set enable-bracketed-paste off'; llama-warden() {{ echo \"<$*>\"; }}; source <('{program}' completions bash)"
                ),
            ),
            "zsh" => (
                &["-f", "-i"],
                format!(
                    "llama-warden() {{ print -r -- \"<$*>\"; }}; autoload -U compinit; compinit -u -D; source <('{program}' completions zsh)"
                ),
            ),
            _ => (
                &["--no-config", "-i"],
                format!("function llama-warden; echo \"<$argv>\"; end; '{program}' completions fish | source"),
            ),
        };
        let terminal = TestTerminal::new(200, 50);
        // An interactive shell wants a terminal that is its own.
        let mut command = sandbox.program("setsid");
        command.arg("--ctty").arg(shell).args(arguments);
        let child = terminal.attach(&mut command).kill_on_drop(true).spawn().expect("it starts");
        let keyboard = File::from(terminal.master.try_clone().expect("a descriptor"));
        let screen = Arc::<Mutex<String>>::default();
        let (shown, mut master) = (Arc::clone(&screen), File::from(terminal.master));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = master.read(&mut buffer) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        let mut typed = Self { child, keyboard, screen };
        // The quotes keep the echo of the line from being taken for its output.
        typed.types(&format!("{setup}; echo 'set'-up\r"));
        typed.shows(0, "set-up").await;
        typed
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal takes it");
    }

    /// Waits for a text behind this place of the screen.
    async fn shows(&self, from: usize, text: &str) {
        let shown = || self.screen.lock().unwrap()[from..].to_owned();
        let what = format!("the terminal shows {text:?}");
        eventually(&what, WAIT_LIMIT, async || shown().contains(text)).await;
    }

    /// The arguments of a line that is typed, completed by the tab key where the rest is unique, and run.
    async fn completed(&mut self, line: &str, rest: &str) -> String {
        let from = self.screen.lock().unwrap().len();
        self.types(line);
        let last = line.rsplit(' ').next().expect("a word");
        self.shows(from, last).await;
        let from = self.screen.lock().unwrap().len();
        self.types("\t");
        self.shows(from, rest).await;
        let from = self.screen.lock().unwrap().len();
        self.types("\r");
        self.shows(from, ">\r\n").await;
        let shown = self.screen.lock().unwrap()[from..].to_owned();
        let begin = shown.find('<').expect("the arguments");
        shown[begin + 1..].split('>').next().unwrap_or_default().trim_end().to_owned()
    }
}

async fn completes(sandbox: &Sandbox, shell: &Path) {
    let mut fleet = sandbox.fleet();
    fleet.server("coder", Script::default()).server("qwen3", Script::default());
    fleet.section("[profiles.night]\nservers = [\"qwen3\"]");
    let config = fleet.write();
    let option = format!("--config {}", config.display());
    let mut typed = TypedShell::start(sandbox, shell).await;
    for (line, rest) in [
        ("prof", "ile"),
        ("profile sw", "itch"),
        ("restart --wait co", "der"),
        ("profile switch ni", "ght"),
        ("logs --stream stdo", "ut"),
        ("detector show gen", "eric"),
        ("status --wa", "tch"),
    ] {
        let line = format!("{option} {line}");
        let completed = typed.completed(&format!("llama-warden {line}"), rest).await;
        assert_eq!(completed, format!("{line}{rest}"), "without a daemon");
    }
    let daemon = sandbox.up(&fleet).await;
    // The daemon is asked, and not the file, which is invalid by now.
    std::fs::write(&config, std::fs::read_to_string(&config).unwrap() + "\nnonsense = 1\n").unwrap();
    let line = format!("{option} logs qw");
    assert_eq!(typed.completed(&format!("llama-warden {line}"), "en3").await, format!("{line}en3"));
    drop(daemon);
    typed.child.kill().await.expect("it runs");
}

#[test]
fn bash_completes_commands_options_and_the_names_of_a_daemon() {
    sandbox(async |sandbox| completes(sandbox, &shell_on_path("bash").expect("the tests need bash")).await);
}

#[test]
fn zsh_completes_commands_options_and_the_names_of_a_daemon() {
    if let Some(zsh) = shell_on_path("zsh") {
        sandbox(async |sandbox| completes(sandbox, &zsh).await);
    }
}

#[test]
fn fish_completes_commands_options_and_the_names_of_a_daemon() {
    if let Some(fish) = shell_on_path("fish") {
        sandbox(async |sandbox| completes(sandbox, &fish).await);
    }
}
