//! The report of a canary: two builds side by side.

use llama_warden_events::{BuildFigures, CanaryReport, CompletionAnswer, OptionDifference};
use llama_warden_memory::Bytes;

use crate::table::{self, Column, shrinks, whole};

/// The columns of the comparison.
const COLUMNS: [Column; 3] = [whole(""), shrinks("OLD", 16), shrinks("NEW", 16)];

/// The two builds side by side, the options that differ, and new warnings.
pub fn text(report: &CanaryReport) -> String {
    let (old, new) = (report.old.as_ref(), &report.new);
    let row = |title: &str, value: fn(&BuildFigures) -> String| {
        [title.to_owned(), old.map_or_else(|| "not running".to_owned(), value), value(new)]
    };
    let rows = [
        row("executable", |build| build.binary.display().to_string()),
        row("build", |build| build.version.as_deref().unwrap_or("its version names none").to_owned()),
        row("dialect", |build| known(build.dialect.as_deref())),
        row("detector", |build| known(build.detector.as_deref())),
        row("time to ready", time_to_ready),
        row("memory", |build| build.memory_bytes.map_or_else(unknown, |bytes| Bytes(bytes).to_string())),
        row("completion", completion),
    ];
    let mut parts = vec![table::list(COLUMNS, rows)];
    if report.options.is_empty() && new.dialect.is_some() {
        let same = if old.is_some() { "the same for both builds" } else { "as written" };
        parts.push(format!("options: {same}"));
    } else if !report.options.is_empty() {
        let rows = report.options.iter().map(|OptionDifference { option, old, new, because }| {
            [option.clone(), old.clone().unwrap_or_else(unknown), new.clone(), because.clone()]
        });
        let columns = [whole("OPTION"), shrinks("OLD", 12), shrinks("NEW", 12), shrinks("BECAUSE", 16)];
        parts.push(table::list(columns, rows));
    }
    if !report.warnings.is_empty() {
        let lines: String = report.warnings.iter().map(|line| format!("\n  | {line}")).collect();
        let title = match old {
            None => "warnings",
            Some(old) if old.is_adopted => "warnings; those of the old build's start are not known, as it was adopted",
            Some(_) => "new warnings",
        };
        parts.push(format!("{title}:{lines}"));
    }
    parts.join("\n\n")
}

fn time_to_ready(build: &BuildFigures) -> String {
    let usually = if build.is_adopted { " usually" } else { "" };
    build.startup_seconds.map_or_else(unknown, |seconds| format!("{seconds:.2} s{usually}"))
}

fn known(value: Option<&str>) -> String {
    value.map_or_else(unknown, str::to_owned)
}

fn unknown() -> String {
    "?".to_owned()
}

fn completion(build: &BuildFigures) -> String {
    match &build.completion {
        Some(CompletionAnswer::Tokens { tokens, seconds, tokens_per_second }) => {
            format!("{tokens_per_second:.1} tokens/s ({tokens} in {seconds:.3} s)")
        }
        Some(CompletionAnswer::Declined { detail }) => format!("no token: {detail}"),
        Some(CompletionAnswer::Missing { detail }) => format!("no answer: {detail}"),
        None => "not asked".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use llama_warden_events::{CanaryOutcome, ServerId};

    use super::*;

    fn report() -> CanaryReport {
        let tokens = CompletionAnswer::Tokens { tokens: 16, seconds: 0.5, tokens_per_second: 32.0 };
        let new = BuildFigures {
            binary: "/opt/new/llama-server".into(),
            version: Some("b11669".into()),
            startup_seconds: Some(1.5),
            memory_bytes: Some(320 << 20),
            completion: Some(tokens),
            ..BuildFigures::default()
        };
        let option = OptionDifference {
            option: "mlock".to_owned(),
            old: None,
            new: "not passed".to_owned(),
            because: "this build does not list it".to_owned(),
        };
        CanaryReport {
            server: ServerId::new("coder").expect("valid"),
            outcome: CanaryOutcome::Passed,
            old: None,
            new,
            options: vec![option],
            warnings: vec!["W new habit".to_owned()],
        }
    }

    #[test]
    fn a_comparison_says_what_each_build_is_and_does() {
        let mut report = report();
        let shown = text(&report);
        for part in
            ["not running", "b11669", "1.50 s", "320 MiB", "32.0 tokens/s", "mlock", "not passed", "W new habit"]
        {
            assert!(shown.contains(part), "{part} is not in\n{shown}");
        }
        assert!(shown.contains("\n\nwarnings:"), "{shown}");
        report.old = Some(report.new.clone());
        assert!(text(&report).contains("new warnings:"), "{}", text(&report));
        report.old = Some(BuildFigures { is_adopted: true, ..report.new.clone() });
        let shown = text(&report);
        assert!(shown.contains("1.50 s usually") && shown.contains("as it was adopted"), "{shown}");
    }
}
