//! The expressions of llama-swap's matrix: `(a | b) & c` is the sets `a c` and `b c`.

use std::collections::BTreeMap;

/// Most sets that one expression may have.
const MOST_SETS: usize = 1000;

/// The sets that an expression means; `None` if it is none, or means too many. `named` are the expressions before it.
pub(crate) fn sets_of(expression: &str, named: &BTreeMap<String, Vec<Vec<String>>>) -> Option<Vec<Vec<String>>> {
    let tokens = tokens(expression);
    let mut parser = SetParser { tokens: &tokens, named };
    let sets = parser.either()?;
    parser.tokens.is_empty().then_some(sets)
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
    named: &'a BTreeMap<String, Vec<Vec<String>>>,
}

impl SetParser<'_> {
    fn next_is(&mut self, token: &str) -> bool {
        let is_next = self.tokens.first().is_some_and(|next| next == token);
        if is_next {
            self.tokens = &self.tokens[1..];
        }
        is_next
    }

    fn either(&mut self) -> Option<Vec<Vec<String>>> {
        let mut sets = self.both()?;
        while self.next_is("|") {
            sets.extend(self.both()?);
        }
        Some(sets).filter(|sets| sets.len() <= MOST_SETS)
    }

    fn both(&mut self) -> Option<Vec<Vec<String>>> {
        let mut sets = self.one()?;
        while self.next_is("&") {
            let others = self.one()?;
            if sets.len() * others.len() > MOST_SETS {
                return None;
            }
            let joined = sets.iter().flat_map(|set| others.iter().map(|other| [set.as_slice(), other].concat()));
            sets = joined.collect();
        }
        Some(sets)
    }

    fn one(&mut self) -> Option<Vec<Vec<String>>> {
        if self.next_is("(") {
            let sets = self.either()?;
            return self.next_is(")").then_some(sets);
        }
        let (name, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        match name.strip_prefix('+') {
            Some(reference) => self.named.get(reference).cloned(),
            None if matches!(name.as_str(), "&" | "|" | ")") => None,
            None => Some(vec![vec![name.clone()]]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(expression: &str) -> Option<String> {
        let named = BTreeMap::from([("llms".to_owned(), vec![vec!["a".to_owned()], vec!["b".to_owned()]])]);
        let sets = sets_of(expression, &named)?;
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
}
