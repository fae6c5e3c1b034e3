//! While the program runs: signals, and the listener on its port.

use std::net::TcpListener;

use llama_warden_events::{Event, Incarnation, LaunchCommand, ListenerOwner, ProcessEnd, Signal};

use crate::TestCase;
use crate::fixture::{LauncherFixture, child_command, exists, id, on_runtime};

pub const TESTS: &[TestCase] = &[
    ("a_signal_reaches_the_whole_group_once", group),
    ("term_wakes_a_stopped_server", stopped),
    ("who_listens_is_our_child_nobody_or_somebody_else", listener),
    ("the_child_of_a_wrapper_script_counts_as_ours", wrapped),
];

fn group() {
    on_runtime(async {
        let body = "trap 'echo leader' TERM; (trap 'echo member; exit' TERM; echo up; while :; do sleep 0.01; done) & \
                    wait; wait; exit 4";
        let mut fixture = LauncherFixture::new(body).await;
        fixture.launch(1).await;
        fixture.printed("up").await;
        fixture.signal(1, Signal::TERM).await.expect("accepted");
        let delivered = fixture.bus.wait_for(|event| matches!(event, Event::SignalDelivered { .. })).await;
        assert!(matches!(&delivered.event, Event::SignalDelivered { signal: Signal::TERM, rung } if rung.index == 0));
        assert_eq!(fixture.exited().await.0, ProcessEnd::Exited { code: 4 });
        let mut lines = fixture.lines();
        // The shell may say so of the `sleep` that it was in.
        lines.retain(|line| line != "Terminated");
        lines.sort();
        assert_eq!(lines, ["leader", "member", "up"]);
        fixture.end().await;
    });
}

fn stopped() {
    on_runtime(async {
        let mut fixture = LauncherFixture::new("echo up; kill -STOP $$; exit 3").await;
        fixture.launch(1).await;
        fixture.printed("up").await;
        fixture.signal(1, Signal::TERM).await.expect("accepted");
        let (end, _) = fixture.exited().await;
        assert!(matches!(end, ProcessEnd::Signaled { signal: Signal::TERM, .. }), "{end:?}");
        fixture.end().await;
    });
}

async fn owner(fixture: &mut LauncherFixture) -> ListenerOwner {
    let inquiry = LaunchCommand::IdentifyListener { server: id(), incarnation: Incarnation::new(1) };
    fixture.bus.commands().send(inquiry).await.expect("accepted");
    let identified = fixture.bus.wait_for(|event| matches!(event, Event::ListenerIdentified { .. })).await;
    match &identified.event {
        Event::ListenerIdentified { listener } => listener.clone(),
        _ => unreachable!("only that was picked"),
    }
}

fn listener() {
    on_runtime(async {
        let mut fixture = LauncherFixture::with_environment(&[("PATH", "/usr/bin:/bin")]).await;
        let gate = fixture.path("gate");
        let wait = format!("until [ -e '{}' ]; do sleep 0.01; done; ", gate.display());
        let server = fixture.server("a", &format!("{wait}{} \"$@\"", child_command("listen")));
        let port = server.port;
        fixture.configure([server]).await;
        fixture.launch(1).await;
        assert_eq!(owner(&mut fixture).await, ListenerOwner::Nobody);
        let stranger = TcpListener::bind(("127.0.0.1", port)).expect("bind");
        let foreign = owner(&mut fixture).await;
        assert!(
            matches!(foreign, ListenerOwner::Foreign { pid: Some(pid), .. } if pid == std::process::id()),
            "{foreign:?}"
        );
        drop(stranger);
        std::fs::write(&gate, "").expect("write");
        fixture.printed("listening").await;
        assert_eq!(owner(&mut fixture).await, ListenerOwner::Own);
        fixture.signal(1, Signal::TERM).await.expect("accepted");
        fixture.exited().await;
        fixture.end().await;
    });
}

fn wrapped() {
    on_runtime(async {
        let listen = child_command("listen").replacen("exec ", "", 1);
        let mut fixture = LauncherFixture::new(&format!("{listen} \"$@\" & echo $! >&2; wait")).await;
        let leader = fixture.launch(1).await;
        fixture.printed("listening").await;
        assert_eq!(owner(&mut fixture).await, ListenerOwner::Own);
        fixture.signal(1, Signal::KILL).await.expect("accepted");
        fixture.exited().await;
        assert!(!exists(leader));
        fixture.end().await;
    });
}
