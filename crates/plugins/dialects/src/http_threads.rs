//! Fewer threads for HTTP than a build needs that makes no more of them.
//!
//! Each open connection takes a thread, and without a free one `/health` waits until a request ends: a ready server is taken for a dead one.
//! By itself a build takes two more than it has slots (measured on builds from 2023-12 to 2025-08). Since pull request 20817 of llama.cpp,
//! which is of 2026-03-23, a server makes up to 1024 more as it needs them.

use llama_warden_config::{FlagValue, Flags, ServerSpec, WrittenAt, written_options};

use crate::option_error::OptionError;
use crate::profile::BinaryProfile;

/// The option, and the variable of the same.
const THREADS: Setting<'static> = Setting { names: &["threads-http"], variable: "LLAMA_ARG_THREADS_HTTP" };

/// How many requests a server works on at a time.
const SLOTS: Setting<'static> = Setting { names: &["parallel", "np"], variable: "LLAMA_ARG_N_PARALLEL" };

/// Builds below this number are of before the change.
const FIXED_BELOW: u64 = 8400;

/// An option of December 2025. Builds that print no number of their own are of before the change where they do not list it.
const LISTED_SINCE_2025_12: &str = "sleep-idle-seconds";

struct Setting<'a> {
    names: &'a [&'a str],
    variable: &'a str,
}

impl Setting<'_> {
    /// Its number, and where it is written.
    fn of(&self, server: &ServerSpec, flags: &Flags) -> Option<(u64, WrittenAt)> {
        let option = written_options(&server.args).rev().find(|option| self.names.contains(&option.name.as_str()));
        if let Some(option) = option {
            return Some((option.value?.parse().ok()?, WrittenAt::Argument(option.index)));
        }
        if let Some((name, flag)) = self.names.iter().find_map(|name| flags.get_key_value(*name)) {
            let number = match &flag.value {
                FlagValue::Integer(number) => u64::try_from(*number).ok(),
                FlagValue::Text(text) => text.parse().ok(),
                _ => None,
            };
            return Some((number?, WrittenAt::Flag(name.clone())));
        }
        Some((server.env.get(self.variable)?.parse().ok()?, WrittenAt::Variable(self.variable.to_owned())))
    }
}

/// The doubt about the number of threads of `server`, where the build is known to make no more. `flags` have the names that it takes.
pub(crate) fn doubt(server: &ServerSpec, flags: &Flags, binary: &BinaryProfile) -> Option<OptionError> {
    let (threads, at) = THREADS.of(server, flags).filter(|(threads, _)| *threads > 0)?;
    let slots = SLOTS.of(server, flags).map_or(1, |(slots, _)| slots.max(1));
    let needed = slots.saturating_add(2);
    if threads >= needed || !makes_no_more(binary) {
        return None;
    }
    let detail = format!(
        "this build makes no more threads than these, and each open connection takes one: with {slots} of `parallel`, `/health` does not \
         answer while as many requests run; leave the option out, or set {needed}"
    );
    Some(OptionError::new(THREADS.names[0], detail).at(at))
}

/// Whether the build is known to be of before the change.
fn makes_no_more(binary: &BinaryProfile) -> bool {
    match binary.version.build {
        Some(build @ 2..) => build < FIXED_BELOW,
        _ => binary.options.as_ref().is_some_and(|options| !options.lists(LISTED_SINCE_2025_12)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fixtures::{self, user_flag};
    use crate::help::OptionList;
    use crate::profile::BuildVersion;

    fn binary(build: Option<u64>, help: &str) -> BinaryProfile {
        let version = BuildVersion { build, commit: None };
        BinaryProfile::new("/opt/llama-server".into(), version, Some(OptionList::parse(&fixtures::help(help))))
    }

    /// The doubt about a server with these flags and arguments.
    fn doubt_of(flags: &[(&str, i64)], args: &[&str], binary: &BinaryProfile) -> Option<OptionError> {
        let mut server = fixtures::server("a");
        let flags = flags.iter().map(|(name, value)| ((*name).to_owned(), user_flag(FlagValue::Integer(*value))));
        Arc::make_mut(&mut server.flags).extend(flags);
        server.args = args.iter().map(|argument| (*argument).to_owned()).collect();
        doubt(&server, &server.flags, binary)
    }

    #[test]
    fn a_build_with_a_fixed_number_of_threads_needs_two_more_than_slots() {
        let old = binary(Some(1), "2025-08-py0.3.16");
        for (flags, args) in [
            (&[("threads-http", 2)][..], &[][..]),
            (&[("threads-http", 5), ("parallel", 4)], &[]),
            (&[("threads-http", 16), ("parallel", 4)], &["--threads-http", "4"]),
            (&[("threads-http", 5), ("parallel", 1)], &["-np", "4"]),
        ] {
            assert!(doubt_of(flags, args, &old).is_some(), "{flags:?} {args:?}");
        }
        for (flags, args) in [
            (&[][..], &[][..]),
            (&[("threads-http", 3)], &[]),
            (&[("threads-http", -1), ("parallel", 4)], &[]),
            (&[("threads-http", 6), ("parallel", 4)], &[]),
            (&[("threads-http", 2)], &["--threads-http", "6", "--parallel", "4"]),
        ] {
            assert_eq!(doubt_of(flags, args, &old), None, "{flags:?} {args:?}");
        }
    }

    #[test]
    fn the_doubt_stands_where_the_number_is_written_and_says_which_would_do() {
        let old = binary(Some(1), "2024-11-py0.3.2");
        let by_flag = doubt_of(&[("threads-http", 2), ("parallel", 4)], &[], &old).expect("a doubt");
        assert_eq!(by_flag.at, WrittenAt::Flag("threads-http".to_owned()));
        let (message, help) = by_flag.parts();
        assert!(message.contains("with 4 of `parallel`"), "{message}");
        assert_eq!(help, Some("leave the option out, or set 6"));
        let by_argument = doubt_of(&[], &["-v", "--threads-http", "2"], &old).expect("a doubt");
        assert_eq!(by_argument.at, WrittenAt::Argument(1));
    }

    #[test]
    fn a_build_that_makes_more_threads_or_might_is_not_doubted() {
        for (build, help, is_doubted) in [
            (Some(4000), "b11669-debian", true),
            (Some(9093), "2025-08-py0.3.16", false),
            (Some(11669), "b11669-debian", false),
            (Some(1), "b11669-debian", false),
            (None, "2024-07-py0.2.80", true),
        ] {
            let doubt = doubt_of(&[("threads-http", 2)], &[], &binary(build, help));
            assert_eq!(doubt.is_some(), is_doubted, "{build:?} {help}");
        }
        let unread = BinaryProfile::unknown("/opt/llama-server".into());
        assert_eq!(doubt_of(&[("threads-http", 2)], &[], &unread), None);
    }
}
