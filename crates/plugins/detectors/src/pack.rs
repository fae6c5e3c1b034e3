//! A detector pack that passed its checks: which builds it fits, what their lines mean, and how to probe them.
//!
//! Invariants: every pattern compiles within its limits; a pattern has a reason exactly when it is a failure; every example
//! of a pack from a file gets the verdict that it claims.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use llama_warden_events::{FailureReason, StreamName};
use llama_warden_plugin_files::{BuildFit, FileError, Origin, PluginFile, PluginInfo, PluginSet, PluginSource};
use serde::Serialize;

use crate::built_in::{BUILT_IN, GENERIC, GENERIC_TEXT};
use crate::matcher::{Matcher, Verdict};
use crate::pack_file::{
    ExampleEntry, ExampleVerdict, PackFile, PatternEntry, PatternVerdict, ProbeEntry, StructuredSource,
};
use crate::patterns::{self, CompiledPatterns, DetectorPattern, PatternMatcher};

/// Most patterns of a pack.
const PATTERN_LIMIT: usize = 256;

/// The packs in force. The pack `generic` fits every build, and its shared patterns come after those of every other pack.
pub type PackSet = PluginSet<Pack>;

/// A detector pack. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pack {
    data: Arc<PackData>,
}

#[derive(Debug)]
struct PackData {
    info: PluginInfo,
    probe: ProbeWay,
    structured: Vec<StructuredSource>,
    /// The pack's own patterns, then the shared ones of the fallback.
    patterns: Vec<DetectorPattern>,
    own_patterns: usize,
    examples: Vec<PackExample>,
    /// Compiled with the first matcher: of the packs in force, most never read a server.
    compiled: OnceLock<CompiledPatterns>,
}

/// How to ask a server whether it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeWay {
    /// GET this path: 200 means ready, 503 means not ready yet.
    Http {
        /// The path, from its slash on.
        path: String,
    },
    /// These builds cannot be asked: the ready line, from a listener of our own, is the proof.
    None,
}

/// A line with the verdict that it must get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackExample {
    /// The line, without its line end.
    pub line: String,
    /// The stream on which the server writes it.
    pub stream: StreamName,
    /// The verdict that it must get.
    pub verdict: ExampleVerdict,
    /// The reason that a failure must get; `None` accepts any.
    pub reason: Option<FailureReason>,
}

impl Pack {
    /// Checks a parsed file. The patterns `fallback` come after the pack's own.
    fn check(
        source: &PluginSource<'_>,
        text: Cow<'static, str>,
        file: PackFile,
        fallback: &[DetectorPattern],
    ) -> Result<Self, FileError> {
        source.check_name(&file.name)?;
        let fit = BuildFit::check(source, file.builds.clone(), &file.help_lists, &file.help_lacks)?;
        if file.pattern.len() > PATTERN_LIMIT {
            return Err(source.error(None, "there are more than 256 patterns", "join some with `|`"));
        }
        let probe = check_probe(source, &file)?;
        let mut patterns: Vec<_> =
            file.pattern.iter().map(|entry| check_pattern(source, entry)).collect::<Result<_, _>>()?;
        let own_patterns = patterns.len();
        // The lines of one era about requests are not those of another: a pack that knows them needs no others.
        let knows_requests = patterns.iter().any(|pattern| pattern.verdict.is_request());
        patterns.extend(fallback.iter().filter(|pattern| !knows_requests || !pattern.verdict.is_request()).cloned());
        if probe == ProbeWay::None && !patterns.iter().any(|pattern| pattern.verdict == PatternVerdict::Ready) {
            return Err(source.error(
                file.probe.map(|probe| probe.span()),
                "without a probe and without a `ready` pattern nothing could prove readiness",
                "add a pattern with verdict = \"ready\", or a probe",
            ));
        }
        let info = PluginInfo {
            name: file.name.into_inner(),
            description: file.description,
            origin: source.origin().clone(),
            fit,
            text,
        };
        let examples = file.example.iter().map(PackExample::from).collect();
        let compiled = OnceLock::new();
        let data = PackData { info, probe, structured: file.structured, patterns, own_patterns, examples, compiled };
        let pack = Self { data: Arc::new(data) };
        // A test checks the built-in packs, so that a start of the daemon does not pay for it.
        if pack.origin() != &Origin::BuiltIn {
            pack.check_examples(source, &file.example)?;
        }
        Ok(pack)
    }

