//! Which requests the HTTP listener and the control socket refuse.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use llama_warden_stand_in::Script;
use llama_warden_tests::{DaemonOptions, ProgramRun, Sandbox, TestFleet, TestRequest, WAIT_LIMIT, is_root, sandbox};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Fault S21.
#[test]
fn a_web_page_cannot_drive_the_daemon() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let stop = || TestRequest::post("/api/v1/servers/a/stop");
        let cases = [
            ("rebound name", stop().header("host", "evil.example:9888"), 403),
            ("rebound name, reading", TestRequest::get("/api/v1/status").header("host", "evil.example"), 403),
            ("foreign page", stop().header("origin", "http://evil.example"), 403),
            ("opaque page", stop().header("origin", "null"), 403),
            ("foreign site", stop().header("sec-fetch-site", "cross-site"), 403),
            ("form", stop().header("content-type", "text/plain").body("x"), 415),
            (
                "form of another kind",
                stop().header("content-type", "application/x-www-form-urlencoded").body("x=1"),
                415,
            ),
            ("huge body", stop().header("content-type", "application/json").body(vec![b' '; 1 << 20]), 413),
            ("unknown parameter", TestRequest::post("/api/v1/servers/a/stop?forse=1"), 400),
            ("unknown server", TestRequest::post("/api/v1/servers/b/stop"), 404),
            ("unknown path", TestRequest::get("/api/v1/nothing"), 404),
            ("wrong method", TestRequest::get("/api/v1/servers/a/stop"), 405),
        ];
        for (case, request, status) in cases {
            let answer = request.send(daemon.http()).await.unwrap_or_else(|error| panic!("{case}: {error:?}"));
            assert_eq!(answer.status.as_u16(), status, "{case}: {}", answer.text());
            assert_eq!(answer.headers["content-type"], "application/problem+json", "{case}");
            let problem = answer.json();
            assert!(
                ["type", "title", "detail", "reason"].iter().all(|key| problem[key].is_string()),
                "{case}: {problem}"
            );
        }
        assert_eq!(daemon.count("a", "CommandAccepted").await, 0);
        assert!(daemon.report("a").await.is_ready);
        let own = format!("http://localhost:{}", fleet.listen());
        let own = stop().header("origin", &own).header("host", &format!("localhost:{}", fleet.listen()));
        own.send(daemon.http()).await.unwrap().expect(202);
    });
}

/// Fault S21.
#[test]
fn a_token_opens_what_is_guarded_and_is_not_asked_for_on_the_socket() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let token = sandbox.file("token");
        std::fs::write(&token, "s3cret\n").unwrap();
        fleet.daemon(&format!("token-file = \"{}\"", token.display())).server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let status = || TestRequest::get("/api/v1/status");
        for request in
            [status(), status().header("authorization", "Bearer wrong"), TestRequest::post("/api/v1/servers/a/stop")]
        {
            request.send(daemon.http()).await.unwrap().expect(401);
        }
        status().header("authorization", "Bearer s3cret").send(daemon.http()).await.unwrap().expect(200);
        for open in ["/livez", "/readyz", "/metrics"] {
            TestRequest::get(open).send(daemon.http()).await.unwrap().expect(200);
        }
        daemon.get("/api/v1/status").await.expect(200);
        sandbox.run(daemon.config(), ["status"]).await.expect(0);
    });
}

/// Fault S21.
#[test]
fn an_unfinished_request_is_closed_and_delays_nobody() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        let mut connections = Vec::new();
        for _ in 0..50 {
            let mut stream = TcpStream::connect(("127.0.0.1", fleet.listen())).await.unwrap();
            stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nHost: loc").await.unwrap();
            connections.push(stream);
        }
        daemon.ready("a").await;
        TestRequest::get("/api/v1/status").send(daemon.http()).await.unwrap().expect(200);
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(WAIT_LIMIT, connections[0].read_to_end(&mut rest)).await;
        closed.expect("an unfinished request is given up").unwrap();
        let rest = String::from_utf8_lossy(&rest);
        assert!(rest.starts_with("HTTP/1.1 408 ") && rest.contains("\"reason\":\"head-too-slow\""), "{rest}");
        assert_eq!(daemon.count("a", "CommandAccepted").await, 0);
    });
}

async fn refused(sandbox: &Sandbox, fleet: &TestFleet, words: &[&str]) {
    let daemon = sandbox.launch(fleet, &DaemonOptions::default());
    let code = daemon.exit_code().await;
    assert!([1, 2].contains(&code), "exit code {code}: {}", daemon.log());
    for word in words {
        assert!(daemon.log().contains(word), "no `{word}` in: {}", daemon.log());
    }
}

