//! Names servers on the command line: by id, or by a glob over ids.

use std::str::FromStr;

use globset::{Glob, GlobMatcher};
use llama_warden_api_types::StatusReport;
use llama_warden_daemon::CommandFailure;
use llama_warden_events::ServerId;

/// An id, or a glob such as `'co*'`.
#[derive(Debug, Clone)]
pub struct ServerSelector {
    text: String,
    glob: GlobMatcher,
}

impl FromStr for ServerSelector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match Glob::new(text) {
            Ok(glob) if !text.is_empty() => Ok(Self { text: text.to_owned(), glob: glob.compile_matcher() }),
            Ok(_) => Err("an id, or a glob such as 'qwen*', has a character at least".to_owned()),
            Err(error) => Err(format!("it is no glob: {}; `*`, `?`, `[a-z]` and `{{a,b}}` are known", error.kind())),
        }
    }
}

impl ServerSelector {
    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it can name one server only.
    pub fn is_id(&self) -> bool {
        ServerId::new(&self.text).is_ok()
    }

    /// Whether it names this server.
    pub fn matches(&self, id: &ServerId) -> bool {
        self.text == id.as_str() || self.glob.is_match(id.as_str())
    }
}

/// The report with only the named servers; with all if none is named.
///
/// # Errors
/// A name means no server.
pub fn keep_named(mut report: StatusReport, selectors: &[ServerSelector]) -> Result<StatusReport, CommandFailure> {
    let ids = || report.servers.iter().map(|server| &server.model_id);
    if let Some(unknown) = selectors.iter().find(|selector| !ids().any(|id| selector.matches(id))) {
        return Err(CommandFailure::unknown_server(&unknown.text, ids().map(ServerId::as_str)));
    }
    if !selectors.is_empty() {
        report.servers.retain(|server| selectors.iter().any(|selector| selector.matches(&server.model_id)));
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_an_id_or_a_glob() {
        let id = |text| ServerId::new(text).expect("valid");
        let selector = |text: &str| text.parse::<ServerSelector>().expect("valid");
        assert!(selector("coder").matches(&id("coder")) && !selector("coder").matches(&id("coder2")));
        for glob in ["co*", "*er", "{coder,embed}", "code?", "c[a-z]der"] {
            assert!(selector(glob).matches(&id("coder")) && !selector(glob).is_id(), "{glob}");
        }
        assert!(!selector("co*").matches(&id("embed")) && selector("a.b-c_d").is_id());
        assert!("".parse::<ServerSelector>().is_err() && "[".parse::<ServerSelector>().is_err());
    }
}
