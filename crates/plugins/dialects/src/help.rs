//! Reads the list of options out of `llama-server --help`.
//!
//! The format, as recorded from builds of 2023 to 2026 (`tests/fixtures/transcripts`): a line that names options starts with
//! them, indented by at most 9 columns, and separates them by `, ` and padding. A value follows the last name after exactly
//! one space (in 2023 it follows each name: `-t N, --threads N`). The description follows after two or more spaces, or on
//! further lines that are indented by at least 32 columns.
//!
//! Invariant: text in another format gives an empty list, never an error. The caller decides what that means.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::allowed_values::AllowedValues;

/// The kind of value that an option takes, according to its placeholder in the help text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// No value: the option is a bare switch.
    Nothing,
    /// `on` or `off`, perhaps further words: `[on|off|auto]`.
    OnOff,
    /// `0` or `1`: `<0|1>`.
    ZeroOne,
    /// A number: `N`.
    Number,
    /// Any value, or several.
    Value,
}

/// How an option takes several values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListForm {
    /// As one value, joined by this character: the placeholder is a list, `N0,N1,N2,...`.
    Joined(char),
    /// As one value, joined by this character: the description says so.
    Described(char),
    /// Once for each: the description says so.
    Repeated,
    /// As so many arguments: the placeholder has so many words, `START END`.
    Words(usize),
    /// The help says nothing: of several, the last would count.
    Single,
}

/// What the help says about one option.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ListedOption {
    kind: ValueKind,
    list: ListForm,
    /// The value is the path of a file or folder.
    is_path: bool,
    /// Words in quotes in the description of a number: `'auto'`.
    words: Box<[Box<str>]>,
    /// The number is a whole one, according to its default.
    is_whole: bool,
    /// The words that it takes, where the help lists them.
    allowed: AllowedValues,
}

/// The long options that a build lists, by name without dashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OptionList {
    /// Sorted. Events share this allocation: a build of 2026 lists more than 300 names.
    names: Arc<[String]>,
    /// One entry per name, in the same order.
    options: Box<[ListedOption]>,
    /// Short names without the dash, each with the long name that stands beside it.
    short_names: BTreeMap<Box<str>, Box<str>>,
    hosts: HostForms,
    knows_key_comments: bool,
}

/// What a build listens on, according to what its help says about `--host`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HostForms {
    /// The help does not say.
    #[default]
    Unknown,
    /// Addresses alone: builds until early 2025.
    Addresses,
    /// Addresses and unix sockets.
    AddressesAndSockets,
}

/// Deepest indentation, in columns, of a line that names options. Descriptions start at column 32.
const MAX_INDENT: usize = 12;

/// The names at the start of a line of the help text, and what follows them.
struct NamedLine<'a> {
    names: Vec<&'a str>,
    placeholder: Option<&'a str>,
    description: &'a str,
}

impl OptionList {
    /// Reads a help text, in colour or not. A text without options gives an empty list.
    pub fn parse(help: &str) -> Self {
        let help = without_colours(help);
        let mut listed = BTreeMap::new();
        let mut short_names = BTreeMap::new();
        let mut hosts = HostForms::Unknown;
        let mut knows_key_comments = false;
        let mut lines = help.lines().peekable();
        while let Some(line) = lines.next() {
            let Some(NamedLine { names, placeholder, description }) = named_line(line) else { continue };
            let mut paragraph = vec![description.trim()];
            while let Some(more) = lines.next_if(|line| named_line(line).is_none() && line.starts_with("        ")) {
                paragraph.push(more.trim());
            }
            let description = paragraph.join(" ");
            if names.contains(&"--host") {
                hosts = host_forms(&description);
            }
            knows_key_comments |= names.contains(&"--api-key-file") && description.contains("comment");
            let option = ListedOption::of(placeholder, &paragraph, &description);
            for (short, long) in short_and_long(&names) {
                short_names.entry(short.into()).or_insert_with(|| long.into());
            }
            let long_names = names.iter().filter_map(|name| name.strip_prefix("--"));
            listed.extend(long_names.map(|name| (name.to_owned(), option.clone())));
        }
        let (names, options): (Vec<_>, Vec<_>) = listed.into_iter().unzip();
        Self { names: names.into(), options: options.into(), short_names, hosts, knows_key_comments }
    }

