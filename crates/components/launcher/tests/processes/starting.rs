//! From the command to the running program.

use std::sync::Arc;

use llama_warden_bus::EventDraft;
use llama_warden_events::{Event, OptionTreatment, RefusalReason, Signal, Warning};

use crate::TestCase;
use crate::fixture::{LauncherFixture, child_command, id, on_runtime};

pub const TESTS: &[TestCase] = &[
    ("a_child_is_born_with_three_files_no_mask_no_terminal_and_the_allowed_environment", birth),
    ("events_of_a_launch_come_in_order_and_name_their_cause", order),
    ("options_are_spelled_for_the_build_and_losses_are_warned_about", options),
    ("a_variable_that_the_build_reads_and_does_not_get_is_warned_about", dropped_variable),
    ("a_build_that_cannot_be_asked_is_started_with_a_warning", unreadable),
    ("a_slow_executable_delays_no_other_server", side_by_side),
    ("a_server_can_be_launched_again_as_soon_as_its_exit_is_heard", again),
    ("a_server_that_left_the_configuration_and_came_back_starts_with_launch_1", came_back),
    ("commands_that_make_no_sense_are_refused", refused),
];

fn birth() {
    on_runtime(async {
        let environment =
            [("PATH", "/usr/bin:/bin"), ("LLAMA_SERVER_ROUTER_PORT", "1"), ("LLAMA_ARG_MMAP", "0"), ("SECRET", "x")];
        let mut fixture = LauncherFixture::with_environment(&environment).await;
        let server = fixture.server("a", &child_command("inspect"));
        fixture.configure([server]).await;
        fixture.launch(1).await;
        fixture.exited().await;
        let expected = [
            "files 0=/dev/null 1=pipe 2=pipe",
            "mask 0",
            "leads true true",
            "terminal false",
            "names GGML_NO_BACKTRACE LLAMA_WARDEN_LAUNCH PATH PWD",
        ];
        assert_eq!(fixture.lines(), expected);
        fixture.end().await;
    });
}

fn order() {
    on_runtime(async {
        let mut fixture = LauncherFixture::new("exit 0").await;
        fixture.launch(1).await;
        fixture.exited().await;
        let log = fixture.bus.log();
        let of_the_server = log.lines().filter(|line| line.split(' ').nth(1) != Some("None"));
        let kinds: Vec<&str> = of_the_server.filter_map(|line| line.split(' ').nth(2)?.split('(').next()).collect();
        let expected = [
            "ServerConfigured",
            "LaunchBegan",
            "BinaryIdentified",
            "DialectChosen",
            "OptionsTranslated",
            "ServerSpawned",
            "ServerExited",
        ];
        assert_eq!(kinds, expected, "{log}");
        let snapshot = fixture.bus.bus().snapshot();
        let record = snapshot.servers.get(&id()).expect("is known");
        assert_eq!((record.llama_version.as_deref(), record.incarnation.get()), (Some("b9093"), 1));
        fixture.end().await;
    });
}

fn options() {
    on_runtime(async {
        let mut fixture = LauncherFixture::with_environment(&[("PATH", "/usr/bin:/bin")]).await;
        let mut server = fixture.server("a", "echo \"$@\"");
        let flag = |value| llama_warden_config::Flag { value, origin: llama_warden_config::FlagOrigin::User };
        Arc::make_mut(&mut server.flags)
            .insert("flash-attn".into(), flag(llama_warden_config::FlagValue::Switch(true)));
        server.args = vec!["--api-key".into(), "sk-12345".into()];
        let (model, port) = (server.model.display().to_string(), server.port);
        fixture.configure([server]).await;
        fixture.try_launch(&id(), 1).await.expect("accepted");
        let translated = fixture.bus.wait_for(|event| matches!(event, Event::OptionsTranslated { .. })).await;
        let Event::OptionsTranslated { notes } = &translated.event else { unreachable!("only that was picked") };
        let notes: Vec<_> = notes.iter().map(|note| (&*note.option, note.treatment)).collect();
        assert_eq!(notes, [("alias", OptionTreatment::Added), ("flash-attn", OptionTreatment::Dropped)]);
        let dropped = fixture
            .bus
            .wait_for(|event| matches!(event, Event::ServerWarned { warning: Warning::OptionDropped, .. }))
            .await;
        assert!(format!("{:?}", dropped.event).contains("flash-attn"));
        fixture.exited().await;
        let own = format!("--model {model} --host 127.0.0.1 --port {port}");
        assert_eq!(fixture.lines(), [format!("--alias a --api-key [redacted] {own}")]);
        assert!(!fixture.bus.log().contains("sk-12345"), "{}", fixture.bus.log());
        fixture.end().await;
    });
}

