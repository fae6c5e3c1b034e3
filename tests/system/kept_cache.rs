//! `router.keep-cache`: what a server has computed is saved before it is stopped, and restored at its next start.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use llama_warden_events::{Event, StopReason};
use llama_warden_stand_in::{Era, Script, SlotAnswer, SlotsScript};
use llama_warden_state::{PhaseName, SlotsState};
use llama_warden_tests::{Endpoint, Sandbox, TestDaemon, TestFleet, TestRequest, WAIT_LIMIT, eventually, sandbox};
use serde_json::{Value, json};

/// Two servers of which one may run, with one conversation each.
struct Swapping {
    fleet: TestFleet,
    daemon: TestDaemon,
    router: Endpoint,
    /// The turns of each conversation so far.
    turns: [usize; 2],
}

impl Swapping {
    async fn begin(sandbox: &Sandbox, keys: &str, slots: SlotsScript) -> Self {
        let script = Script { slots: Some(slots), token_ms: 0, ..Script::default() };
        Self::begin_with(sandbox, keys, script, |_| {}).await
    }

    async fn begin_with(sandbox: &Sandbox, keys: &str, script: Script, change: impl FnOnce(&mut TestFleet)) -> Self {
        let router = sandbox.file("router.sock");
        let mut fleet = sandbox.fleet();
        fleet.section(&format!("[router]\nlisten = '{}'\nmax-loaded = 1\nkeep-cache = true\n{keys}", router.display()));
        fleet.section("[restart]\ninitial-delay = '20ms'");
        fleet.server_with("a", script.clone(), "enabled = false");
        fleet.server_with("b", Script { slots: Some(SlotsScript::default()), ..script }, "enabled = false");
        change(&mut fleet);
        let daemon = sandbox.up(&fleet).await;
        Self { fleet, daemon, router: Endpoint::Unix(router), turns: [0; 2] }
    }

    /// The next turn of a conversation; what its answer says.
    async fn ask(&mut self, server: &str) -> Value {
        let turns = &mut self.turns[usize::from(server == "b")];
        *turns += 1;
        let messages: Vec<Value> =
            (0..*turns).map(|turn| json!({ "role": "user", "content": format!("turn {turn}") })).collect();
        let body = json!({ "model": server, "messages": messages, "max_tokens": 4 }).to_string();
        let request = TestRequest::post("/v1/chat/completions").header("content-type", "application/json").body(body);
        request.send(&self.router).await.expect("the router answers").expect(200).json()
    }

    /// A turn of `a`, then its end, then another turn of `a`; what was cached of that.
    async fn away_and_back(&mut self) -> u64 {
        self.ask("a").await;
        self.unload().await;
        self.ask("a").await["timings"]["cache_n"].as_u64().expect("the answer says what was cached")
    }

    /// Has `a` stopped as for another server, which would have to wait until it has run for a while.
    async fn unload(&self) {
        let unload = TestRequest::post("/models/unload").body(json!({ "model": "a" }).to_string());
        unload.send(&self.router).await.expect("the router answers").expect(200);
        self.is_down().await;
    }

    async fn is_down(&self) {
        let is_down = async || matches!(self.daemon.report("a").await.phase, PhaseName::Exited | PhaseName::Failed);
        eventually("its process has ended", WAIT_LIMIT, is_down).await;
    }

    /// What `a` has computed is kept over its end, and its next answer continues it.
    async fn goes_on(&mut self) {
        self.is_down().await;
        self.becomes(SlotsState::Saved).await;
        assert_eq!(self.files().len(), 1);
        let answer = self.ask("a").await;
        assert_eq!(answer["timings"]["cache_n"], 299, "{answer}");
        self.daemon.event("it was of use", |event| matches!(event.event, Event::SlotsUsed { .. })).await;
        assert_eq!(self.counts(["SlotsRestored", "SlotsLost", "LaunchBegan"]).await, [1, 0, 2]);
    }

    async fn slots(&self, server: &str) -> (Option<SlotsState>, String) {
        let slots = self.daemon.report(server).await.slots;
        (slots.as_ref().map(|slots| slots.state), slots.and_then(|slots| slots.because).unwrap_or_default())
    }

    /// Waits until this has become of the slots of `a`, and gives the reason.
    async fn becomes(&self, state: SlotsState) -> String {
        eventually("the slots are told of", WAIT_LIMIT, async || self.slots("a").await.0 == Some(state)).await;
        self.slots("a").await.1
    }

    async fn counts<const N: usize>(&self, kinds: [&str; N]) -> [usize; N] {
        let mut counts = [0; N];
        for (count, kind) in counts.iter_mut().zip(kinds) {
            *count = self.daemon.count("a", kind).await;
        }
        counts
    }

