//! Launches that come to nothing.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use llama_warden_config::ServerSpec;
use llama_warden_events::{Event, FailureReason, ProcessEnd, Signal};

use crate::TestCase;
use crate::fixture::{LauncherFixture, id, no_zombies, on_runtime, read_pid, runs};

pub const TESTS: &[TestCase] = &[
    ("what_the_preflight_finds_fails_the_launch_before_a_process_exists", preflight),
    ("what_the_kernel_would_not_execute_is_told_by_its_own_reason", exec),
    ("what_the_loader_says_is_the_failure_and_no_process_is_published", loader),
    ("of_two_servers_with_one_port_the_second_is_not_started", one_port),
    ("an_early_exit_is_an_exit", early),
    ("a_launch_that_is_called_off_while_it_is_prepared_ends_by_that_signal", called_off),
    ("a_question_that_is_not_answered_is_ended", no_answer),
];

async fn failure(change: impl FnOnce(&LauncherFixture, &mut ServerSpec)) -> (FailureReason, String) {
    let mut fixture = LauncherFixture::with_environment(&[("PATH", "/usr/bin:/bin")]).await;
    let mut server = fixture.server("a", "exit 0");
    change(&fixture, &mut server);
    fixture.configure([server]).await;
    fixture.try_launch(&id(), 1).await.expect("accepted");
    let over = fixture.over().await;
    let log = fixture.bus.log();
    assert!(!log.contains("ServerSpawned"), "{log}");
    let Event::ServerFailed { reason, detail, .. } = &over.event else { panic!("{log}") };
    let failure = (*reason, detail.clone());
    fixture.end().await;
    no_zombies();
    failure
}

fn preflight() {
    on_runtime(async {
        let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = taken.local_addr().expect("bound").port();
        let (reason, _) = failure(|_, server| server.binary = Path::new("no-such-server").into()).await;
        assert_eq!(reason, FailureReason::BinaryNotFound);
        let (reason, _) = failure(|fixture, server| server.binary = fixture.folder.path().into()).await;
        assert_eq!(reason, FailureReason::BinaryNotFound);
        let (reason, _) = failure(|_, server| server.model = "/no/such/model.gguf".into()).await;
        assert_eq!(reason, FailureReason::ModelNotFound);
        let (reason, _) = failure(|fixture, server| server.model = fixture.write("text.gguf", "hello")).await;
        assert_eq!(reason, FailureReason::ModelInvalid);
        let (reason, detail) = failure(|_, server| server.port = port).await;
        assert_eq!(reason, FailureReason::PortInUse);
        assert!(detail.contains(&format!("(pid {})", std::process::id())), "{detail}");
        let (reason, _) = failure(|_, server| server.host = "--port".into()).await;
        assert_eq!(reason, FailureReason::BadArgument);
        let (reason, _) = failure(|_, server| server.api_key_file = Some("/no/such/keys".into())).await;
        assert_eq!(reason, FailureReason::FileNotFound);
        let (reason, _) = failure(|_, server| server.env_pass = vec!["[".into()]).await;
        assert_eq!(reason, FailureReason::BadArgument);
    });
}

fn exec() {
    on_runtime(async {
        let (reason, detail) =
            failure(|fixture, server| server.binary = fixture.write("lost", "#!/no/such/interpreter\n").into()).await;
        assert_eq!(reason, FailureReason::BinaryBroken);
        assert!(detail.contains("needs /no/such/interpreter to run"), "{detail}");
        let too_long = "x".repeat(200_000);
        let (reason, detail) = failure(|_, server| server.args = vec![too_long]).await;
        assert_eq!(reason, FailureReason::BadArgument);
        assert!(detail.contains("too long"), "{detail}");
    });
}

