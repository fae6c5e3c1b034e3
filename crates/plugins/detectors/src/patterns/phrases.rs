//! Whether a line may hold one of a few texts, in whatever case.
//!
//! A pattern that may match anywhere has to be tried at every byte. Where it cannot match without one of a few texts, three
//! letters of each, at their distances, are looked for first, at eight places of the line at once; hardly any other line has
//! them, and only one that does is worth the patterns themselves.

use regex_automata::util::syntax;
use regex_syntax::hir::{Class, Hir, HirKind};

use super::bytes;
use super::lanes::{self, LANES};

/// Where in a text the letters of its mark stand.
const LETTERS: [usize; 3] = [0, 4, 8];
/// The places that are looked at together, with what follows the last of them.
const WINDOW: usize = LANES + LETTERS[2];
/// Most marks that are looked for.
const MARKS: usize = 2;
/// The bit that tells a small letter from its capital.
const SMALL: u8 = 0x20;

/// See the module.
#[derive(Debug)]
pub(super) struct Phrases {
    marks: [Mark; MARKS],
}

/// The letters of a text at [`LETTERS`], as small ones, each in all lanes.
type Mark = [u64; 3];

impl Phrases {
    /// What no match of any of the patterns can do without; `None` where there is no such thing, it is shorter than a mark,
    /// or there are too many of them.
    pub(super) fn of(patterns: &[&str]) -> Option<Self> {
        let mut texts = Vec::new();
        for pattern in patterns {
            texts.extend(texts_of(&syntax::parse_with(pattern, &bytes()).ok()?)?);
        }
        texts.sort_by_key(Vec::len);
        let mut marks: Vec<Mark> = Vec::new();
        for text in texts {
            // The mark of a shorter text often finds the longer ones too.
            if !text.windows(LETTERS[2] + 1).any(|place| marks.contains(&mark(place))) {
                marks.push(mark(text.get(..=LETTERS[2])?));
            }
            if marks.len() > MARKS {
                return None;
            }
        }
        let last = *marks.last()?;
        // A fixed number is looked for in one go; looking twice for the same one is cheaper than counting.
        Some(Self { marks: std::array::from_fn(|at| marks.get(at).copied().unwrap_or(last)) })
    }

    /// Whether one of the patterns may match: never `false` where one does.
    pub(super) fn may_be_in(&self, line: &[u8]) -> bool {
        let Some(last) = line.last_chunk() else {
            // The NUL bytes behind a short line can pass for spaces, which is a look too many.
            let mut short = [0; WINDOW];
            short[..line.len()].copy_from_slice(line);
            return self.look(&short) != 0;
        };
        let mut found = self.look(last);
        let mut rest = line;
        while let Some(window) = rest.first_chunk() {
            found |= self.look(window);
            rest = &rest[LANES..];
        }
        found != 0
    }

    /// Not 0 if a mark begins in the first [`LANES`] places of the window.
    fn look(&self, window: &[u8; WINDOW]) -> u64 {
        let letters = LETTERS.map(|at| window[at..].first_chunk().map_or(0, |bytes| lanes::word(*bytes)));
        let letters = letters.map(|letters| letters | lanes::all(SMALL));
        self.marks.iter().fold(0, |found, mark| {
            let differs = (letters[0] ^ mark[0]) | (letters[1] ^ mark[1]) | (letters[2] ^ mark[2]);
            found | lanes::zeros(differs)
        })
    }
}

/// The mark of a text, from its beginning.
fn mark(text: &[u8]) -> Mark {
    LETTERS.map(|at| lanes::all(text[at]))
}

/// Texts of which each match holds one, in small letters; `None` where it may hold none.
fn texts_of(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    if let Some(exact) = exact(hir) {
        return (!exact.is_empty()).then(|| vec![exact]);
    }
    match hir.kind() {
        HirKind::Capture(capture) => texts_of(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => texts_of(&repetition.sub),
        HirKind::Alternation(branches) => branches.iter().try_fold(Vec::new(), |mut all, branch| {
            all.extend(texts_of(branch)?);
            Some(all)
        }),
        HirKind::Concat(parts) => longest(parts),
        _ => None,
    }
}

/// Of the texts that the parts of a sequence need, the ones that say most.
fn longest(parts: &[Hir]) -> Option<Vec<Vec<u8>>> {
    let mut needed = Vec::new();
    let mut run = Vec::new();
    for part in parts {
        match exact(part) {
            Some(text) => run.extend(text),
            None => {
                needed.push(vec![std::mem::take(&mut run)]);
                needed.extend(texts_of(part));
            }
        }
    }
    needed.push(vec![run]);
    needed.into_iter().max_by_key(|texts| texts.iter().map(Vec::len).min()).filter(|texts| !texts[0].is_empty())
}

/// The one text that an expression stands for, but for its case.
fn exact(hir: &Hir) -> Option<Vec<u8>> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Some(Vec::new()),
        HirKind::Literal(literal) => Some(literal.0.iter().map(|byte| byte | SMALL).collect()),
        HirKind::Class(Class::Bytes(class)) => one(class.iter().flat_map(|range| range.start()..=range.end())),
        HirKind::Capture(capture) => exact(&capture.sub),
        HirKind::Concat(parts) => parts.iter().map(exact).collect::<Option<Vec<_>>>().map(|texts| texts.concat()),
        _ => None,
    }
}

fn one(mut bytes: impl Iterator<Item = u8>) -> Option<Vec<u8>> {
    let first = bytes.next()? | SMALL;
    bytes.all(|byte| byte | SMALL == first).then(|| vec![first])
}
