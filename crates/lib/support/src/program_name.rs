//! The name of the program that runs, in the commands that texts advise: others compile llama-warden into programs of their own.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::OnceLock;

/// The name in texts as they are written.
const WRITTEN: &str = "llama-warden";

static NAME: OnceLock<String> = OnceLock::new();

/// Sets the name to that of the file under which this process was called. Only the first call counts.
pub fn set_program_name(called: Option<&OsStr>) {
    if let Some(name) = called.and_then(|called| Path::new(called).file_name()?.to_str()) {
        let _ = NAME.set(name.to_owned());
    }
}

/// The name of this program.
pub fn program_name() -> &'static str {
    NAME.get().map_or(WRITTEN, String::as_str)
}

/// A text in which each command in backquotes, such as `` `llama-warden status` ``, names this program.
pub fn naming_program(text: String) -> String {
    let name = program_name();
    if name == WRITTEN { text } else { renamed(&text, name) }
}

fn renamed(text: &str, name: &str) -> String {
    text.replace(&format!("`{WRITTEN} "), &format!("`{name} "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_commands_are_renamed() {
        let text = "llama-warden is up; see `llama-warden status`, `llama-warden.toml` or `llama-warden logs -f`";
        let expected = "llama-warden is up; see `pager status`, `llama-warden.toml` or `pager logs -f`";
        assert_eq!(renamed(text, "pager"), expected);
        assert_eq!(naming_program(text.to_owned()), text, "of a program that has set no name");
    }
}
