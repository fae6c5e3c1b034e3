//! A detector pack that was checked: it fits certain builds, and says how to read their output and how to probe them.
//!
//! Invariants: every pattern compiles within its limits; a pattern has a reason exactly when it is a failure; every
//! example of a loaded pack is taken for what it claims.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use llama_warden_events::{FailureReason, StreamName};
use llama_warden_plugin_files::{
    BuildFit, BuildRange, FileError, Origin, PluginFile, PluginInfo, PluginSet, PluginSource,
};

use crate::built_in::{BUILT_IN, GENERIC, GENERIC_TEXT};
use crate::matcher::{Matcher, Verdict};
use crate::pack_file::{
    ExampleEntry, ExampleVerdict, PackFile, PatternEntry, PatternVerdict, ProbeEntry, StructuredSource,
};
use crate::patterns::{self, CompiledPatterns, DetectorPattern, PatternMatcher};

/// Most patterns of a pack.
const PATTERN_LIMIT: usize = 256;

/// The packs in force. The generic one fits every build and lies behind all others.
pub type PackSet = PluginSet<Pack>;

/// A detector pack. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pack {
    data: Arc<PackData>,
}

#[derive(Debug)]
struct PackData {
    about: PluginInfo,
    probe: ProbeWay,
    structured: Vec<StructuredSource>,
    /// Its own patterns, then those that stand fallback them.
    patterns: Vec<DetectorPattern>,
    own_patterns: usize,
    examples: Vec<PackExample>,
    compiled: OnceLock<CompiledPatterns>,
}

/// How to ask a server whether it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeWay {
    /// GET this path: 200 is ready, 503 is not.
    Http {
        /// The path, from its slash on.
        path: String,
    },
    /// Not at all: the ready line, from a listener of our own, is the proof.
    None,
}

/// A line with what it has to be taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackExample {
    /// The line.
    pub line: String,
    /// Its stream.
    pub stream: StreamName,
    /// What it has to be taken for.
    pub verdict: ExampleVerdict,
    /// The reason of a failure.
    pub reason: Option<FailureReason>,
}

impl Pack {
    /// The `fallback` patterns (those that every pack shares) come after its own.
    fn check(
        source: &PluginSource<'_>,
        text: Cow<'static, str>,
        file: PackFile,
        fallback: &[DetectorPattern],
    ) -> Result<Self, FileError> {
        source.check_name(&file.name, Self::KIND)?;
        let fit = BuildFit::check(source, file.builds.clone(), &file.help_lists, &file.help_lacks)?;
        if file.pattern.len() > PATTERN_LIMIT {
            return Err(source.error(None, "there are more than 256 patterns", "join some with `|`"));
        }
        let probe = check_probe(source, &file)?;
        let mut patterns: Vec<_> =
            file.pattern.iter().map(|entry| check_pattern(source, entry)).collect::<Result<_, _>>()?;
        let own_patterns = patterns.len();
        patterns.extend_from_slice(fallback);
        if probe == ProbeWay::None && !patterns.iter().any(|pattern| pattern.verdict == PatternVerdict::Ready) {
            let span = file.probe.map(|probe| probe.span());
            return Err(source.error(
                span,
                "without a probe and without a `ready` pattern nothing could prove readiness",
                "add a pattern with verdict = \"ready\", or a probe",
            ));
        }
        let about = PluginInfo {
            name: file.name.into_inner(),
            description: file.description,
            origin: source.origin().clone(),
            fit,
            text,
        };
        let data = PackData {
            about,
            probe,
            structured: file.structured,
            patterns,
            own_patterns,
            examples: file.example.iter().map(PackExample::from).collect(),
            compiled: OnceLock::new(),
        };
        let pack = Self { data: Arc::new(data) };
        // Built-in packs are checked by a test, so that a start does not pay for it.
        if pack.origin() != &Origin::BuiltIn {
            pack.check_examples(source, &file.example)?;
        }
        Ok(pack)
    }

    fn check_examples(&self, source: &PluginSource<'_>, examples: &[ExampleEntry]) -> Result<(), FileError> {
        let compiled = CompiledPatterns::checked(&self.data.patterns)
            .map_err(|error| source.error(None, error, "use fewer or simpler patterns"))?;
        let mut matcher = PatternMatcher::new(compiled, &self.data.structured, None);
        for (entry, example) in examples.iter().zip(&self.data.examples) {
            let verdict = matcher.on_line(example.stream, example.line.as_bytes());
            if !example.matches(verdict) {
                return Err(source.error(
                    Some(entry.line.span()),
                    format!("this example claims {}, but the patterns say {}", example.claim(), verdict.describe()),
                    "correct the example, or the order or text of the patterns",
                ));
            }
        }
        Ok(())
    }

