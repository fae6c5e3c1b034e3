//! Warns about environment variables that look as if they set something and do not.

use crate::problem::{ConfigProblem, Location};
use llama_warden_config_source::DEFAULT_TOML;
use llama_warden_config_source::Environment;
use llama_warden_located_toml::suggestion;

/// What all variables of this program begin with.
const PREFIX: &str = "LLAMA_WARDEN_";

/// Variables that the program reads, beside those that override a key.
const READ: [&str; 4] = ["LLAMA_WARDEN_CONFIG", "LLAMA_WARDEN_ADDRESS", "LLAMA_WARDEN_LOG", "LLAMA_WARDEN_LOG_FORMAT"];

/// Variables that the daemon sets for servers, and those of the tests.
const SET: [&str; 2] = ["LLAMA_WARDEN_LAUNCH", "LLAMA_WARDEN_TEST_"];

/// Set for each command of a hook, which gets further variables and may run this program.
const HOOK: &str = "LLAMA_WARDEN_HOOK";

/// A warning for each variable that begins like ours and that nothing reads, such as `LLAMA_WARDEN_STOP_GRACE`.
pub(super) fn unread(environment: &Environment) -> Vec<ConfigProblem> {
    if environment.get(HOOK).is_some() {
        return Vec::new();
    }
    let overrides = overrides();
    let names = environment.iter().filter_map(|(name, _)| name.to_str());
    // A name with two underscores is an override, which is an error where it names no key.
    let ours = names.filter(|name| name.strip_prefix(PREFIX).is_some_and(|rest| !rest.contains("__")));
    let unread = ours.filter(|name| !READ.contains(name) && !SET.iter().any(|set| name.starts_with(set)));
    let warning = |name: &str| {
        let meant = overrides.iter().find(|known| known.replace("__", "_") == name);
        let known = READ.into_iter().chain(["LLAMA_WARDEN_<SECTION>__<KEY>"]);
        let help = match meant {
            Some(meant) => Some(format!("two underscores part section and key: {meant}")),
            None => suggestion(name, known),
        };
        let location = Location::Variable(name.into());
        ConfigProblem::warning(&location, "no variable of this name is read", help.unwrap_or_default())
    };
    unread.map(warning).collect()
}

/// The variables that override a key which has a default.
fn overrides() -> Vec<String> {
    let defaults: toml::Table = DEFAULT_TOML.parse().unwrap_or_default();
    let sections = defaults.iter().filter_map(|(section, keys)| Some((section, keys.as_table()?)));
    let names = sections.flat_map(|(section, keys)| keys.keys().map(move |key| format!("{PREFIX}{section}__{key}")));
    names.map(|name| name.to_ascii_uppercase().replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(variables: &[(&str, &str)]) -> Vec<String> {
        let warnings = unread(&variables.iter().copied().collect());
        warnings.iter().map(|warning| format!("{warning}; {}", warning.help.clone().unwrap_or_default())).collect()
    }

    #[test]
    fn a_variable_that_nothing_reads_is_warned_of_with_the_name_that_was_meant() {
        let cases = [
            ("LLAMA_WARDEN_STOP_GRACE", "two underscores part section and key: LLAMA_WARDEN_STOP__GRACE"),
            (
                "LLAMA_WARDEN_LLAMA_SERVER_FIRST_PORT",
                "two underscores part section and key: LLAMA_WARDEN_LLAMA_SERVER__FIRST_PORT",
            ),
            ("LLAMA_WARDEN_LOGLEVEL", "did you mean `LLAMA_WARDEN_LOG`?"),
        ];
        for (name, help) in cases {
            assert_eq!(warned(&[(name, "x")]), [format!("{name}: no variable of this name is read; {help}")]);
        }
        let far = warned(&[("LLAMA_WARDEN_PORT", "1")]);
        assert!(far[0].contains("LLAMA_WARDEN_"), "{far:?}");
    }

    #[test]
    fn what_is_read_and_what_the_daemon_sets_itself_is_not_warned_of() {
        let read = READ.map(|name| (name, "x"));
        assert_eq!(warned(&read), [""; 0]);
        assert_eq!(warned(&[("LLAMA_WARDEN_LAUNCH", "x"), ("LLAMA_WARDEN_STOP__GRACE", "1s")]), [""; 0]);
        assert_eq!(warned(&[(HOOK, "post-ready"), ("LLAMA_WARDEN_PORT", "1")]), [""; 0]);
    }
}