    /// The options with these long names, with or without dashes, of which nothing more is known.
    pub(crate) fn of_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let lines: Vec<_> = names.into_iter().map(|name| format!("--{} VALUE", name.trim_start_matches('-'))).collect();
        Self::parse(&lines.join("\n"))
    }

    /// What the build listens on.
    pub const fn hosts(&self) -> HostForms {
        self.hosts
    }

    /// Whether the build takes a comment in a key file for a key: builds until 2025 do, and later ones say in their help that they
    /// do not (measured).
    pub fn takes_comments_for_keys(&self) -> bool {
        self.lists("api-key-file") && !self.knows_key_comments
    }

    /// Whether the build lists `--name`.
    pub fn lists(&self, name: &str) -> bool {
        self.option(name).is_some()
    }

    /// The kind of value that `--name` takes; `None` if the build does not list it.
    pub fn value_kind(&self, name: &str) -> Option<ValueKind> {
        self.option(name).map(|option| option.kind)
    }

    /// How `--name` takes several values; `None` if the build does not list it.
    pub(crate) fn list_form(&self, name: &str) -> Option<ListForm> {
        self.option(name).map(|option| option.list)
    }

    /// Whether the value of `--name` is a path, according to its placeholder.
    pub(crate) fn takes_path(&self, name: &str) -> bool {
        self.option(name).is_some_and(|option| option.is_path)
    }

    /// Whether `text` is a number, or a word that the description of the number `--name` has in quotes.
    pub(crate) fn takes_number(&self, name: &str, text: &str) -> bool {
        is_number(text) || self.option(name).is_some_and(|option| option.words.iter().any(|word| **word == *text))
    }

    /// Why `--name` may not take `value`, according to the help. Does not contain the value, which may be a secret.
    pub(crate) fn doubt_of(&self, name: &str, value: &str) -> Option<String> {
        let option = self.option(name)?;
        if option.kind == ValueKind::Number {
            let doubt = if !self.takes_number(name, value) {
                "its value is no number; write it in digits, such as 8192"
            } else if option.is_whole && has_fraction(value) {
                "it takes a whole number; write one, since llama-server leaves a fraction out"
            } else {
                return None;
            };
            return Some(doubt.to_owned());
        }
        let detail = || {
            let words = option.allowed.shown();
            format!("its value is none of those that this build's help allows; write one of {words}")
        };
        (!option.allowed.take(value)).then(detail)
    }

    /// The long name beside the short name `-short`.
    pub(crate) fn long_name(&self, short: &str) -> Option<&str> {
        self.short_names.get(short).map(|long| &**long)
    }

    /// How many of the arguments behind `--name` are its values; `None` if the build does not list it.
    pub(crate) fn value_count(&self, name: &str) -> Option<usize> {
        let option = self.option(name)?;
        Some(match option.list {
            _ if option.kind == ValueKind::Nothing => 0,
            ListForm::Words(count) => count,
            _ => 1,
        })
    }

    /// All names without dashes, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// All names without dashes, sorted, as a shared allocation.
    pub fn shared_names(&self) -> Arc<[String]> {
        self.names.clone()
    }

    /// Whether the text was the help of a llama-server: every build lists its model and its port.
    pub fn is_of_llama_server(&self) -> bool {
        self.lists("model") || self.lists("port")
    }

    fn option(&self, name: &str) -> Option<&ListedOption> {
        let index = self.names.binary_search_by(|known| known.as_str().cmp(name)).ok()?;
        self.options.get(index)
    }
}

/// Reads the description of `--host`.
fn host_forms(description: &str) -> HostForms {
    if description.contains(".sock") || description.to_ascii_lowercase().contains("unix") {
        HostForms::AddressesAndSockets
    } else {
        HostForms::Addresses
    }
}

impl ListedOption {
    fn of(placeholder: Option<&str>, paragraph: &[&str], description: &str) -> Self {
        let kind = placeholder.map_or(ValueKind::Nothing, value_kind_of);
        let words = if kind == ValueKind::Number { quoted_words(description) } else { Box::default() };
        Self {
            kind,
            list: placeholder.map_or(ListForm::Single, |placeholder| list_form_of(placeholder, description)),
            is_path: placeholder.is_some_and(is_path),
            words,
            is_whole: kind == ValueKind::Number && is_whole(description),
            allowed: placeholder.map(|placeholder| AllowedValues::of(placeholder, paragraph)).unwrap_or_default(),
        }
    }
}

/// Reads the start of a line that names options; `None` for any other line. All names take the value behind the last one.
fn named_line(line: &str) -> Option<NamedLine<'_>> {
    let mut rest = line.trim_start_matches(' ');
    if line.len() - rest.len() > MAX_INDENT {
        return None;
    }
    let mut names = Vec::new();
    while let Some(length) = name_length(rest) {
        let (name, after) = rest.split_at(length);
        names.push(name);
        match after.strip_prefix(',').or_else(|| skip_value(after)) {
            Some(after) => rest = after.trim_start_matches(' '),
            None => {
                rest = after;
                break;
            }
        }
    }
    let placeholder = placeholder(rest);
    let description = placeholder.map_or(rest, |placeholder| &rest[placeholder.len() + 1..]);
    (!names.is_empty()).then_some(NamedLine { names, placeholder, description })
}