    fn folder(&self) -> PathBuf {
        self.fleet.state_dir().join("slots/a")
    }

    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(self.folder()).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    }

    async fn has_files(&self, count: usize) {
        eventually("the files are there, or gone", WAIT_LIMIT, async || self.files().len() == count).await;
    }
}

/// What happens to files between two launches.
type Change<'a> = &'a dyn Fn(&Swapping);

fn saving(save: SlotAnswer) -> SlotsScript {
    SlotsScript { save, ..SlotsScript::default() }
}

fn restoring(restore: SlotAnswer) -> SlotsScript {
    SlotsScript { restore, ..SlotsScript::default() }
}

#[test]
fn a_conversation_goes_on_after_an_eviction_without_its_prompt_being_read_again() {
    sandbox(async |sandbox| {
        let mut swapping = Swapping::begin(sandbox, "", SlotsScript::default()).await;
        swapping.ask("a").await;
        swapping.ask("b").await;
        swapping.becomes(SlotsState::Saved).await;
        assert_eq!(swapping.files().len(), 1, "one slot holds enough");
        let mode = fs::metadata(swapping.folder()).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "the files are conversations");
        let answer = swapping.ask("a").await;
        assert_eq!(answer["timings"]["cache_n"], 299, "{answer}");
        swapping.becomes(SlotsState::Used).await;
        swapping.has_files(0).await;
        let saved = swapping.daemon.events_of("a").await.into_iter().find_map(|event| match event.event {
            Event::SlotsSaved { slots, tokens, bytes } => Some((slots, tokens, bytes)),
            _ => None,
        });
        assert_eq!(saved, Some((1, 304, 10_000)));
        // The one that waits for its files is gone with the daemon.
        assert_eq!(fs::read_dir(swapping.fleet.state_dir().join("slots/b")).expect("is there").count(), 1);
        let state = swapping.fleet.state_dir();
        swapping.daemon.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(swapping.daemon.exit_code().await, 0);
        for folder in fs::read_dir(state.join("slots")).expect("is there").flatten() {
            assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0, "{folder:?}");
        }
    });
}

#[test]
fn a_conversation_goes_on_after_its_server_was_stopped_for_want_of_use() {
    sandbox(async |sandbox| {
        let mut swapping = Swapping::begin(sandbox, "ttl = '1s'", SlotsScript::default()).await;
        swapping.ask("a").await;
        let is_idle = |event: &Event| matches!(event, Event::StopBegan { reason: StopReason::Idle, .. });
        swapping.daemon.event("nobody uses it", |event| is_idle(&event.event)).await;
        swapping.goes_on().await;
    });
}

#[test]
fn a_conversation_goes_on_after_a_switch_of_the_profile() {
    sandbox(async |sandbox| {
        let script = Script { slots: Some(SlotsScript::default()), ..Script::default() };
        let mut swapping = Swapping::begin_with(sandbox, "", script, |fleet| {
            fleet.daemon("profile = 'first'").replace_keys("a", "").replace_keys("b", "");
            fleet.section("[profiles.first]\nservers = ['a']\n[profiles.second]\nservers = ['b']");
        })
        .await;
        swapping.ask("a").await;
        swapping.daemon.post("/api/v1/profiles/second/activate?wait=50s").await.expect(200);
        swapping.goes_on().await;
    });
}

#[test]
fn a_conversation_goes_on_after_a_reload_that_stops_its_server() {
    sandbox(async |sandbox| {
        let script = Script { slots: Some(SlotsScript::default()), ..Script::default() };
        let mut swapping = Swapping::begin_with(sandbox, "", script, |fleet| {
            fleet.replace_keys("a", "");
        })
        .await;
        swapping.ask("a").await;
        swapping.fleet.replace_keys("a", "enabled = false").write();
        // Without force, a configuration that leaves nothing running is doubted.
        swapping.daemon.post("/api/v1/reload?force=1&wait=50s").await.expect(200);
        swapping.goes_on().await;
    });
}

#[test]
fn after_a_reload_that_changes_the_arguments_nothing_of_before_is_used() {
    sandbox(async |sandbox| {
        let mut swapping = Swapping::begin(sandbox, "", SlotsScript::default()).await;
        swapping.ask("a").await;
        swapping.fleet.change("a", "\nflags = { ctx-size = 777 }").write();
        swapping.daemon.post("/api/v1/reload?wait=50s").await.expect(200);
        assert_eq!(swapping.ask("a").await["timings"]["cache_n"], 0);
        let (state, because) = swapping.slots("a").await;
        assert_eq!(state, Some(SlotsState::Lost));
        assert_eq!(because, "the executable, the model or the arguments have changed");
        assert_eq!(swapping.counts(["SlotsSaved", "SlotsRestored", "LaunchBegan"]).await, [1, 0, 2]);
        swapping.has_files(0).await;
    });
}