fn dropped_variable() {
    on_runtime(async {
        let environment = [("PATH", "/usr/bin:/bin"), ("LLAMA_ARG_ALIAS", "x"), ("OTHER", "y")];
        let mut fixture = LauncherFixture::with_environment(&environment).await;
        let mut server = fixture.server("a", "");
        let help = "--model FNAME  x\n--host HOST  x\n--port PORT  x\n--alias STRING  x (env: LLAMA_ARG_ALIAS)\n";
        server.binary = fixture.write("names", format!("#!/bin/sh\necho '{help}'\n")).into();
        fixture.configure([server]).await;
        fixture.try_launch(&id(), 1).await.expect("accepted");
        let is_warning = |event: &Event| matches!(event, Event::ServerWarned { warning: Warning::VariableDropped, .. });
        let warned = fixture.bus.wait_for(is_warning).await;
        let Event::ServerWarned { detail, .. } = &warned.event else { unreachable!("only that was picked") };
        assert!(detail.contains("LLAMA_ARG_ALIAS") && !detail.contains("OTHER"), "{detail}");
        fixture.exited().await;
        fixture.end().await;
    });
}

fn unreadable() {
    on_runtime(async {
        let mut fixture = LauncherFixture::with_environment(&[("PATH", "/usr/bin:/bin")]).await;
        let mut server = fixture.server("a", "");
        server.binary = fixture.write("mute", "#!/bin/sh\necho \"$#\"\n").into();
        fixture.configure([server]).await;
        fixture.try_launch(&id(), 1).await.expect("accepted");
        let is_warning =
            |event: &Event| matches!(event, Event::ServerWarned { warning: Warning::BinaryUnreadable, .. });
        fixture.bus.wait_for(is_warning).await;
        fixture.spawned().await;
        fixture.exited().await;
        assert_eq!(fixture.lines(), ["6"]);
        fixture.end().await;
    });
}

fn side_by_side() {
    on_runtime(async {
        let mut fixture = LauncherFixture::with_environment(&[("PATH", "/usr/bin:/bin")]).await;
        let mut slow = fixture.server("slow", "");
        // Its help does not end before the other server has; nothing but the bounds of a question ends it otherwise.
        slow.binary = fixture.write("slow", "#!/bin/sh\nsleep 60\n").into();
        let quick = fixture.server("a", "exit 5");
        let slow_id = slow.id.clone();
        fixture.configure([slow, quick]).await;
        fixture.try_launch(&slow_id, 1).await.expect("accepted");
        fixture.launch(1).await;
        let over = fixture.over().await;
        assert_eq!(over.server, Some(id()));
        assert!(over.elapsed.as_duration().as_secs() < 9, "the slow one's questions were awaited");
        fixture.end().await;
    });
}

fn again() {
    on_runtime(async {
        let mut fixture = LauncherFixture::new("exit 1").await;
        for incarnation in 1..=20 {
            fixture.launch(incarnation).await;
            fixture.exited().await;
        }
        fixture.end().await;
    });
}

/// The supervisor numbers the launches of such a server from 1 again.
fn came_back() {
    on_runtime(async {
        let mut fixture = LauncherFixture::new("exit 0").await;
        fixture.launch(2).await;
        fixture.exited().await;
        fixture.bus.publish(EventDraft::server(id(), Event::ServerRemoved)).await;
        fixture.bus.configure(&id()).await;
        fixture.launch(1).await;
        fixture.exited().await;
        fixture.end().await;
    });
}

fn refused() {
    on_runtime(async {
        let mut fixture = LauncherFixture::new("read never < /dev/zero; sleep 60").await;
        let reason =
            |result: Result<_, llama_warden_events::Refused>| result.map(drop).map_err(|refused| refused.reason);
        let stranger = llama_warden_events::ServerId::new("b").expect("valid");
        assert_eq!(reason(fixture.try_launch(&stranger, 1).await), Err(RefusalReason::UnknownServer));
        assert_eq!(reason(fixture.signal(1, Signal::TERM).await), Err(RefusalReason::StaleIncarnation));
        fixture.launch(2).await;
        assert_eq!(reason(fixture.try_launch(&id(), 3).await), Err(RefusalReason::WrongPhase));
        assert_eq!(reason(fixture.signal(1, Signal::KILL).await), Err(RefusalReason::StaleIncarnation));
        assert_eq!(reason(fixture.signal(2, Signal::KILL).await), Ok(()));
        fixture.exited().await;
        assert_eq!(reason(fixture.signal(2, Signal::KILL).await), Err(RefusalReason::StaleIncarnation));
        assert_eq!(reason(fixture.try_launch(&id(), 2).await), Err(RefusalReason::StaleIncarnation));
        fixture.end().await;
    });
}
