//! Whether a line may hold one of a few texts, in whatever case.
//!
//! A pattern that may match anywhere has to be tried at every byte. Where it cannot match without one of a few texts, three
//! letters of each, at their distances, are looked for first, at eight places of the line at once; hardly any other line has
//! them, and only one that does is worth the patterns themselves.

use regex_automata::util::syntax;
use regex_syntax::hir::{Class, Hir, HirKind};

use super::compile::bytes;
use super::swar::{self, LANES};

/// Where in a text the letters of its needle stand.
const OFFSETS: [usize; 3] = [0, 4, 8];
/// The places that are looked at together, with what follows the last of them.
const WINDOW: usize = LANES + OFFSETS[2];
/// Most needles that are looked for.
const MAX_NEEDLES: usize = 2;
/// The bit that tells a small letter from its capital.
const CASE_BIT: u8 = 0x20;

/// See the module.
#[derive(Debug)]
pub(super) struct Prefilter {
    needles: [Needle; MAX_NEEDLES],
}

/// The letters of a text at [`OFFSETS`], as small ones, each in all swar.
type Needle = [u64; 3];

impl Prefilter {
    /// What no match of any of the patterns can do without; `None` where there is no such thing, it is shorter than a needle,
    /// or there are too many of them.
    pub(super) fn of(patterns: &[&str]) -> Option<Self> {
        let mut texts = Vec::new();
        for pattern in patterns {
            texts.extend(required_literals(&syntax::parse_with(pattern, &bytes()).ok()?)?);
        }
        texts.sort_by_key(Vec::len);
        let mut needles: Vec<Needle> = Vec::new();
        for text in texts {
            // The needle of a shorter text often finds the longer ones too.
            if !text.windows(OFFSETS[2] + 1).any(|place| needles.contains(&needle(place))) {
                needles.push(needle(text.get(..=OFFSETS[2])?));
            }
            if needles.len() > MAX_NEEDLES {
                return None;
            }
        }
        let last = *needles.last()?;
        // A fixed number is looked for in one go; looking twice for the same one is cheaper than counting.
        Some(Self { needles: std::array::from_fn(|at| needles.get(at).copied().unwrap_or(last)) })
    }

    /// Whether one of the patterns may match: never `false` where one does.
    pub(super) fn may_match(&self, line: &[u8]) -> bool {
        let Some(last) = line.last_chunk() else {
            // The NUL bytes behind a short line can pass for spaces, which is a find_in too many.
            let mut short = [0; WINDOW];
            short[..line.len()].copy_from_slice(line);
            return self.find_in(&short) != 0;
        };
        let mut found = self.find_in(last);
        let mut rest = line;
        while let Some(window) = rest.first_chunk() {
            found |= self.find_in(window);
            rest = &rest[LANES..];
        }
        found != 0
    }

    /// Not 0 if a needle begins in the first [`LANES`] places of the window.
    fn find_in(&self, window: &[u8; WINDOW]) -> u64 {
        let letters = OFFSETS.map(|at| window[at..].first_chunk().map_or(0, |bytes| swar::load(*bytes)));
        let letters = letters.map(|letters| letters | swar::splat(CASE_BIT));
        self.needles.iter().fold(0, |found, needle| {
            let differs = (letters[0] ^ needle[0]) | (letters[1] ^ needle[1]) | (letters[2] ^ needle[2]);
            found | swar::zero_lanes(differs)
        })
    }
}

/// The needle of a text, from its beginning.
fn needle(text: &[u8]) -> Needle {
    OFFSETS.map(|at| swar::splat(text[at]))
}

/// Texts of which each match holds one, in small letters; `None` where it may hold none.
fn required_literals(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    if let Some(exact_literal) = exact_literal(hir) {
        return (!exact_literal.is_empty()).then(|| vec![exact_literal]);
    }
    match hir.kind() {
        HirKind::Capture(capture) => required_literals(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => required_literals(&repetition.sub),
        HirKind::Alternation(branches) => branches.iter().try_fold(Vec::new(), |mut all, branch| {
            all.extend(required_literals(branch)?);
            Some(all)
        }),
        HirKind::Concat(parts) => longest_literals(parts),
        _ => None,
    }
}

/// Of the texts that the parts of a sequence need, the ones that say most.
fn longest_literals(parts: &[Hir]) -> Option<Vec<Vec<u8>>> {
    let mut needed = Vec::new();
    let mut run = Vec::new();
    for part in parts {
        match exact_literal(part) {
            Some(text) => run.extend(text),
            None => {
                needed.push(vec![std::mem::take(&mut run)]);
                needed.extend(required_literals(part));
            }
        }
    }
    needed.push(vec![run]);
    needed.into_iter().max_by_key(|texts| texts.iter().map(Vec::len).min()).filter(|texts| !texts[0].is_empty())
}

/// The one text that an expression stands for, but for its case.
fn exact_literal(hir: &Hir) -> Option<Vec<u8>> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Some(Vec::new()),
        HirKind::Literal(literal) => Some(literal.0.iter().map(|byte| byte | CASE_BIT).collect()),
        HirKind::Class(Class::Bytes(class)) => single_byte(class.iter().flat_map(|range| range.start()..=range.end())),
        HirKind::Capture(capture) => exact_literal(&capture.sub),
        HirKind::Concat(parts) => {
            parts.iter().map(exact_literal).collect::<Option<Vec<_>>>().map(|texts| texts.concat())
        }
        _ => None,
    }
}

fn single_byte(mut bytes: impl Iterator<Item = u8>) -> Option<Vec<u8>> {
    let first = bytes.next()? | CASE_BIT;
    bytes.all(|byte| byte | CASE_BIT == first).then(|| vec![first])
}