#[test]
fn files_of_a_server_that_leaves_the_configuration_are_deleted() {
    sandbox(async |sandbox| {
        let mut swapping = Swapping::begin(sandbox, "", SlotsScript::default()).await;
        swapping.ask("a").await;
        swapping.unload().await;
        swapping.becomes(SlotsState::Saved).await;
        swapping.has_files(1).await;
        swapping.fleet.remove("a").write();
        swapping.daemon.post("/api/v1/reload?wait=50s").await.expect(200);
        swapping.has_files(0).await;
    });
}

#[test]
fn a_restore_that_fails_costs_one_restart_and_is_never_tried_again() {
    for (restore, told) in [
        (SlotAnswer::Refuse, "slot 0 cannot be restored: the server answers 400"),
        (SlotAnswer::Abort, "slot 0 cannot be restored: the connection broke off"),
        (SlotAnswer::Hang, "slot 0 cannot be restored: no answer within"),
        (SlotAnswer::Empty, "slot 0 was not restored whole"),
    ] {
        sandbox(async |sandbox| {
            let mut swapping = Swapping::begin(sandbox, "", restoring(restore)).await;
            assert_eq!(swapping.away_and_back().await, 0, "{restore:?}: a process of its own answers");
            let because = swapping.becomes(SlotsState::Off).await;
            assert!(because.starts_with(told), "{restore:?}: {because}");
            assert_eq!(swapping.counts(["LaunchBegan", "SlotsSaved", "SlotsRestored"]).await, [3, 1, 0], "{restore:?}");
            swapping.has_files(0).await;
            assert_eq!(swapping.away_and_back().await, 0);
            assert_eq!(swapping.counts(["LaunchBegan", "SlotsSaved", "SlotsLost"]).await, [4, 1, 1], "{restore:?}");
        });
    }
}

#[test]
fn a_save_that_fails_delays_the_stop_a_little_and_is_never_tried_again() {
    for (save, told) in [
        (SlotAnswer::Refuse, "a slot cannot be saved: the server answers 400"),
        (SlotAnswer::Abort, "a slot cannot be saved: the connection broke off"),
        (SlotAnswer::Hang, "a slot cannot be saved: no answer within"),
        (SlotAnswer::Pretend, "a slot was not saved whole: the file has 5000 bytes of 10000"),
    ] {
        sandbox(async |sandbox| {
            let mut swapping = Swapping::begin(sandbox, "", saving(save)).await;
            assert_eq!(swapping.away_and_back().await, 0, "{save:?}");
            let because = swapping.becomes(SlotsState::Off).await;
            assert!(because.starts_with(told), "{save:?}: {because}");
            swapping.has_files(0).await;
            assert_eq!(swapping.away_and_back().await, 0);
            assert_eq!(swapping.counts(["SlotsSaved", "SlotsRestored", "SlotsLost"]).await, [0, 0, 1], "{save:?}");
        });
    }
}

#[test]
fn slots_that_hold_little_are_not_saved_and_it_is_no_failure() {
    for slots in [
        saving(SlotAnswer::Empty),
        SlotsScript { prompt_tokens: 200, ..SlotsScript::default() },
        SlotsScript { is_sleeping: true, ..SlotsScript::default() },
    ] {
        sandbox(async |sandbox| {
            let mut swapping = Swapping::begin(sandbox, "", slots.clone()).await;
            assert_eq!(swapping.away_and_back().await, 0);
            assert_eq!(swapping.counts(["SlotsSaved", "SlotsLost", "LaunchBegan"]).await, [0, 0, 2], "{slots:?}");
            swapping.has_files(0).await;
        });
    }
}

#[test]
fn a_build_that_restores_and_computes_everything_again_is_found_out_by_its_first_answer() {
    sandbox(async |sandbox| {
        let mut swapping = Swapping::begin(sandbox, "", restoring(SlotAnswer::Pretend)).await;
        assert_eq!(swapping.away_and_back().await, 0);
        let because = swapping.becomes(SlotsState::Off).await;
        assert!(because.starts_with("the whole prompt was computed again"), "{because}");
        swapping.away_and_back().await;
        assert_eq!(swapping.counts(["SlotsSaved", "SlotsRestored", "LaunchBegan"]).await, [1, 1, 3]);
        let said = sandbox.run(&swapping.fleet.path(), ["status", "a"]).await.expect(0).stdout;
        assert!(said.contains("off: the whole prompt was computed again"), "{said}");
    });
}

