//! `top`: the view on the whole screen, driven by keys in a terminal of its own.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use llama_warden_stand_in::Script;
use llama_warden_state::PhaseName;
use llama_warden_tests::{
    Sandbox, TerminalScreen, TestDaemon, TestTerminal, WAIT_LIMIT, daemon_program, eventually, sandbox,
};
use nix::sys::signal::Signal;
use tokio::process::Child;
use tokio::time::timeout;

/// A running `top` and its terminal.
struct Top {
    child: Child,
    keyboard: File,
    written: Arc<Mutex<String>>,
    size: (u16, u16),
    _terminal: TestTerminal,
}

impl Top {
    fn start(sandbox: &Sandbox, daemon: &TestDaemon, size: (u16, u16)) -> Self {
        Self::start_with(sandbox, daemon, size, &[])
    }

    fn start_with(sandbox: &Sandbox, daemon: &TestDaemon, (columns, rows): (u16, u16), options: &[&str]) -> Self {
        let terminal = TestTerminal::new(columns, rows);
        let mut command = sandbox.program(daemon_program());
        command.arg("--config").arg(daemon.config()).arg("top").args(options);
        let child = terminal.attach(&mut command).spawn().expect("llama-warden is built");
        let [mut screen, keyboard] = [(); 2].map(|()| File::from(terminal.master.try_clone().expect("a descriptor")));
        let written = Arc::new(Mutex::new(String::new()));
        let reader = Arc::clone(&written);
        // It ends with the terminal.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                reader.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        });
        Self { child, keyboard, written, size: (columns, rows), _terminal: terminal }
    }

    async fn shows(&self, text: &str) {
        let (columns, rows) = self.size;
        let is_shown = async || {
            let screen = TerminalScreen::after(&self.written.lock().unwrap(), columns.into(), rows.into());
            screen.lines().iter().any(|line| line.contains(text))
        };
        eventually(&format!("it shows {text:?}"), WAIT_LIMIT, is_shown).await;
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// The screen of before is back, with nothing on it.
    async fn ends(mut self, code: i32) {
        let status = timeout(WAIT_LIMIT, self.child.wait()).await.expect("it ends").unwrap();
        assert_eq!(status.code(), Some(code));
        let is_back = async || self.written.lock().unwrap().contains("\x1b[?1049l");
        eventually("the screen of before is back", WAIT_LIMIT, is_back).await;
    }
}

#[test]
fn keys_stop_and_start_the_chosen_server_and_leave_it_as_it_is() {
    sandbox(async |sandbox| {
        let (_, daemon) = sandbox.up_ready(&["a", "b"]).await;
        let mut top = Top::start(sandbox, &daemon, (100, 24));
        top.shows("2 of 2 ready").await;
        top.shows("q leave").await;
        // Down to b, and asked once.
        top.press("jx");
        top.shows("stop b?").await;
        top.press("y");
        top.shows("1 of 2 ready").await;
        assert_eq!(daemon.report("b").await.phase, PhaseName::Exited);
        // It is in trouble's place now, and still the chosen one.
        top.press("s");
        top.shows("2 of 2 ready").await;
        top.press("q");
        top.ends(0).await;
        assert!(daemon.report("a").await.is_ready && daemon.report("b").await.is_ready);
    });
}

#[test]
fn a_small_window_and_the_end_of_the_daemon_are_survived() {
    sandbox(async |sandbox| {
        let (_, daemon) = sandbox.up_ready(&["a"]).await;
        let mut small = Top::start(sandbox, &daemon, (20, 5));
        let large = Top::start(sandbox, &daemon, (80, 24));
        small.shows("ready").await;
        large.shows("1 of 1 ready").await;
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.exit_code().await, 0);
        large.shows("no daemon answers").await;
        small.press("\x03");
        small.ends(0).await;
        let mut large = large;
        large.press("q");
        large.ends(0).await;
    });
}

#[test]
fn servers_of_peers_are_shown_and_one_that_hangs_holds_up_no_key() {
    sandbox(async |sandbox| {
        let mut gpu2 = sandbox.fleet_named("gpu2");
        gpu2.server("c", Script::default());
        let far = sandbox.up(&gpu2).await;
        far.ready("c").await;
        let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut hub = sandbox.fleet();
        hub.section(&format!("[peers.gpu2]\nurl = \"http://127.0.0.1:{}\"\n", gpu2.listen()));
        hub.section(&format!("[peers.gpu3]\nurl = \"http://{}\"\n", hanging.local_addr().unwrap()));
        hub.server("a", Script::default());
        let daemon = sandbox.up(&hub).await;
        daemon.ready("a").await;
        let mut top = Top::start_with(sandbox, &daemon, (100, 24), &["--all"]);
        top.shows("1 of 1 ready, 1 running · gpu2: 1 of 1 · gpu3: timed-out").await;
        // The peer in trouble comes first, and is the chosen one.
        top.shows("no answer within 2 s").await;
        top.press("jjx");
        top.shows(&format!(
            "gpu2 commands its own servers: llama-warden stop c --address http://127.0.0.1:{}",
            gpu2.listen()
        ))
        .await;
        top.press("kx");
        top.shows("stop a?").await;
        top.press("y");
        top.shows("0 of 1 ready, 0 running · gpu2: 1 of 1").await;
        far.signal(Signal::SIGTERM);
        assert_eq!(far.exit_code().await, 0);
        top.shows("gpu2: unreachable").await;
        top.press("q");
        top.ends(0).await;
        let plain = Top::start(sandbox, &daemon, (100, 24));
        plain.shows("0 of 1 ready, 0 running").await;
        assert!(!plain.written.lock().unwrap().contains("gpu2"));
    });
}

#[test]
fn a_daemon_that_hangs_does_not_keep_the_user_from_leaving() {
    sandbox(async |sandbox| {
        let (_, daemon) = sandbox.up_ready(&["a", "b"]).await;
        let mut top = Top::start(sandbox, &daemon, (80, 24));
        top.shows("2 of 2 ready").await;
        daemon.signal(Signal::SIGSTOP);
        // The log of the next server is asked for, and does not come.
        top.press("j?");
        top.shows("choose a server, or move in a large log").await;
        top.press("?q");
        top.ends(0).await;
        daemon.signal(Signal::SIGCONT);
    });
}

#[test]
fn without_a_terminal_another_command_is_named() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let ran = sandbox.run(&fleet.write(), ["top"]).await.expect(2);
        assert!(ran.stderr.contains("needs a terminal") && ran.stderr.contains("status --watch"), "{}", ran.stderr);
    });
}
