//! Files of the state directory: what is read is written and read again to the same, and garbage names nobody.

use llama_warden_events::{BootId, Incarnation};
use llama_warden_processes::launch_tag::LaunchTag;
use llama_warden_processes::runs_file::RunsFile;
use llama_warden_state_files::{DownFile, FailureFile, PortFile, TotalsFile};

/// Reads the input as each of the files.
pub(crate) fn check(input: &[u8]) {
    let ports = PortFile::parse(input).unwrap_or_default();
    assert_eq!(PortFile::parse(&serde_json::to_vec(&ports).expect("ports are JSON")).expect("was just written"), ports);
    for server in ports.values() {
        for now in [0, server.gone_since.unwrap_or(1), u64::MAX] {
            assert!(server.gone(now).is_none_or(|gone| gone.gone_since.is_some_and(|since| since <= now)), "at {now}");
        }
    }
    let failures = FailureFile::parse(input).unwrap_or_default();
    assert_eq!(
        FailureFile::parse(&serde_json::to_vec(&failures).expect("failures are JSON")).expect("was just written"),
        failures
    );
    let down = DownFile::parse(input).unwrap_or_default();
    assert_eq!(
        DownFile::parse(&serde_json::to_vec(&down).expect("what is down is JSON")).expect("was just written"),
        down
    );
    let totals = TotalsFile::parse(input).unwrap_or_default();
    assert_eq!(
        TotalsFile::parse(&serde_json::to_vec(&totals).expect("counts are JSON")).expect("was just written"),
        totals
    );

    let file = RunsFile::parse(input);
    assert_eq!(RunsFile::parse(file.text().as_bytes()), file);
    for run in &file.runs {
        // A tag that is a part of another run's, or of none, would kill a bystander.
        assert_eq!(run.len(), 16, "{run:?} is no id");
        let tag = LaunchTag::of_run(run);
        assert_eq!(tag.value(), format!("{run}/"));
    }
    let tag = LaunchTag::new(&BootId::from_random(1), &llama_warden_component_kit::server("fuzz"), Incarnation::new(1));
    for entry in input.split(|byte| *byte == 0) {
        let is_exact = entry == format!("LLAMA_WARDEN_LAUNCH={}", tag.value()).as_bytes();
        assert_eq!(tag.matches(entry), is_exact, "{:?}", entry.escape_ascii().to_string());
    }
}