#[test]
fn files_are_not_used_after_a_change_of_the_model_or_of_themselves() {
    let changes: [(Change<'_>, &str); 3] = [
        (
            &|swapping| {
                let model = swapping.fleet.model("a");
                let bytes = fs::read(&model).expect("is there");
                fs::write(&model, bytes).expect("writable");
            },
            "the executable, the model or the arguments have changed",
        ),
        (
            &|swapping| {
                let file = fs::File::options().write(true).open(&swapping.files()[0]).expect("is there");
                file.set_len(5000).expect("can be cut");
            },
            "the file has 5000 bytes of 10000",
        ),
        (
            &|swapping| fs::write(&swapping.files()[0], [1; 10_000]).expect("writable"),
            "the content of the file has changed",
        ),
    ];
    for (change, told) in changes {
        sandbox(async |sandbox| {
            let mut swapping = Swapping::begin(sandbox, "", SlotsScript::default()).await;
            swapping.ask("a").await;
            swapping.unload().await;
            swapping.becomes(SlotsState::Saved).await;
            change(&swapping);
            // Which bytes a server has read of a file that changed at the moment of its start cannot be told.
            let changed = fs::metadata(swapping.fleet.model("a")).and_then(|model| model.modified()).expect("is there");
            let is_older = async || changed.elapsed().is_ok_and(|age| age > Duration::from_millis(200));
            eventually("the change is older than the start", WAIT_LIMIT, is_older).await;
            assert_eq!(swapping.ask("a").await["timings"]["cache_n"], 0, "{told}");
            assert_eq!(swapping.slots("a").await, (Some(SlotsState::Lost), told.to_owned()));
            swapping.has_files(0).await;
            // It is no fault of the build.
            swapping.unload().await;
            swapping.becomes(SlotsState::Saved).await;
        });
    }
}

#[test]
fn a_stop_and_a_restart_by_hand_save_nothing() {
    sandbox(async |sandbox| {
        let mut swapping = Swapping::begin(sandbox, "", SlotsScript::default()).await;
        swapping.ask("a").await;
        swapping.daemon.command("a", "restart?wait=30s").await.expect(200);
        assert_eq!(swapping.ask("a").await["timings"]["cache_n"], 0);
        swapping.daemon.command("a", "stop?wait=30s").await.expect(200);
        assert_eq!(swapping.counts(["SlotsSaved", "SlotsRestored"]).await, [0, 0]);
        swapping.daemon.command("a", "start?wait=30s").await.expect(200);
        swapping.ask("a").await;
        swapping.unload().await;
        swapping.becomes(SlotsState::Saved).await;
    });
}

#[test]
fn a_build_that_hangs_when_slots_are_saved_is_not_asked_to() {
    sandbox(async |sandbox| {
        let script = Script { era: Era::November2024, slots: Some(SlotsScript::default()), ..Script::default() };
        let build = sandbox.build_of(Era::November2024);
        let mut swapping = Swapping::begin_with(sandbox, "", script, |fleet| {
            fleet.binary(&build);
        })
        .await;
        swapping.ask("a").await;
        let because = swapping.becomes(SlotsState::Off).await;
        assert!(because.starts_with("its build does not save slots, or is one of those"), "{because}");
        let argv = swapping.daemon.server("a").await.argv;
        assert!(!argv.iter().any(|argument| argument == "--slot-save-path"), "{argv:?}");
    });
}

#[test]
fn files_stay_within_their_size_and_leftovers_are_deleted() {
    sandbox(async |sandbox| {
        let script = Script { slots: Some(SlotsScript::default()), ..Script::default() };
        let mut left = PathBuf::new();
        let mut swapping = Swapping::begin_with(sandbox, "keep-cache-size = '9KiB'", script, |fleet| {
            let folder = fleet.state_dir().join("slots/gone");
            fs::create_dir_all(&folder).expect("makable");
            // As an earlier run has left it.
            fs::set_permissions(fleet.state_dir(), fs::Permissions::from_mode(0o700)).expect("ours");
            fs::write(fleet.state_dir().join("daemon.lock"), b"").expect("writable");
            left = folder.join("1-0.bin");
            fs::write(&left, b"an earlier conversation").expect("writable");
        })
        .await;
        eventually("the leftover is deleted", WAIT_LIMIT, async || !left.exists()).await;
        assert_eq!(swapping.away_and_back().await, 0);
        let (state, because) = swapping.slots("a").await;
        assert_eq!(state, Some(SlotsState::Lost));
        assert_eq!(because, "10000 bytes are more than `router.keep-cache-size` (9216)");
        swapping.has_files(0).await;
    });
}
