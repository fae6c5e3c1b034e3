//! The expressions of llama-swap's matrix: `(a | b) & c` is the sets `a c` and `b c`.
//!
//! An expression may name others, so that a few lines can mean any number of sets. What is made is counted before it is made.

use std::collections::{BTreeMap, BTreeSet};

/// Most sets that one expression may have.
const MOST_SETS: usize = 1000;

/// Most bytes of names in all sets that the expressions of a file make, the sets within them included.
const MOST_BYTES: usize = 16 << 20;

/// What a name counts besides its bytes.
const COST: usize = 32;

/// Deepest nesting of parentheses.
const DEEPEST: usize = 64;

/// Names that mean models which may run together.
pub(crate) type Sets = Vec<Vec<String>>;

/// The expressions of a file, in its order.
#[derive(Debug, Default)]
pub(crate) struct Expressions {
    named: BTreeMap<String, Sets>,
    bytes: usize,
}

impl Expressions {
    /// The sets that an expression means; `None` if it is none, or means too many. Expressions before it may be named in it.
    pub(crate) fn sets_of(&mut self, expression: &str) -> Option<Sets> {
        let tokens = tokens(expression);
        let mut parser = SetParser { tokens: &tokens, expressions: self, depth: 0 };
        let sets = parser.either()?;
        parser.tokens.is_empty().then_some(sets)
    }

    /// Expressions behind it may name it.
    pub(crate) fn insert(&mut self, name: String, sets: Sets) {
        self.named.insert(name, sets);
    }

    /// Counts names that are about to be copied.
    fn count(&mut self, bytes: usize) -> Option<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        (self.bytes <= MOST_BYTES).then_some(())
    }
}

fn bytes_of(sets: &Sets) -> usize {
    sets.iter().map(|set| COST + set.iter().map(|name| name.len() + COST).sum::<usize>()).sum()
}

fn tokens(expression: &str) -> Vec<String> {
    let mut tokens = vec![String::new()];
    for c in expression.chars() {
        match c {
            '&' | '|' | '(' | ')' => tokens.extend([c.to_string(), String::new()]),
            c if c.is_whitespace() => tokens.push(String::new()),
            c => tokens.last_mut().into_iter().for_each(|token| token.push(c)),
        }
    }
    tokens.retain(|token| !token.is_empty());
    tokens
}

struct SetParser<'a> {
    tokens: &'a [String],
    expressions: &'a mut Expressions,
    depth: usize,
}

impl SetParser<'_> {
    fn next_is(&mut self, token: &str) -> bool {
        let is_next = self.tokens.first().is_some_and(|next| next == token);
        if is_next {
            self.tokens = &self.tokens[1..];
        }
        is_next
    }

    fn either(&mut self) -> Option<Sets> {
        let mut sets = self.both()?;
        while self.next_is("|") {
            let others = self.both()?;
            if sets.len() + others.len() > MOST_SETS {
                return None;
            }
            sets.extend(others);
        }
        Some(sets)
    }

    fn both(&mut self) -> Option<Sets> {
        let mut sets = self.one()?;
        while self.next_is("&") {
            let others = self.one()?;
            if sets.len() * others.len() > MOST_SETS {
                return None;
            }
            self.expressions.count(bytes_of(&sets) * others.len() + bytes_of(&others) * sets.len())?;
            let joined = sets.iter().flat_map(|set| others.iter().map(|other| joined(set, other)));
            sets = joined.collect();
        }
        Some(sets)
    }

    fn one(&mut self) -> Option<Sets> {
        if self.next_is("(") {
            self.depth += 1;
            let sets = if self.depth > DEEPEST { None } else { self.either() }?;
            self.depth -= 1;
            return self.next_is(")").then_some(sets);
        }
        let (name, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        match name.strip_prefix('+') {
            Some(reference) => {
                let bytes = bytes_of(self.expressions.named.get(reference)?);
                self.expressions.count(bytes)?;
                self.expressions.named.get(reference).cloned()
            }
            None if matches!(name.as_str(), "&" | "|" | ")") => None,
            None => Some(vec![vec![name.clone()]]),
        }
    }
}

/// Both sets as one, in which a name stands once.
fn joined(set: &[String], other: &[String]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    set.iter().chain(other).filter(|name| seen.insert(*name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(expression: &str) -> Option<String> {
        let mut expressions = Expressions::default();
        expressions.insert("llms".to_owned(), vec![vec!["a".to_owned()], vec!["b".to_owned()]]);
        let sets = expressions.sets_of(expression)?;
        Some(sets.iter().map(|set| set.join(" ")).collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn an_expression_means_its_sets() {
        for (expression, expected) in [
            ("a", "a"),
            ("a & b", "a b"),
            ("a | b", "a, b"),
            ("(a|b)&c", "a c, b c"),
            ("(a | b) & (c | d)", "a c, a d, b c, b d"),
            ("+llms & v", "a v, b v"),
            ("a & b & a", "a b"),
            (&format!("{}a{}", "(".repeat(64), ")".repeat(64)), "a"),
        ] {
            assert_eq!(sets(expression).as_deref(), Some(expected), "{expression}");
        }
    }

    #[test]
    fn what_is_no_expression_or_means_too_much_is_refused() {
        let product = vec!["(a|b)"; 20].join("&");
        for wrong in ["", "a &", "& a", "(a", "a)", "a b", "+none", "()", &product] {
            assert_eq!(sets(wrong), None, "{wrong}");
        }
    }
    /// Expressions that name each other mean ten times as much with each line.
    #[test]
    fn what_expressions_make_of_each_other_is_bounded() {
        let deep = format!("{}a{}", "(".repeat(300_000), ")".repeat(300_000));
        assert_eq!(sets(&deep), None);
        let mut expressions = Expressions::default();
        let wide = (0..30).map(|number| format!("a{number}")).collect::<Vec<_>>();
        for (first, sign) in [(wide.join("|"), "|"), (wide.join("&"), "&")] {
            let mut before = expressions.sets_of(&first).expect("small");
            let mut is_refused = false;
            for number in 0..100 {
                let name = format!("s{number}");
                expressions.insert(name.clone(), before);
                let next = vec![format!("+{name}"); 10].join(sign);
                match expressions.sets_of(&next) {
                    Some(sets) => before = sets,
                    None => {
                        is_refused = true;
                        break;
                    }
                }
                assert!(bytes_of(&before) <= MOST_BYTES && before.len() <= MOST_SETS);
            }
            // Sets that are joined with themselves stay as they are.
            assert_eq!(is_refused, sign == "|", "{sign}");
        }
        let product = (0..9).map(|_| "(a|b)").collect::<Vec<_>>().join("&");
        expressions.insert("big".to_owned(), expressions_of(&product));
        let made = (0..10_000).take_while(|_| expressions.sets_of("+big").is_some()).count();
        assert!((10..10_000).contains(&made), "{made}");
    }

    fn expressions_of(expression: &str) -> Sets {
        Expressions::default().sets_of(expression).expect("small")
    }
}
