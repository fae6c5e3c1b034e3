//! The values that a help text allows for an option: `[on|off|auto]`, `{none,linear}`, `allowed values: f16, q8_0`, or a list
//! with a line `- word: meaning` for each.

/// The words that an option takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AllowedValues {
    /// Empty where the help does not say.
    words: Box<[Box<str>]>,
    /// Several may be given, with commas between them.
    is_list: bool,
}

/// What builds take for on and off besides these words (measured).
const SWITCHES: [&str; 7] = ["true", "false", "enabled", "disabled", "1", "0", "-1"];

impl AllowedValues {
    /// Reads them out of the placeholder of an option, and of the lines of its description.
    pub(crate) fn of(placeholder: &str, description: &[&str]) -> Self {
        let text = description.join(" ");
        let is_list = !placeholder.starts_with(['{', '[', '<']) && placeholder.contains(',');
        let choices = placeholder.trim_matches(['[', ']', '<', '>', '{', '}']);
        let mut words = words(choices.split(['|', ',']));
        if words.is_empty()
            && let Some((_, rest)) = text.split_once("allowed values: ")
        {
            words = self::words(rest.split(" (").next().unwrap_or(rest).split(',').map(str::trim));
        }
        if words.is_empty() {
            let items = description.iter().filter_map(|line| line.trim().strip_prefix("- "));
            let word = |item: &'_ str| item.find([':', ' ']).map(|end| item[..end].to_owned());
            let found: Vec<String> = items.filter_map(word).collect();
            words = self::words(found.iter().map(String::as_str));
        }
        // The default may be a word that the list leaves out.
        let default = text.split("default: ").nth(1).map(|rest| rest.trim_start_matches('\''));
        let default = default.map(|rest| &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())]);
        if let Some(default) = default.filter(|default| !words.is_empty() && is_word(default)) {
            words.push(default.into());
        }
        let mut seen: Vec<Box<str>> = Vec::new();
        for word in words {
            if !seen.contains(&word) {
                seen.push(word);
            }
        }
        Self { words: seen.into(), is_list }
    }

    /// Whether an option takes `value`, as far as the help says.
    pub(crate) fn take(&self, value: &str) -> bool {
        let has = |text: &str| self.words.iter().any(|word| **word == *text);
        let is_one = |text: &str| has(text) || (has("on") && has("off") && SWITCHES.contains(&text));
        self.words.is_empty() || is_one(value) || (self.is_list && value.split(',').all(is_one))
    }

    /// The words, for people.
    pub(crate) fn shown(&self) -> String {
        self.words.join(", ")
    }
}

/// The words; none unless there are several and each of them is a plain word. `N0,N1,...` and `<user>/<model>` stand for others.
fn words<'a>(parts: impl Iterator<Item = &'a str>) -> Vec<Box<str>> {
    let parts: Vec<&str> = parts.collect();
    let are_words = parts.len() > 1 && parts.iter().all(|part| is_word(part));
    if are_words { parts.into_iter().map(Box::from).collect() } else { Vec::new() }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_part)
}

const fn is_part(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '+')
}

#[cfg(test)]
mod tests {
    use crate::fixtures;
    use crate::help::OptionList;

    #[test]
    fn a_value_that_a_build_takes_is_never_doubted() {
        let cases = [
            ("2024-11-py0.3.2", "cache-type-k", "q9", true),
            ("2025-08-py0.3.16", "cache-type-k", "q9", false),
            ("2025-08-py0.3.16", "split-mode", "tensor", false),
            ("2025-08-py0.3.16", "reasoning-format", "auto", true),
            ("b11669-debian", "split-mode", "tensor", true),
            ("b11669-debian", "split-mode", "rows", false),
            ("b11669-debian", "cache-type-v", "q5_1", true),
            ("b11669-debian", "cache-type-v", "q9", false),
            ("b11669-debian", "cache-type-k-draft", "q9", false),
            ("b11669-debian", "flash-attn", "maybe", false),
            ("b11669-debian", "flash-attn", "enabled", true),
            ("b11669-debian", "flash-attn", "auto", true),
            ("b11669-debian", "fit", "auto", false),
            ("b11669-debian", "fit", "1", true),
            ("b11669-debian", "cpu-strict", "on", false),
            ("b11669-debian", "poll", "50", true),
            ("b11669-debian", "load-mode", "mmap+mlock", true),
            ("b11669-debian", "load-mode", "fast", false),
            ("b11669-debian", "lazy-mode", "auto", true),
            ("b11669-debian", "numa", "numactl", true),
            ("b11669-debian", "numa", "yes", false),
            ("b11669-debian", "pooling", "last", true),
            ("b11669-debian", "pooling", "first", false),
            ("b11669-debian", "rope-scaling", "linear", true),
            ("b11669-debian", "reasoning-format", "auto", true),
            ("b11669-debian", "reasoning-format", "deepseek", true),
            ("b11669-debian", "reasoning-format", "markdown", false),
            ("b11669-debian", "spec-type", "ngram-mod,draft-mtp", true),
            ("b11669-debian", "spec-type", "ngram-mod,magic", false),
            ("b11669-debian", "device", "CUDA0", true),
            ("b11669-debian", "tensor-split", "3,1", true),
            ("b11669-debian", "tools", "all", true),
            ("b11669-debian", "chat-template", "anything", true),
            ("b11669-debian", "log-verbosity", "4", true),
            ("b11669-debian", "reasoning-effort", "high", true),
        ];
        for (build, name, value, taken) in cases {
            let list = OptionList::parse(&fixtures::help(build));
            assert_eq!(list.doubt_of(name, value).is_none(), taken, "{build} --{name} {value}");
        }
    }
}