    /// The build numbers that it fits.
    pub fn builds(&self) -> Option<BuildRange> {
        self.fit().builds
    }

    /// Long options, without dashes, that the help has to list.
    pub fn help_lists(&self) -> &[String] {
        &self.fit().help_lists
    }

    /// Long options, without dashes, that the help must not list.
    pub fn help_lacks(&self) -> &[String] {
        &self.fit().help_lacks
    }

    /// How its builds are asked.
    pub fn probe(&self) -> &ProbeWay {
        &self.data.probe
    }

    /// The structured output that it reads.
    pub fn structured(&self) -> &[StructuredSource] {
        &self.data.structured
    }

    /// Its own patterns, in order.
    pub fn patterns(&self) -> &[DetectorPattern] {
        &self.data.patterns[..self.data.own_patterns]
    }

    /// Every pack knows what failures, echoes and percentages of the generic one look like; only hints are its own.
    fn shared_patterns(&self) -> impl Iterator<Item = &DetectorPattern> {
        let is_own = |verdict| matches!(verdict, PatternVerdict::NearlyReady | PatternVerdict::Ready);
        self.patterns().iter().filter(move |pattern| !is_own(pattern.verdict))
    }

    /// Its examples.
    pub fn examples(&self) -> &[PackExample] {
        &self.data.examples
    }

    /// The examples that the patterns take for something else than they claim. None of a pack that was loaded from a
    /// file: it would have been refused.
    pub fn contradictions(&self) -> Vec<(&PackExample, Verdict)> {
        let mut matcher = self.matcher(None);
        let judged = self.examples().iter().map(|example| {
            let verdict = matcher.on_line(example.stream, example.line.as_bytes());
            (example, verdict)
        });
        judged.filter(|(example, verdict)| !example.matches(*verdict)).collect()
    }

    /// A matcher for one incarnation. A ready line that names another port than `port` counts as nothing; without a
    /// port, any is taken.
    pub fn matcher(&self, port: Option<u16>) -> PatternMatcher {
        let compiled = self.data.compiled.get_or_init(|| CompiledPatterns::new(&self.data.patterns));
        PatternMatcher::new(compiled.clone(), &self.data.structured, port)
    }

    /// Forgets what the lines that this thread has read have taught: it is learnt again with those to come.
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

    fn parse(origin: &Origin, text: Cow<'static, str>, base: Option<&Self>) -> Result<Self, FileError> {
        let source = PluginSource::new(origin, &text, Self::KIND);
        let file: PackFile = source.parse("`llama-warden schema detector` shows what may stand here")?;
        let fallback: Vec<DetectorPattern> = base.into_iter().flat_map(Self::shared_patterns).cloned().collect();
        Self::check(&source, text.clone(), file, &fallback)
    }

    fn info(&self) -> &PluginInfo {
        &self.data.about
    }
}

impl PackExample {
    /// Whether a verdict is what the example claims.
    pub fn matches(&self, verdict: Verdict) -> bool {
        match (self.verdict, verdict) {
            (ExampleVerdict::None, Verdict::Nothing)
            | (ExampleVerdict::Progress, Verdict::Progress { .. })
            | (ExampleVerdict::NearlyReady, Verdict::NearlyReady)
            | (ExampleVerdict::Ready, Verdict::Ready)
            | (ExampleVerdict::Echo, Verdict::Echo) => true,
            (ExampleVerdict::Failure, Verdict::Failure { reason, .. }) => {
                self.reason.is_none_or(|claimed| claimed == reason)
            }
            _ => false,
        }
    }

    /// What it claims, for people.
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
    match (entry.verdict, entry.reason) {
        (PatternVerdict::Failure, None) => {
            return Err(source.error(at, "a failure without a reason", "add reason = \"…\" to this pattern"));
        }
        (PatternVerdict::Failure, Some(_)) => {}
        (_, Some(_)) => {
            return Err(source.error(
                at,
                "only failures have a reason",
                "take `reason` away or say verdict = \"failure\"",
            ));
        }
        (_, None) if entry.weak => {
            return Err(source.error(at, "only failures can be weak", "take `weak` away from this pattern"));
        }
        (_, None) => {}
    }
    patterns::check(entry.regex.as_ref())
        .map_err(|error| source.error(at, error, "see https://docs.rs/regex for what a pattern may contain"))?;
    Ok(DetectorPattern {
        verdict: entry.verdict,
        stream: entry.stream,
        regex: entry.regex.as_ref().as_str().into(),
        reason: entry.reason,
        weak: entry.weak,
    })
}
