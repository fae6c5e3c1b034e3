//! Whether a line may contain one of a few phrases, in any case.
//!
//! A pattern without an anchor has to be tried at every byte of a line. If every match of it contains one of a few phrases,
//! the prefilter searches for a **needle** of each: three of its letters, at the offsets 0, 4 and 8, with the case bit set,
//! which makes them lower case. It compares eight positions of the line at once ([`swar`]). Few other lines have those three
//! letters at those distances, and only a line that has them is worth the patterns themselves. A hit may be wrong, a miss
//! never is.
//!
//! Worked example: the pattern `(?i)listening on` requires the phrase `listening on`, whose needle is `l···e···g`. A window
//! of 16 bytes holds eight positions with the letters that follow each, here those of `is Listening on `:
//!
//! ```text
//! window                     i s _ L i s t e n i n g _ o n _
//! bytes 0..8,  | case bit    i s _ l i s t e              lane 3 is 'l'
//! bytes 4..12, | case bit            i s t e n i n g      lane 3 is 'e'
//! bytes 8..16, | case bit                    n i n g …    lane 3 is 'g'
//! ```
//!
//! XOR with the needle makes lane 3 zero in all three words, so OR of the three has a zero lane: the phrase may begin at
//! byte 3, and the line goes to the patterns. The next window begins at byte 8.

use regex_automata::util::syntax;
use regex_syntax::hir::{Class, Hir, HirKind};

use super::compile::bytes;
use super::swar::{self, LANES};

/// The offsets of a needle's letters in its phrase.
const OFFSETS: [usize; 3] = [0, 4, 8];
/// Bytes of a window: eight positions, and the letters that follow the last of them.
const WINDOW: usize = LANES + OFFSETS[2];
/// Most needles. More would take longer than the patterns.
const MAX_NEEDLES: usize = 2;
/// The bit that distinguishes a lower-case ASCII letter from its capital.
const CASE_BIT: u8 = 0x20;

/// Finds the lines that may match one of some patterns.
#[derive(Debug)]
pub(super) struct Prefilter {
    needles: [Needle; MAX_NEEDLES],
}

/// The letters of a phrase at [`OFFSETS`], in lower case, each in all lanes of a word.
type Needle = [u64; 3];

impl Prefilter {
    /// A prefilter for the patterns. `None` if some match needs no phrase, a phrase is shorter than a needle, or there are
    /// too many needles.
    pub(super) fn new(patterns: &[&str]) -> Option<Self> {
        let mut phrases = Vec::new();
        for pattern in patterns {
            phrases.extend(required_phrases(&syntax::parse_with(pattern, &bytes()).ok()?)?);
        }
        phrases.sort_by_key(Vec::len);
        let mut needles: Vec<Needle> = Vec::new();
        for phrase in phrases {
            // The needle of a shorter phrase often finds the longer ones too: `server started` and `http server started`.
            if !phrase.windows(OFFSETS[2] + 1).any(|part| needles.contains(&needle(part))) {
                needles.push(needle(phrase.get(..=OFFSETS[2])?));
            }
            if needles.len() > MAX_NEEDLES {
                return None;
            }
        }
        let last = *needles.last()?;
        // A fixed number of needles unrolls the search. Searching twice for the same one costs less than a loop.
        Some(Self { needles: std::array::from_fn(|at| needles.get(at).copied().unwrap_or(last)) })
    }

    /// Whether one of the patterns may match: never `false` if one does.
    pub(super) fn may_match(&self, line: &[u8]) -> bool {
        let Some(last) = line.last_chunk() else {
            // Shorter than a window. The NUL bytes that fill it up pass for spaces once the case bit is set, which may be a
            // hit too many.
            let mut short = [0; WINDOW];
            short[..line.len()].copy_from_slice(line);
            return self.find_in(&short) != 0;
        };
        // The last window overlaps the one before it, instead of a remainder byte by byte.
        let mut found = self.find_in(last);
        let mut rest = line;
        while let Some(window) = rest.first_chunk() {
            found |= self.find_in(window);
            rest = &rest[LANES..];
        }
        found != 0
    }

    /// Not 0 if a needle begins at one of the first [`LANES`] bytes of the window.
    fn find_in(&self, window: &[u8; WINDOW]) -> u64 {
        let letters = OFFSETS.map(|at| window[at..].first_chunk().map_or(0, |bytes| swar::load(*bytes)));
        let letters = letters.map(|letters| letters | swar::splat(CASE_BIT));
        self.needles.iter().fold(0, |found, needle| {
            let differs = (letters[0] ^ needle[0]) | (letters[1] ^ needle[1]) | (letters[2] ^ needle[2]);
            found | swar::zero_lanes(differs)
        })
    }
}

/// The needle of a phrase. The phrase is at least nine bytes long.
fn needle(phrase: &[u8]) -> Needle {
    OFFSETS.map(|at| swar::splat(phrase[at]))
}

/// Phrases of which every match contains at least one, with the case bit set in every byte. `None` if a match may contain
/// none.
fn required_phrases(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    if let Some(phrase) = only_phrase(hir) {
        return (!phrase.is_empty()).then(|| vec![phrase]);
    }
    match hir.kind() {
        HirKind::Capture(capture) => required_phrases(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => required_phrases(&repetition.sub),
        // A match takes one branch, so that each branch has to require something.
        HirKind::Alternation(branches) => {
            Some(branches.iter().map(required_phrases).collect::<Option<Vec<_>>>()?.concat())
        }
        HirKind::Concat(parts) => longest_phrases(parts),
        _ => None,
    }
}

/// A match of a sequence matches all of its parts: picks the part whose shortest phrase is the longest. Neighbouring parts
/// that match one phrase only are one phrase together.
fn longest_phrases(parts: &[Hir]) -> Option<Vec<Vec<u8>>> {
    let mut required = Vec::new();
    let mut run = Vec::new();
    for part in parts {
        match only_phrase(part) {
            Some(phrase) => run.extend(phrase),
            None => {
                required.push(vec![std::mem::take(&mut run)]);
                required.extend(required_phrases(part));
            }
        }
    }
    required.push(vec![run]);
    required.into_iter().max_by_key(|phrases| phrases.iter().map(Vec::len).min()).filter(|best| !best[0].is_empty())
}

/// The one phrase that an expression matches, apart from its case. `None` if it matches several.
fn only_phrase(hir: &Hir) -> Option<Vec<u8>> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Some(Vec::new()),
        HirKind::Literal(literal) => Some(literal.0.iter().map(|byte| byte | CASE_BIT).collect()),
        // `(?i)a` is the class `[Aa]`.
        HirKind::Class(Class::Bytes(class)) => single_byte(class.iter().flat_map(|range| range.start()..=range.end())),
        HirKind::Capture(capture) => only_phrase(&capture.sub),
        HirKind::Concat(parts) => Some(parts.iter().map(only_phrase).collect::<Option<Vec<_>>>()?.concat()),
        _ => None,
    }
}

/// The one byte that the bytes of a class are, apart from the case bit.
fn single_byte(mut bytes: impl Iterator<Item = u8>) -> Option<Vec<u8>> {
    let first = bytes.next()? | CASE_BIT;
    bytes.all(|byte| byte | CASE_BIT == first).then(|| vec![first])
}