/// Each short name of a line with the long name that it stands for: the last one behind it that is no negation, before the
/// next short name.
fn short_and_long<'a>(names: &[&'a str]) -> Vec<(&'a str, &'a str)> {
    let long = |name: &&'a str| name.strip_prefix("--");
    let pair = |(index, name): (usize, &&'a str)| {
        let short = name.strip_prefix('-').filter(|short| !short.starts_with('-'))?;
        let run: Vec<&str> = names[index + 1..].iter().map_while(long).collect();
        let positive = run.iter().rev().find(|name| !name.starts_with("no-"));
        let beside = positive.or(run.first()).copied();
        Some((short, beside.or_else(|| names[..index].iter().rev().find_map(long))?))
    };
    names.iter().enumerate().filter_map(pair).collect()
}

/// The text without ANSI colours, which some wrappers switch on for a pipe.
fn without_colours(text: &str) -> Cow<'_, str> {
    if !text.contains('\x1b') {
        return text.into();
    }
    let mut parts = text.split('\x1b');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |at| at + 1);
        plain.push_str(if part.starts_with('[') { &part[end..] } else { part });
    }
    plain.into()
}

/// Skips a value that stands between two names, as in `-t N, --threads N`; `None` if no other name follows.
fn skip_value(after_name: &str) -> Option<&str> {
    let (value, rest) = after_name.strip_prefix(' ')?.split_once(' ')?;
    let is_value = !value.is_empty() && !value.starts_with('-');
    (is_value && name_length(rest).is_some()).then_some(rest)
}

/// The length in bytes of the option name that `text` starts with: dashes, a letter, then letters, digits, `-`, `_` or `.`.
fn name_length(text: &str) -> Option<usize> {
    let name = text.strip_prefix("--").or_else(|| text.strip_prefix('-'))?;
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let end = name.find(|c| !is_part(c)).unwrap_or(name.len());
    name.starts_with(|c: char| c.is_ascii_alphabetic()).then_some(text.len() - name.len() + end)
}

/// The placeholder of the value, which follows the last name after exactly one space.
fn placeholder(after_names: &str) -> Option<&str> {
    let text = after_names.strip_prefix(' ')?;
    (!text.is_empty() && !text.starts_with(' ')).then(|| text.split("  ").next().unwrap_or(text))
}

fn value_kind_of(placeholder: &str) -> ValueKind {
    let choices: Vec<&str> = placeholder.trim_matches(['[', ']', '<', '>', '{', '}']).split(['|', ',']).collect();
    if choices.contains(&"on") && choices.contains(&"off") {
        ValueKind::OnOff
    } else if choices == ["0", "1"] {
        ValueKind::ZeroOne
    } else if matches!(placeholder, "N" | "SEED" | "INDEX" | "SECONDS" | "SIMILARITY" | "P") {
        ValueKind::Number
    } else {
        ValueKind::Value
    }
}

fn list_form_of(placeholder: &str, description: &str) -> ListForm {
    // `{none,linear}` and `[on|off]` are choices.
    let is_choice = placeholder.starts_with(['{', '[']) || placeholder.contains('|');
    if placeholder.contains(',') && !is_choice {
        return ListForm::Joined(',');
    }
    let words: Vec<&str> = placeholder.split(' ').collect();
    if words.len() > 1 && words.iter().all(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase())) {
        return ListForm::Words(words.len());
    }
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| description.contains(phrase));
    if says(&["can be repeated", "repeat to specify", "multiple times"]) {
        ListForm::Repeated
    } else if says(&["comma-separated", "comma separated"]) {
        ListForm::Described(',')
    } else if says(&["separated by ';'"]) {
        ListForm::Described(';')
    } else {
        ListForm::Single
    }
}

/// Whether a placeholder stands for a path: `FNAME`, `PATH`, `JINJA_TEMPLATE_FILE`, `FNAME:SCALE,...`.
fn is_path(placeholder: &str) -> bool {
    let word = placeholder.split([' ', ':', ',']).next().unwrap_or_default();
    matches!(word, "FNAME" | "FILE" | "PATH" | "DIR" | "LOGDIR") || word.ends_with("_FILE") || word.ends_with("_PATH")
}

/// A number as llama-server reads it to its end: it takes `8k` for 8 and `1e5` for 1.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    digits.contains(|c: char| c.is_ascii_digit()) && digits.chars().all(is_part) && digits.matches('.').count() <= 1
}

fn has_fraction(number: &str) -> bool {
    number.split_once('.').is_some_and(|(_, fraction)| fraction.contains(|c: char| c != '0'))
}

/// Whether the number counts something, or its default is a whole number: builds print one that may have a fraction with a point.
fn is_whole(description: &str) -> bool {
    if description.starts_with("number of ") {
        return true;
    }
    let Some((_, default)) = description.split_once("default: ") else { return false };
    let digits = default.trim_start_matches('-').trim_start_matches(|c: char| c.is_ascii_digit());
    digits.len() < default.trim_start_matches('-').len()
        && !digits.starts_with(|c: char| c == '.' || c.is_alphanumeric())
}

/// The words in single quotes.
fn quoted_words(description: &str) -> Box<[Box<str>]> {
    let words = description.split('\'').skip(1).step_by(2);
    words.filter(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric())).map(Box::from).collect()
}

#[cfg(test)]
mod tests;
