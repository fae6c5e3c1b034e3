//! Commands in texts for people: words that a shell takes as they are, and the options that lead to the same daemon.

use std::path::PathBuf;
use std::sync::OnceLock;

use llama_warden_support::{naming_program, program_name};

/// Commands that read a configuration and ask no daemon.
const WITHOUT_DAEMON: [&str; 6] = ["up", "check", "config", "models", "detector", "dialect"];

/// Commands that read no configuration either.
const WITHOUT_CONFIGURATION: [&str; 4] = ["demo", "schema", "completions", "version"];

/// The options by which this command finds its daemon. A command that it advises needs them too.
#[derive(Debug, Default)]
pub struct AdvisedOptions {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--address`.
    pub address: Option<String>,
    /// `--token-file`.
    pub token_file: Option<PathBuf>,
}

static OPTIONS: OnceLock<AdvisedOptions> = OnceLock::new();

/// Sets the options of every command that is advised from now on. Only the first call counts.
pub fn set_options(options: AdvisedOptions) {
    let _ = OPTIONS.set(options);
}

/// A text in which each command in backquotes, such as `` `llama-warden status` ``, names this program and has the options of this command.
pub fn with_options(text: &str) -> String {
    let text = naming_program(text.to_owned());
    match OPTIONS.get() {
        Some(options) => options.complete(&text),
        None => text,
    }
}

/// A command as a person types it, with the options of this command.
pub fn command(words: &str) -> String {
    format!("{} {words}{}", program_name(), OPTIONS.get().map_or_else(String::new, |options| options.behind(words)))
}

impl AdvisedOptions {
    fn complete(&self, text: &str) -> String {
        let command = format!("`{} ", program_name());
        let mut parts = text.split(&command);
        let mut completed = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (words, rest) = part.split_at(part.find('`').unwrap_or_default());
            completed.push_str(&format!("{command}{words}{}{rest}", self.behind(words)));
        }
        completed
    }

    /// What follows the words of a command. One that says itself what it reads, or where it writes, stays as it is.
    fn behind(&self, words: &str) -> String {
        let verb = words.split(' ').next().unwrap_or_default();
        let is_whole = ["--config", "--address", "<", ">"].iter().any(|part| words.contains(part));
        if verb.is_empty() || is_whole || WITHOUT_CONFIGURATION.contains(&verb) {
            return String::new();
        }
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        let asks_daemon = !WITHOUT_DAEMON.contains(&verb);
        let options = [
            ("--config", self.config.as_ref().map(path)),
            ("--address", self.address.clone().filter(|_| asks_daemon)),
            ("--token-file", self.token_file.as_ref().map(path).filter(|_| asks_daemon)),
        ];
        let options = options.into_iter().filter_map(|(name, value)| Some(format!(" {name} {}", shell_word(&value?))));
        options.collect()
    }
}

/// A word as a shell takes it: quoted where it has to be.
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else if word.contains(char::is_control) {
        // A terminal would obey it, and the shells take the escape of bash and zsh for it.
        let escaped = |c: char| match c {
            '\'' | '\\' => format!("\\{c}"),
            c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        };
        format!("$'{}'", word.chars().map(escaped).collect::<String>())
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_as_a_shell_takes_it() {
        for (word, shown) in [
            ("/opt/llama-server", "/opt/llama-server"),
            ("", "''"),
            ("it's", r"'it'\''s'"),
            ("it's \x1b]0;x\u{9b}", "$'it\\'s \\u001b]0;x\\u009b'"),
        ] {
            assert_eq!(shell_word(word), shown);
        }
    }

    #[test]
    fn a_command_that_is_advised_leads_to_the_same_daemon() {
        let options = AdvisedOptions {
            config: Some("my files/x.toml".into()),
            address: Some("http://10.0.0.1:9888".to_owned()),
            token_file: Some("/etc/token".into()),
        };
        let config = " --config 'my files/x.toml'";
        let all = format!("{config} --address http://10.0.0.1:9888 --token-file /etc/token");
        for (text, expected) in [
            ("see `llama-warden status`, it's `a`", format!("see `llama-warden status{all}`, it's `a`")),
            (
                "`llama-warden logs a` or `llama-warden argv a`",
                format!("`llama-warden logs a{all}` or `llama-warden argv a{all}`"),
            ),
            ("`llama-warden check`", format!("`llama-warden check{config}`")),
            ("start it with `llama-warden up`", format!("start it with `llama-warden up{config}`")),
            ("`llama-warden schema openapi`", "`llama-warden schema openapi`".to_owned()),
            (
                "`llama-warden config init > llama-warden.toml`",
                "`llama-warden config init > llama-warden.toml`".to_owned(),
            ),
            ("`llama-warden up --config FILE`", "`llama-warden up --config FILE`".to_owned()),
            ("no `llama-warden ", "no `llama-warden ".to_owned()),
            ("llama-warden status", "llama-warden status".to_owned()),
        ] {
            assert_eq!(options.complete(text), expected);
            assert_eq!(AdvisedOptions::default().complete(text), text);
        }
    }
}