    /// Compiles every pattern, for both streams, and judges every example.
    fn check_examples(&self, source: &PluginSource<'_>, entries: &[ExampleEntry]) -> Result<(), FileError> {
        // Not kept in `compiled`: a pack that no server uses keeps no compiled patterns.
        let compiled = CompiledPatterns::checked(&self.data.patterns)
            .map_err(|error| source.error(None, error, "use fewer or simpler patterns"))?;
        let matcher = PatternMatcher::new(compiled, &self.data.structured, None);
        let Some((index, example, verdict)) = self.misjudged(matcher).next() else { return Ok(()) };
        Err(source.error(
            entries.get(index).map(|entry| entry.line.span()),
            format!("this example claims {}, but the patterns say {}", example.claim(), verdict.describe()),
            "correct the example, or the order or text of the patterns",
        ))
    }

    /// How to ask a server of these builds whether it is ready.
    pub fn probe(&self) -> &ProbeWay {
        &self.data.probe
    }

    /// The structured output that the pack reads.
    pub fn structured(&self) -> &[StructuredSource] {
        &self.data.structured
    }

    /// The pack's own patterns, in order.
    pub fn patterns(&self) -> &[DetectorPattern] {
        &self.data.patterns[..self.data.own_patterns]
    }

    /// The patterns that the fallback gives to every other pack: failures, echoes and percentages. A hint of readiness is
    /// specific to an era, so that each pack has only its own.
    fn shared_patterns(&self) -> impl Iterator<Item = &DetectorPattern> {
        let is_hint = |verdict| matches!(verdict, PatternVerdict::NearlyReady | PatternVerdict::Ready);
        self.patterns().iter().filter(move |pattern| !is_hint(pattern.verdict))
    }

    /// Whether the pack is of an era whose lines about requests are known. The fallback tries those of all eras, which says
    /// nothing of a build that nobody has seen.
    pub fn knows_requests(&self) -> bool {
        self.name() != GENERIC && self.patterns().iter().any(|pattern| pattern.verdict == PatternVerdict::Decode)
    }

    /// The pack's examples, in order.
    pub fn examples(&self) -> &[PackExample] {
        &self.data.examples
    }

    /// The examples that get another verdict than they claim, with that verdict. Empty for a pack from a file, which would
    /// have been refused.
    pub fn contradictions(&self) -> Vec<(&PackExample, Verdict)> {
        self.misjudged(self.matcher(None)).map(|(_, example, verdict)| (example, verdict)).collect()
    }

    /// Each example that `matcher` judges otherwise than it claims: its index, the example, the verdict.
    fn misjudged(&self, mut matcher: PatternMatcher) -> impl Iterator<Item = (usize, &PackExample, Verdict)> {
        self.examples().iter().enumerate().filter_map(move |(index, example)| {
            // Each stands for itself: a timing is judged as if it were announced.
            matcher.forget_lines();
            let verdict = matcher.on_line(example.stream, example.line.as_bytes());
            (!example.matches(verdict)).then_some((index, example, verdict))
        })
    }

    /// A matcher for one launch. A ready line that names another port than `port` gets [`Verdict::Nothing`]; without a
    /// port, any is accepted.
    pub fn matcher(&self, port: Option<u16>) -> PatternMatcher {
        let compiled = self.data.compiled.get_or_init(|| CompiledPatterns::new(&self.data.patterns));
        PatternMatcher::new(compiled.clone(), &self.data.structured, port)
    }

    /// Drops the lazy DFA caches of the calling thread, and the regexes that read groups. The next lines rebuild them.
    pub fn clear_cache(&self) {
        if let Some(compiled) = self.data.compiled.get() {
            compiled.clear_cache();
        }
    }
}

