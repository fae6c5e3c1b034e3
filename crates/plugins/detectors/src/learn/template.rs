//! Makes a template of a line: a pattern that also matches the line of the next start, in which numbers, ports, paths and
//! padding differ.
//!
//! The builder walks along the line and replaces the longest thing that it knows at each place. Worked example, with the port
//! 8001 that the server was given:
//!
//! ```text
//! up at http://127.0.0.1:8001 in   42.5 ms, id 4f3a9c21
//!
//! "up at "                  literal
//! "http://127.0.0.1:8001"   an address with our port   https?://\S+:(?P<port>\d+)
//! "   "                     a run of spaces            " +"
//! "42.5"                    two numbers and a dot      \d+\.\d+
//! "4f3a9c21"                an id                      [0-9a-fA-F]+
//! ```

use std::path::Path;

/// Most characters of a line that become a pattern. The pattern accepts anything after them.
const MOST_CHARACTERS: usize = 240;
/// Shortest run of hexadecimal digits that counts as an id.
const SHORTEST_ID: usize = 8;
/// Shortest run of one punctuation character that counts as a bar, or as dots of progress.
const SHORTEST_BAR: usize = 4;

/// The arguments of the server, which its lines repeat.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PassedArguments<'a> {
    pub(crate) port: u16,
    pub(crate) host: &'a str,
    pub(crate) model: &'a Path,
}

/// The pattern of a line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Template {
    /// The regular expression, anchored at the start.
    pub(crate) regex: String,
    pub(crate) port: NamesPort,
}

/// Whether a line names the port that the server was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NamesPort {
    Yes,
    No,
}

impl Template {
    /// The template of a cleaned line.
    pub(crate) fn of(line: &str, passed: PassedArguments<'_>) -> Self {
        let (mut builder, mut rest) = (TemplateBuilder::new(passed), line);
        let end = line.char_indices().nth(MOST_CHARACTERS).map_or(line.len(), |(end, _)| end);
        // A path or a URL is never cut: the last step may go beyond the limit.
        while line.len() - rest.len() < end {
            rest = builder.consume(line, rest);
        }
        builder.finish(rest.is_empty())
    }
}

struct TemplateBuilder<'a> {
    passed: PassedArguments<'a>,
    model: String,
    port: String,
    regex: String,
    names_port: NamesPort,
}

impl<'a> TemplateBuilder<'a> {
    fn new(passed: PassedArguments<'a>) -> Self {
        let (model, port) = (passed.model.display().to_string(), passed.port.to_string());
        Self { passed, model, port, regex: "^".to_owned(), names_port: NamesPort::No }
    }

    fn finish(mut self, is_whole: bool) -> Template {
        if is_whole {
            self.regex.push('$');
        }
        Template { regex: self.regex, port: self.names_port }
    }

    /// Appends the pattern of the first thing in `rest`, the end of `line`. Returns the text after it, which is always shorter.
    fn consume<'l>(&mut self, line: &str, rest: &'l str) -> &'l str {
        let before = line[..line.len() - rest.len()].chars().next_back();
        let Some(first) = rest.chars().next() else { return rest };
        if let Some(after) = rest.strip_prefix(self.model.as_str()).filter(|_| !self.model.is_empty()) {
            self.regex.push_str(".+");
            return after;
        }
        if let Some(after) = self.address(rest) {
            return after;
        }
        if let Some(after) = rest.strip_prefix(self.passed.host).filter(|_| !self.passed.host.is_empty()) {
            self.regex.push_str(r"\S+");
            return after;
        }
        let starts_word = before.is_none_or(|before| !before.is_ascii_alphanumeric());
        let word = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_hexdigit()).len();
        if starts_word && is_id(&rest[..word], &rest[word..]) {
            self.regex.push_str("[0-9a-fA-F]+");
            return &rest[word..];
        }
        if first.is_ascii_digit() {
            return self.number(rest);
        }
        let after = rest.trim_start_matches(first);
        let count = (rest.len() - after.len()) / first.len_utf8();
        let literal = if r"\.+*?()|[]{}^$".contains(first) { format!(r"\{first}") } else { first.to_string() };
        match count {
            2.. if first == ' ' => self.regex.push_str(" +"),
            SHORTEST_BAR.. if first.is_ascii_punctuation() => self.regex.push_str(&format!("{literal}+")),
            _ => {
                self.regex.push_str(&literal);
                return &rest[first.len_utf8()..];
            }
        }
        after
    }

    /// Appends the pattern of `http://HOST:PORT` with our port and any host.
    fn address<'l>(&mut self, rest: &'l str) -> Option<&'l str> {
        let authority = rest.strip_prefix("http://").or_else(|| rest.strip_prefix("https://"))?;
        let end = authority.find(|c: char| c.is_whitespace() || c == '/').unwrap_or(authority.len());
        let (_, port) = authority[..end].rsplit_once(':')?;
        if port != self.port {
            return None;
        }
        self.regex.push_str(r"https?://\S+:");
        self.our_port();
        Some(&authority[end..])
    }

    fn number<'l>(&mut self, rest: &'l str) -> &'l str {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if rest[..digits] == self.port {
            self.our_port();
        } else {
            self.regex.push_str(r"\d+");
        }
        &rest[digits..]
    }

    fn our_port(&mut self) {
        // A regular expression may use the name of a group only once.
        self.regex.push_str(if self.names_port == NamesPort::Yes { r"\d+" } else { r"(?P<port>\d+)" });
        self.names_port = NamesPort::Yes;
    }
}

/// Whether a word is a long run of hexadecimal digits with both letters and numbers: a commit, a thread, a random name.
fn is_id(word: &str, after: &str) -> bool {
    word.len() >= SHORTEST_ID
        && word.contains(|c: char| c.is_ascii_digit())
        && word.contains(|c: char| c.is_ascii_alphabetic())
        && !after.starts_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(line: &str) -> Template {
        Template::of(line, PassedArguments { port: 8001, host: "127.0.0.1", model: Path::new("/my models/a.gguf") })
    }

    #[test]
    fn what_differs_between_starts_is_left_open() {
        let cases = [
            ("main: model loaded", r"^main: model loaded$"),
            (
                "srv  llama_server: listening on http://127.0.0.1:8001",
                r"^srv +llama_server: listening on https?://\S+:(?P<port>\d+)$",
            ),
            ("ready on port 8001 (http 8001)", r"^ready on port (?P<port>\d+) \(http \d+\)$"),
            ("hostname: 127.0.0.1, port: 8001", r"^hostname: \S+, port: (?P<port>\d+)$"),
            ("size =     0.47 MiB", r"^size = +\d+\.\d+ MiB$"),
            ("loading '/my models/a.gguf' ...", r"^loading '.+' \.\.\.$"),
            ("commit 4227c9b1 by deadbeef", r"^commit [0-9a-fA-F]+ by deadbeef$"),
            ("................", r"^\.+$"),
            ("see http://example.org:80/x", r"^see http://example\.org:\d+/x$"),
        ];
        for (line, expected) in cases {
            assert_eq!(template(line).regex, expected, "{line}");
            let regex = regex::bytes::Regex::new(expected).expect("valid");
            assert!(regex.is_match(line.as_bytes()), "{line}");
        }
        assert_eq!(template("port 80010").port, NamesPort::No);
        assert_eq!(template("port 8001").port, NamesPort::Yes);
    }

    #[test]
    fn a_long_line_is_known_by_its_beginning() {
        let line = format!("ready {}", "x ".repeat(1000));
        let regex = template(&line).regex;
        assert!(regex.len() <= 1024 && !regex.ends_with('$'), "{regex}");
    }
}
