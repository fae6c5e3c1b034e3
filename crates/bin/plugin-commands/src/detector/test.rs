//! `detector test`: prints the verdicts of a pack for a log, and checks the pack's own examples.

use std::io::Read;
use std::path::Path;

use llama_warden_connect::GlobalArgs;
use llama_warden_detectors::{Matcher, Pack, PatternMatcher, Verdict};
use llama_warden_events::{FailureReason, StreamName};
use llama_warden_exit::{CommandFailure, CommandResult, Exit};
use llama_warden_plugin_files::PluginFile as _;
use llama_warden_support::open_input;
use serde::Serialize;

use super::TestArgs;
use llama_warden_builds::parsed_log::{ParsedLog, ParsedLogLine};
use llama_warden_builds::plugin_files::find;
use llama_warden_terminal::output::{print_json, print_line};

/// Number of characters of a line that are shown.
const SHOWN: usize = 160;

/// The verdicts of a pack for a log.
#[derive(Debug, Serialize)]
struct TestReport {
    pack: String,
    lines: usize,
    verdicts: Vec<JudgedLine>,
    /// The first ready line.
    ready: Option<LinePosition>,
    /// The line that would explain a failure: of several, the one with the lowest rank, which is the most specific.
    failure: Option<FailureCause>,
    examples: ExampleResults,
}

#[derive(Debug, Serialize)]
struct JudgedLine {
    #[serde(flatten)]
    position: LinePosition,
    stream: Option<StreamName>,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<FailureReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<f64>,
    text: String,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct LinePosition {
    line: usize,
    at_seconds: Option<f64>,
}

#[derive(Debug, Serialize)]
struct FailureCause {
    #[serde(flatten)]
    position: LinePosition,
    reason: FailureReason,
}

#[derive(Debug, Serialize)]
struct ExampleResults {
    checked: usize,
    contradictions: Vec<String>,
}

pub fn run(global: &GlobalArgs, args: &TestArgs) -> CommandResult {
    let pack: Pack = find(global.config.as_deref(), &args.name)?;
    let log = ParsedLog::read(&read(&args.file)?);
    let report = TestReport::of(&pack, &log, args);
    if global.json {
        print_json(&report)?;
    } else {
        report.print()?;
    }
    Ok(if report.examples.contradictions.is_empty() { Exit::Done } else { Exit::Failed })
}

fn read(file: &Path) -> Result<Vec<u8>, CommandFailure> {
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes)
    } else {
        open_input(file).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    read.map(|_| bytes).map_err(|error| {
        CommandFailure::failed(format!("cannot read {}: {error}", file.display()))
            .next_step("name a log file, or - to read standard input")
    })
}

impl TestReport {
    fn of(pack: &Pack, log: &ParsedLog, args: &TestArgs) -> Self {
        let mut matcher = pack.matcher(args.port.or(log.port));
        let mut verdicts = Vec::new();
        let (mut ready, mut failure): (Option<LinePosition>, Option<(u16, FailureCause)>) = (None, None);
        for line in &log.lines {
            let (stream, verdict) = judge(&mut matcher, line, args.stream);
            let position = LinePosition { line: line.number, at_seconds: line.at_seconds };
            let (mut reason, mut percent) = (None, None);
            match verdict {
                Verdict::Nothing => continue,
                Verdict::Ready => ready = ready.or(Some(position)),
                Verdict::Failure { reason: found, rank } => {
                    reason = Some(found);
                    if failure.as_ref().is_none_or(|(best, _)| rank < *best) {
                        failure = Some((rank, FailureCause { position, reason: found }));
                    }
                }
                Verdict::Progress { percent: found } | Verdict::Loading { percent: found } => percent = found,
                Verdict::Echo | Verdict::NearlyReady | Verdict::Request(_) => {}
            }
            let text = String::from_utf8_lossy(&line.line).into_owned();
            verdicts.push(JudgedLine { position, stream, verdict: verdict.as_str(), reason, percent, text });
        }
        let contradictions = pack.contradictions().into_iter().map(|(example, verdict)| {
            format!("`{}` claims {}, but the patterns say {}", example.line, example.claim(), verdict.describe())
        });
        Self {
            pack: pack.name().to_owned(),
            lines: log.lines.len(),
            verdicts,
            ready,
            failure: failure.map(|(_, cause)| cause),
            examples: ExampleResults { checked: pack.examples().len(), contradictions: contradictions.collect() },
        }
    }

    fn print(&self) -> Result<(), CommandFailure> {
        for judged in &self.verdicts {
            let at = judged.position.at_seconds.map_or_else(|| "-".to_owned(), |at| format!("{at:.6}"));
            let stream = judged.stream.map_or("-", StreamName::as_str);
            let verdict = match (judged.reason, judged.percent) {
                (Some(reason), _) => format!("{} {reason}", judged.verdict),
                (None, Some(percent)) => format!("{} {percent} %", judged.verdict),
                (None, None) => judged.verdict.to_owned(),
            };
            let text: String = judged.text.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
            print_line(format!("{:>6} {at:>12} {stream:6}  {verdict:24}  {text}", judged.position.line))?;
        }
        print_line(format!("{}: {} of {} lines say something", self.pack, self.verdicts.len(), self.lines))?;
        match self.ready {
            Some(position) => print_line(format!("ready: {}", position.describe()))?,
            None => print_line("ready: no line says so")?,
        }
        if let Some(cause) = &self.failure {
            print_line(format!("failure: {} by {}", cause.reason, cause.position.describe()))?;
        }
        let ExampleResults { checked, contradictions } = &self.examples;
        print_line(format!("examples: {} of {checked} hold", checked - contradictions.len()))?;
        contradictions.iter().for_each(|contradiction| eprintln!("error: the example {contradiction}"));
        Ok(())
    }
}

impl LinePosition {
    fn describe(self) -> String {
        match self.at_seconds {
            Some(at) => format!("line {} at {at:.6} s", self.line),
            None => format!("line {}", self.line),
        }
    }
}

/// The verdict for a line and its stream. A line of an unknown stream is tried as stderr and as stdout; the first stream
/// with a verdict counts.
fn judge(
    matcher: &mut PatternMatcher,
    line: &ParsedLogLine,
    default: Option<StreamName>,
) -> (Option<StreamName>, Verdict) {
    let known = line.stream.or(default);
    let candidates = StreamName::ALL.into_iter().filter(|stream| known.is_none_or(|known| known == *stream));
    let judged = candidates.map(|stream| (stream, matcher.on_line(stream, &line.line)));
    let found = judged.into_iter().find(|(_, verdict)| *verdict != Verdict::Nothing);
    found.map_or((known, Verdict::Nothing), |(stream, verdict)| (known.or(Some(stream)), verdict))
}