impl PluginFile for Pack {
    const KIND: &'static str = "pack";
    const FALLBACK: &'static str = GENERIC;
    const FALLBACK_TEXT: &'static str = GENERIC_TEXT;
    const BUILT_IN: &'static [&'static str] = &BUILT_IN;

    fn parse(origin: &Origin, text: Cow<'static, str>, fallback: Option<&Self>) -> Result<Self, FileError> {
        let source = PluginSource::new(origin, &text, Self::KIND);
        let file: PackFile = source.parse("`llama-warden schema detector` shows what may stand here")?;
        let fallback: Vec<_> = fallback.into_iter().flat_map(Self::shared_patterns).cloned().collect();
        Self::check(&source, text.clone(), file, &fallback)
    }

    fn info(&self) -> &PluginInfo {
        &self.data.info
    }
}

impl PackExample {
    /// Whether `verdict` is what the example claims.
    pub fn matches(&self, verdict: Verdict) -> bool {
        let has_reason = match verdict {
            Verdict::Failure { reason, .. } => self.reason.is_none_or(|claimed| claimed == reason),
            _ => true,
        };
        has_reason && self.verdict.as_str() == verdict.as_str()
    }

    /// The verdict that it claims, with the reason, for messages.
    pub fn claim(&self) -> String {
        match (self.verdict, self.reason) {
            (ExampleVerdict::Failure, Some(reason)) => format!("`failure` with `{reason}`"),
            (verdict, _) => format!("`{}`", verdict.as_str()),
        }
    }
}

impl From<&ExampleEntry> for PackExample {
    fn from(entry: &ExampleEntry) -> Self {
        Self { line: entry.line.as_ref().clone(), stream: entry.stream, verdict: entry.verdict, reason: entry.reason }
    }
}

fn check_probe(source: &PluginSource<'_>, file: &PackFile) -> Result<ProbeWay, FileError> {
    let Some(probe) = &file.probe else { return Ok(ProbeWay::Http { path: "/health".into() }) };
    match probe.as_ref() {
        ProbeEntry::Word(_) => Ok(ProbeWay::None),
        ProbeEntry::Http(http)
            if http.path.starts_with('/') && http.path.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            Ok(ProbeWay::Http { path: http.path.clone() })
        }
        ProbeEntry::Http(http) => Err(source.error(
            Some(probe.span()),
            format!("`{}` is not a path", http.path),
            "begin with a slash and leave out spaces",
        )),
    }
}

fn check_pattern(source: &PluginSource<'_>, entry: &PatternEntry) -> Result<DetectorPattern, FileError> {
    let at = Some(entry.regex.span());
    // Serde cannot express this: reason and weak belong to failures, loads to progress, and only to them.
    let is_failure = entry.verdict == PatternVerdict::Failure;
    let refusal = match entry.reason {
        None if is_failure => Some(("a failure without a reason", "add reason = \"…\" to this pattern")),
        Some(_) if !is_failure => {
            Some(("only failures have a reason", "take `reason` away or say verdict = \"failure\""))
        }
        None if entry.weak => Some(("only failures can be weak", "take `weak` away from this pattern")),
        _ if entry.loads && entry.verdict != PatternVerdict::Progress => {
            Some(("only progress can be that of loading", "take `loads` away from this pattern"))
        }
        _ if entry.announced && !matches!(entry.verdict, PatternVerdict::Prompt | PatternVerdict::Decode) => {
            Some(("only timings are announced", "take `announced` away from this pattern"))
        }
        _ if entry.prefixed && !entry.verdict.is_request() => {
            Some(("only lines about requests can need a prefix", "take `prefixed` away from this pattern"))
        }
        _ => None,
    };
    if let Some((message, advice)) = refusal {
        return Err(source.error(at, message, advice));
    }
    patterns::check(entry.regex.as_ref(), entry.verdict)
        .map_err(|error| source.error(at, error, "see https://docs.rs/regex for what a pattern may contain"))?;
    Ok(DetectorPattern {
        verdict: entry.verdict,
        stream: entry.stream,
        regex: entry.regex.as_ref().as_str().into(),
        reason: entry.reason,
        weak: entry.weak,
        loads: entry.loads,
        prefixed: entry.prefixed,
        announced: entry.announced,
    })
}
