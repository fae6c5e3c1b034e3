//! While the program runs: signals, and the listener on its port.

use std::net::TcpListener;

use llama_warden_events::{Event, Incarnation, LaunchCommand, ListenerOwner, ProcessEnd, Signal};

use crate::Promise;
use crate::bench::{Bench, act, exists, id, on_runtime};

pub const PROMISES: &[Promise] = &[
    ("a_signal_reaches_the_whole_group_once", group),
    ("term_wakes_a_stopped_server", stopped),
    ("who_listens_is_our_child_nobody_or_somebody_else", listener),
    ("the_child_of_a_wrapper_script_counts_as_ours", wrapped),
];

fn group() {
    on_runtime(async {
        let body = "trap 'echo leader' TERM; (trap 'echo member; exit' TERM; echo up; while :; do sleep 0.01; done) & \
                    wait; wait; exit 4";
        let mut bench = Bench::new(body).await;
        bench.launch(1).await;
        bench.printed("up").await;
        bench.signal(1, Signal::TERM).await.expect("accepted");
        let delivered = bench.stage.hear(|event| matches!(event, Event::SignalDelivered { .. })).await;
        assert!(matches!(&delivered.event, Event::SignalDelivered { signal: Signal::TERM, rung } if rung.index == 0));
        assert_eq!(bench.exited().await.0, ProcessEnd::Exited { code: 4 });
        let mut lines = bench.lines();
        // The shell may say so of the `sleep` that it was in.
        lines.retain(|line| line != "Terminated");
        lines.sort();
        assert_eq!(lines, ["leader", "member", "up"]);
        bench.end().await;
    });
}

fn stopped() {
    on_runtime(async {
        let mut bench = Bench::new("echo up; kill -STOP $$; exit 3").await;
        bench.launch(1).await;
        bench.printed("up").await;
        bench.signal(1, Signal::TERM).await.expect("accepted");
        let (end, _) = bench.exited().await;
        assert!(matches!(end, ProcessEnd::Signaled { signal: Signal::TERM, .. }), "{end:?}");
        bench.end().await;
    });
}

async fn owner(bench: &mut Bench) -> ListenerOwner {
    let inquiry = LaunchCommand::IdentifyListener { server: id(), incarnation: Incarnation::new(1) };
    bench.stage.commands().send(inquiry).await.expect("accepted");
    let identified = bench.stage.hear(|event| matches!(event, Event::ListenerIdentified { .. })).await;
    match &identified.event {
        Event::ListenerIdentified { listener } => listener.clone(),
        _ => unreachable!("only that was picked"),
    }
}

fn listener() {
    on_runtime(async {
        let mut bench = Bench::with_environment(&[("PATH", "/usr/bin:/bin")]).await;
        let gate = bench.path("gate");
        let wait = format!("until [ -e '{}' ]; do sleep 0.01; done; ", gate.display());
        let server = bench.server("a", &format!("{wait}{} \"$@\"", act("listen")));
        let port = server.port;
        bench.configure([server]).await;
        bench.launch(1).await;
        assert_eq!(owner(&mut bench).await, ListenerOwner::Nobody);
        let stranger = TcpListener::bind(("127.0.0.1", port)).expect("bind");
        let foreign = owner(&mut bench).await;
        assert!(
            matches!(foreign, ListenerOwner::Foreign { pid: Some(pid), .. } if pid == std::process::id()),
            "{foreign:?}"
        );
        drop(stranger);
        std::fs::write(&gate, "").expect("write");
        bench.printed("listening").await;
        assert_eq!(owner(&mut bench).await, ListenerOwner::Own);
        bench.signal(1, Signal::TERM).await.expect("accepted");
        bench.exited().await;
        bench.end().await;
    });
}

fn wrapped() {
    on_runtime(async {
        let listen = act("listen").replacen("exec ", "", 1);
        let mut bench = Bench::new(&format!("{listen} \"$@\" & echo $! >&2; wait")).await;
        let leader = bench.launch(1).await;
        bench.printed("listening").await;
        assert_eq!(owner(&mut bench).await, ListenerOwner::Own);
        bench.signal(1, Signal::KILL).await.expect("accepted");
        bench.exited().await;
        assert!(!exists(leader));
        bench.end().await;
    });
}