/// Fault S22.
#[test]
fn a_control_socket_that_cannot_be_is_refused_with_a_clear_error() {
    sandbox(async |sandbox| {
        let mut long = sandbox.fleet_named("long");
        let deep = sandbox.file(&"d".repeat(110));
        long.daemon(&format!("state-dir = \"{}\"", deep.display())).server("a", Script::default());
        refused(sandbox, &long, &["control.sock", "107"]).await;

        let mut taken = sandbox.fleet_named("taken");
        taken.server("a", Script::default());
        std::fs::create_dir_all(taken.state_dir()).unwrap();
        std::fs::write(taken.state_dir().join("daemon.lock"), "").unwrap();
        let precious = taken.state_dir().join("control.sock");
        std::fs::write(&precious, "precious").unwrap();
        refused(sandbox, &taken, &["control.sock"]).await;
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");
        std::fs::remove_file(&precious).unwrap();
        let elsewhere = sandbox.file("elsewhere.sock");
        symlink(&elsewhere, &precious).unwrap();
        refused(sandbox, &taken, &["control.sock", "symbolic link"]).await;
        assert!(!elsewhere.exists());
    });
}

/// Fault S22.
#[test]
fn another_user_cannot_reach_the_control_socket() {
    if !is_root() {
        return;
    }
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        // The socket is private even if the directories above it are not.
        std::fs::set_permissions(sandbox.path(), Permissions::from_mode(0o755)).unwrap();
        let socket = daemon.state_dir().join("control.sock");
        let ask = async |user: u32| {
            let mut command = sandbox.program(sandbox.copy_of_daemon());
            command.arg("--address").arg(format!("unix:{}", socket.display())).arg("down").uid(user).gid(user);
            ProgramRun::to_end(command).await
        };
        let stranger = ask(65_534).await.expect(5);
        assert!(stranger.stderr.to_lowercase().contains("permission denied"), "{}", stranger.stderr);
        assert!(daemon.report("a").await.is_ready);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(daemon.state_dir()), mode(&socket)), (0o700, 0o600));
        ask(0).await.expect(0);
        assert_eq!(daemon.exit_code().await, 0);
    });
}

/// Fault S29.
#[test]
fn another_user_of_the_machine_cannot_drive_the_daemon_over_tcp() {
    if !is_root() {
        return;
    }
    sandbox(async |sandbox| {
        for (fleet, keys, served) in
            [("same", "", false), ("any", "local-users = \"any\"", true), ("token", "token-file = \"TOKEN\"", false)]
        {
            let mut fleet = sandbox.fleet_named(fleet);
            let token = sandbox.file("token");
            std::fs::write(&token, "s3cret\n").unwrap();
            fleet.daemon(&keys.replace("TOKEN", &token.display().to_string())).server("a", Script::default());
            let daemon = sandbox.up(&fleet).await;
            daemon.ready("a").await;
            std::fs::set_permissions(sandbox.path(), Permissions::from_mode(0o755)).unwrap();
            let ask = async |user: u32, arguments: &[&str]| {
                let mut command = sandbox.program(sandbox.copy_of_daemon());
                command.arg("--address").arg(format!("http://127.0.0.1:{}", fleet.listen()));
                command.args(arguments).uid(user).gid(user);
                ProgramRun::to_end(command).await
            };
            for command in [&["status"][..], &["stop", "a"]] {
                let run = ask(65_534, command).await.expect(i32::from(!served));
                if keys.is_empty() {
                    assert!(run.stderr.contains("local-users") && run.stderr.contains("65534"), "{}", run.stderr);
                }
            }
            for open in ["/livez", "/metrics", "/api/v1/sd"] {
                TestRequest::get(open).send(daemon.http()).await.unwrap().expect(200);
            }
            assert_eq!(daemon.count("a", "CommandAccepted").await, usize::from(served), "{keys}");
            if keys.is_empty() {
                ask(0, &["status"]).await.expect(0);
            }
        }
    });
}

/// `listen = "0.0.0.0:…"` without a token leaves only `/livez`, `/readyz` and `/metrics` open.
#[test]
fn off_loopback_without_a_token_only_probes_and_scrapers_are_answered() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.daemon(&format!("listen = \"0.0.0.0:{}\"", fleet.listen()));
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        for open in ["/livez", "/readyz", "/metrics"] {
            TestRequest::get(open).send(daemon.http()).await.unwrap().expect(200);
        }
        for request in [
            TestRequest::get("/api/v1/status"),
            TestRequest::post("/api/v1/servers/a/stop"),
            TestRequest::get("/api/v1/events"),
        ] {
            request.send(daemon.http()).await.unwrap().expect(403);
        }
        assert!(daemon.report("a").await.is_ready);
    });
}
