//! Finds `~` and `$NAME` in texts that no shell reads, and expands them for the advice what to write instead.

use crate::environment::Environment;

/// Characters between the parts of a value, each of which may be a path.
const SEPARATORS: [char; 3] = [',', ':', '='];

/// A part of a text that only a shell would expand: taken literally, it names a folder called `~` or `$HOME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellSpelling {
    part: String,
    expanded: Option<String>,
}

impl ShellSpelling {
    /// Looks for `~` at the start of a path, and for `$NAME` anywhere in it.
    pub fn in_path(text: &str, environment: &Environment) -> Option<Self> {
        let part = tilde(text).or_else(|| Variable::first(text).map(|variable| variable.part))?;
        Some(Self { part: part.to_owned(), expanded: expand(text, environment) })
    }

    /// Looks in the value of an option or of a variable, which may be anything: only where a part of it begins like a path.
    /// The value of a variable is shown only if it is a path, since it may be a secret.
    pub fn in_value(text: &str, environment: &Environment) -> Option<Self> {
        let part = text.split(SEPARATORS).find_map(|part| {
            let variable = Variable::first(part).filter(|variable| variable.begins_path(part));
            tilde(part).filter(|tilde| *tilde == "~" && part != "~").or_else(|| variable.map(|variable| variable.part))
        })?;
        let expanded: Option<String> = text
            .split_inclusive(SEPARATORS)
            .map(|part| expand(part, environment).filter(|expanded| expanded == part || expanded.starts_with('/')))
            .collect();
        Some(Self { part: part.to_owned(), expanded })
    }

    /// The mistake: a lower-case fragment.
    pub fn message(&self) -> String {
        format!("only a shell expands `{}`", self.part)
    }

    /// The next step.
    pub fn help(&self) -> String {
        match &self.expanded {
            Some(expanded) => format!("write \"{expanded}\""),
            None if self.part.starts_with('~') => "write the whole path, from `/` on".to_owned(),
            None => format!("write what `{}` stands for", self.part),
        }
    }
}

/// `$NAME` or `${NAME}` in a text.
struct Variable<'a> {
    start: usize,
    part: &'a str,
    name: &'a str,
}

impl<'a> Variable<'a> {
    fn first(text: &'a str) -> Option<Self> {
        text.match_indices('$').find_map(|(start, _)| {
            let rest = &text[start + 1..];
            let braced = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map(|(name, _)| name);
            let is_in_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            let name = braced.unwrap_or_else(|| &rest[..rest.find(|c| !is_in_name(c)).unwrap_or(rest.len())]);
            let is_name = name.chars().all(is_in_name) && !name.starts_with(|first: char| first.is_ascii_digit());
            let length = 1 + name.len() + if braced.is_some() { 2 } else { 0 };
            (is_name && !name.is_empty()).then(|| Self { start, part: &text[start..start + length], name })
        })
    }

    /// Whether it is the whole text, or its first folder; in capitals, as variables of an environment are.
    fn begins_path(&self, text: &str) -> bool {
        let rest = &text[self.start + self.part.len()..];
        let is_capital = !self.name.contains(|letter: char| letter.is_ascii_lowercase());
        self.start == 0 && is_capital && (rest.is_empty() || rest.starts_with('/'))
    }
}

/// `~`, or `~` with the name of a user, where a shell would read it as a home directory.
fn tilde(text: &str) -> Option<&str> {
    let end = text.find('/').unwrap_or(text.len());
    (text == "~" || (text.starts_with('~') && end < text.len())).then(|| &text[..end])
}

/// The text as a shell would expand it; `None` where something is unknown.
fn expand(text: &str, environment: &Environment) -> Option<String> {
    let value = |name: &str| environment.get(name).and_then(|value| value.to_str());
    let (mut expanded, mut rest) = match tilde(text) {
        Some("~") => (value("HOME")?.to_owned(), &text[1..]),
        Some(_) => return None,
        None => (String::new(), text),
    };
    while let Some(variable) = Variable::first(rest) {
        expanded.push_str(&rest[..variable.start]);
        expanded.push_str(value(variable.name)?);
        rest = &rest[variable.start + variable.part.len()..];
    }
    expanded.push_str(rest);
    Some(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        [("HOME", "/srv/u"), ("MODELS", "/mnt/models"), ("KEY", "sk-secret"), ("EMPTY", "")].into_iter().collect()
    }

    fn said(found: Option<ShellSpelling>) -> Option<(String, String)> {
        found.map(|found| (found.message(), found.help()))
    }

    #[test]
    fn a_path_that_only_a_shell_understands_is_told_with_the_path_to_write() {
        for (text, part, help) in [
            ("~", "~", "write \"/srv/u\""),
            ("~/m.gguf", "~", "write \"/srv/u/m.gguf\""),
            ("~bob/m.gguf", "~bob", "write the whole path, from `/` on"),
            ("$HOME/m.gguf", "$HOME", "write \"/srv/u/m.gguf\""),
            ("${MODELS}/$HOME.gguf", "${MODELS}", "write \"/mnt/models//srv/u.gguf\""),
            ("/x/$NOWHERE/m.gguf", "$NOWHERE", "write what `$NOWHERE` stands for"),
            ("$EMPTY/m.gguf", "$EMPTY", "write what `$EMPTY` stands for"),
        ] {
            let expected = Some((format!("only a shell expands `{part}`"), help.to_owned()));
            assert_eq!(said(ShellSpelling::in_path(text, &environment())), expected, "{text}");
        }
        for plain in ["", "m.gguf", "./~/m.gguf", "/a~b/m.gguf", "~backup.gguf", "a$", "$1", "${}", "$-x", "$$"] {
            assert_eq!(ShellSpelling::in_path(plain, &environment()), None, "{plain}");
        }
    }

    #[test]
    fn a_value_is_told_only_where_it_begins_like_a_path_and_shows_no_secret() {
        for (text, help) in [
            ("~/a.gguf", "write \"/srv/u/a.gguf\""),
            ("--lora=~/a.gguf", "write \"--lora=/srv/u/a.gguf\""),
            ("/bin:$HOME/bin", "write \"/bin:/srv/u/bin\""),
            ("a.gguf,~/b.gguf", "write \"a.gguf,/srv/u/b.gguf\""),
            ("${MODELS}", "write \"/mnt/models\""),
            ("$KEY", "write what `$KEY` stands for"),
        ] {
            let found = ShellSpelling::in_value(text, &environment());
            assert_eq!(found.map(|found| found.help()).as_deref(), Some(help), "{text}");
        }
        for plain in ["~", "pa$WORD", "$word", "{{ a ~ b }}", "{\"a\": \"$KEY\"}", "$KEY-x", "~/"] {
            let found = ShellSpelling::in_value(plain, &environment());
            assert_eq!(found.is_some(), plain == "~/", "{plain}");
        }
    }
}
