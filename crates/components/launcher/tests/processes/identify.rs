//! What an executable is asked, and when again.

use std::sync::Arc;
use std::time::Duration;

use llama_warden_launcher::{BinaryCache, ChildEnvironment, GuardianProgram, IdentifyError, Spawner};

use crate::TestCase;
use crate::fixture::executable;

pub const TESTS: &[TestCase] = &[
    ("a_help_that_timed_out_is_asked_again_later", asked_again),
    ("a_variable_that_names_a_missing_file_hides_no_option_of_the_build", asked_without_options),
];

/// The time until an executable that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(60);

fn asked_again() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("builds");
    runtime.block_on(async {
        let folder = tempfile::tempdir().expect("tempdir");
        // More than a pipe holds: the file that is made then says that the output is being read, so that no spawn is on its way.
        let script = "#!/bin/sh\n[ -e \"$0.quick\" ] || { head -c 300000 /dev/zero; : > \"$0.$1\"; sleep 600; }\necho '--model FNAME  x'\n";
        let program = executable(&folder.path().join("slow"), script);
        let spawner = Spawner::start(GuardianProgram::OwnExecutable).expect("starts");
        let cache = BinaryCache::default();
        let environment = ChildEnvironment::from([("PATH".into(), "/usr/bin:/bin".into())]);
        let ask = || cache.identify(&spawner, &program, &environment);
        let stop_the_clock = async {
            while ["slow.--version", "slow.--help"].iter().any(|run| !folder.path().join(run).exists()) {
                tokio::task::yield_now().await;
            }
            // With the clock stopped, the time is over as soon as there is nothing left to do.
            tokio::time::pause();
        };

        let (first, beside, ()) = tokio::join!(ask(), ask(), stop_the_clock);
        let first = first.expect_err("it does not answer");
        assert!(matches!(*first, IdentifyError::TooSlow { .. }), "{first}");
        assert!(beside.is_err_and(|beside| Arc::ptr_eq(&first, &beside)), "one question for both");
        std::fs::write(folder.path().join("slow.quick"), "").expect("write");
        assert!(ask().await.is_err_and(|soon| Arc::ptr_eq(&first, &soon)), "nobody waits again at once");
        tokio::time::advance(ASK_AGAIN).await;
        tokio::time::resume();
        let profile = ask().await.expect("it answers now");
        assert!(profile.options.as_ref().is_some_and(|options| options.lists("model")));
    });
}

fn asked_without_options() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("builds");
    runtime.block_on(async {
        let folder = tempfile::tempdir().expect("tempdir");
        // As llama-server does, which reads the file before it answers.
        let script =
            "#!/bin/sh\ncat \"${LLAMA_ARG_CHAT_TEMPLATE_FILE:-/dev/null}\" || exit 1\necho '--model FNAME  x'\n";
        let program = executable(&folder.path().join("strict"), script);
        let spawner = Spawner::start(GuardianProgram::OwnExecutable).expect("starts");
        let variables = [("PATH", "/usr/bin:/bin"), ("LLAMA_ARG_CHAT_TEMPLATE_FILE", "/no/such.jinja")];
        let environment = ChildEnvironment::from(variables.map(|(name, value)| (name.into(), value.into())));
        let profile = BinaryCache::default().identify(&spawner, &program, &environment).await.expect("it answers");
        assert!(profile.options.as_ref().is_some_and(|options| options.lists("model")));
    });
}