fn loader() {
    on_runtime(async {
        let lost = "llama-server: error while loading shared libraries: libggml.so: cannot open shared object file";
        let glibc = "llama-server: /lib/libc.so.6: version `GLIBC_2.38' not found (required by llama-server)";
        let cases = [
            (format!("echo \"{lost}\" >&2; exit 127"), lost),
            (format!("echo \"{}\" >&2; exit 1", glibc.replace('`', "\\`")), glibc),
            ("kill -ILL $$".to_owned(), "instructions that this CPU does not have"),
            ("exec /no/such/llama-server".to_owned(), "/no/such/llama-server: not found"),
        ];
        for (script, expected) in cases {
            let text = format!("#!/bin/sh\n{script}\n");
            let (reason, detail) =
                failure(|fixture, server| server.binary = fixture.write("broken", &text).into()).await;
            assert_eq!(reason, FailureReason::BinaryBroken, "{detail}");
            assert!(detail.contains(expected), "{detail}");
        }
    });
}

fn one_port() {
    on_runtime(async {
        let mut fixture = LauncherFixture::with_environment(&[("PATH", "/usr/bin:/bin")]).await;
        let first = fixture.server("a", "echo up; sleep 60");
        let mut second = fixture.server("b", "exit 0");
        (second.port, second.host) = (first.port, "0.0.0.0".into());
        let second_id = second.id.clone();
        fixture.configure([first, second]).await;
        fixture.launch(1).await;
        fixture.try_launch(&second_id, 1).await.expect("accepted");
        let over = fixture.over().await;
        assert_eq!(over.server, Some(second_id));
        assert!(matches!(over.event, Event::ServerFailed { reason: FailureReason::PortInUse, .. }), "{over:?}");
        fixture.end().await;
    });
}

fn early() {
    on_runtime(async {
        let mut fixture = LauncherFixture::new("exit 0").await;
        fixture.launch(1).await;
        assert_eq!(fixture.exited().await, (ProcessEnd::Exited { code: 0 }, 0));
        fixture.end().await;
    });
}

fn called_off() {
    on_runtime(async {
        let mut fixture = LauncherFixture::with_environment(&[("PATH", "/usr/bin:/bin")]).await;
        let file = fixture.path("questioned");
        let mut server = fixture.server("a", "");
        server.binary = fixture
            .write("hangs", format!("#!/bin/sh\n[ \"$1\" = --help ] && echo $$ > '{}'\nsleep 60\n", file.display()))
            .into();
        fixture.configure([server]).await;
        fixture.try_launch(&id(), 1).await.expect("accepted");
        let questioned = async {
            while std::fs::read_to_string(&file).map_or(true, |text| !text.ends_with('\n')) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), questioned).await.expect("is asked");
        fixture.signal(1, Signal::TERM).await.expect("accepted");
        let end = ProcessEnd::Signaled { signal: Signal::TERM, core_dumped: false };
        assert_eq!(fixture.exited().await, (end, 0));
        let gone = async {
            while runs(read_pid(&file)) {
                tokio::task::yield_now().await;
            }
        };
        let gone = tokio::time::timeout(Duration::from_secs(20), gone).await;
        assert!(gone.is_ok(), "{} runs", read_pid(&file));
        no_zombies();
        assert!(!fixture.bus.log().contains("SignalDelivered"), "there was nobody to deliver it to");
        fixture.end().await;
    });
}

fn no_answer() {
    on_runtime(async {
        let mut fixture = LauncherFixture::with_environment(&[("PATH", "/usr/bin:/bin")]).await;
        let mut server = fixture.server("a", "");
        // It leaves the pipes to a member of its group, floods them, and never ends.
        server.binary = fixture.write("floods", "#!/bin/sh\n[ $# -gt 1 ] && exit 8\nyes & yes >&2\n").into();
        fixture.configure([server]).await;
        fixture.launch(1).await;
        assert_eq!(fixture.exited().await.0, ProcessEnd::Exited { code: 8 });
        assert!(fixture.bus.log().contains("lists no options"), "{}", fixture.bus.log());
        fixture.end().await;
        no_zombies();
    });
}
