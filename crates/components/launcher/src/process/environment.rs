//! The environment of a child: what it inherits, what it never does, and what is added.
//!
//! Inherited `LLAMA_*` variables change how a server behaves; `LLAMA_SERVER_ROUTER_PORT` even makes TERM hang for ever
//! (measured). So names are allowed, not forbidden, and some are not even allowed when the user names them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::launch_tag::{LAUNCH_TAG_VARIABLE, LaunchTag};

/// Names that every child inherits, as globs.
const INHERITED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_*",
    "TZ",
    "TMPDIR",
    "XDG_*",
    "LD_LIBRARY_PATH",
    "CUDA_*",
    "NVIDIA_*",
    "HIP_*",
    "ROCR_*",
    "HSA_*",
    "GGML_*",
    "OMP_*",
    "GOMP_*",
    "VK_*",
    "ONEAPI_*",
    "SYCL_*",
    "HF_HOME",
    "LLAMA_CACHE",
    "SSL_CERT_*",
    "*_PROXY",
    "*_proxy",
];

/// Names that no child inherits, whatever else matches.
const NEVER_INHERITED: &[&str] =
    &["LLAMA_ARG_*", "LLAMA_SERVER_*", "LLAMA_API_KEY", "HF_TOKEN", "AIP_*", "NOTIFY_SOCKET", "WATCHDOG_*", "LISTEN_*"];

/// Keeps a build that aborts from running gdb on itself for 1.5 s (measured).
const NO_BACKTRACE: &str = "GGML_NO_BACKTRACE";

/// A whole environment.
pub type ChildEnvironment = BTreeMap<OsString, OsString>;

/// What is special about one server's environment.
#[derive(Debug, Clone, Copy)]
pub struct EnvironmentPolicy<'a> {
    /// More names to inherit, as globs.
    pub pass: &'a [String],
    /// Set as they are, over everything inherited.
    pub set: &'a BTreeMap<String, String>,
}

/// The environment of a child: of `inherited` what may pass, then what `policy` sets, then the tag.
///
/// # Errors
/// If a name in `policy.pass` is not a glob.
pub fn child_environment(
    inherited: impl IntoIterator<Item = (OsString, OsString)>,
    policy: EnvironmentPolicy<'_>,
    tag: Option<&LaunchTag>,
) -> Result<ChildEnvironment, globset::Error> {
    let allowed = names(INHERITED.iter().copied().chain(policy.pass.iter().map(String::as_str)))?;
    let forbidden = names(NEVER_INHERITED.iter().copied())?;
    let may_pass = |name: &OsStr| name != LAUNCH_TAG_VARIABLE && allowed.is_match(name) && !forbidden.is_match(name);

    let mut environment: ChildEnvironment = inherited.into_iter().filter(|(name, _)| may_pass(name)).collect();
    environment.insert(NO_BACKTRACE.into(), "1".into());
    environment.extend(policy.set.iter().map(|(name, value)| (name.into(), value.into())));
    if let Some(tag) = tag {
        environment.insert(LAUNCH_TAG_VARIABLE.into(), tag.value().into());
    }
    Ok(environment)
}

fn names<'a>(globs: impl IntoIterator<Item = &'a str>) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(Glob::new(glob)?);
    }
    set.build()
}

#[cfg(test)]
mod tests {
    use llama_warden_events::{BootId, Incarnation, ServerId};

    use super::*;

    fn child(inherited: &[(&str, &str)], pass: &[&str], set: &[(&str, &str)]) -> BTreeMap<String, String> {
        let inherited = inherited.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let pass: Vec<String> = pass.iter().map(|name| (*name).to_owned()).collect();
        let set = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let environment =
            child_environment(inherited, EnvironmentPolicy { pass: &pass, set: &set }, None).expect("valid globs");
        let text = |text: OsString| text.into_string().expect("text");
        environment.into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn exactly_the_documented_names_are_inherited() {
        let inherited = [
            "PATH",
            "HOME",
            "USER",
            "LANG",
            "LC_ALL",
            "TZ",
            "TMPDIR",
            "XDG_RUNTIME_DIR",
            "LD_LIBRARY_PATH",
            "CUDA_VISIBLE_DEVICES",
            "NVIDIA_X",
            "HIP_X",
            "ROCR_X",
            "HSA_X",
            "GGML_X",
            "OMP_NUM_THREADS",
            "GOMP_X",
            "VK_X",
            "ONEAPI_X",
            "SYCL_X",
            "HF_HOME",
            "LLAMA_CACHE",
            "SSL_CERT_FILE",
            "HTTPS_PROXY",
            "no_proxy",
        ];
        let not = [
            "LLAMA_ARG_MMAP",
            "LLAMA_SERVER_ROUTER_PORT",
            "LLAMA_API_KEY",
            "HF_TOKEN",
            "AIP_MODE",
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "LISTEN_FDS",
            "SECRET",
            "LD_PRELOAD",
            "PATHS",
            "MY_HOME",
            "Http_Proxy",
            "LLAMA_WARDEN_CONFIG",
            LAUNCH_TAG_VARIABLE,
        ];
        let all: Vec<(&str, &str)> = inherited.iter().chain(&not).map(|name| (*name, "x")).collect();
        let mut expected: Vec<&str> = inherited.into_iter().chain([NO_BACKTRACE]).collect();
        expected.sort_unstable();
        assert_eq!(child(&all, &[], &[]).into_keys().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_never_inherited_does_not_pass_by_name_either() {
        let inherited = [("HF_TOKEN", "x"), ("LLAMA_ARG_MMAP", "x"), ("MY_A", "x"), ("MY_B", "x"), ("OTHER", "x")];
        let environment = child(&inherited, &["*TOKEN", "LLAMA_*", "MY_*"], &[]);
        assert_eq!(environment.into_keys().collect::<Vec<_>>(), [NO_BACKTRACE, "MY_A", "MY_B"]);
    }

    #[test]
    fn what_the_user_sets_wins() {
        let environment =
            child(&[("PATH", "inherited")], &[], &[("PATH", "set"), (NO_BACKTRACE, "0"), ("HF_TOKEN", "mine")]);
        let expected = [(NO_BACKTRACE, "0"), ("HF_TOKEN", "mine"), ("PATH", "set")];
        assert_eq!(environment, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn a_launch_is_marked_and_a_marker_is_never_inherited() {
        let server = ServerId::new("qwen3").expect("valid");
        let tag = LaunchTag::new(&BootId::from_random(0xabc), &server, Incarnation::new(2));
        let policy = EnvironmentPolicy { pass: &[LAUNCH_TAG_VARIABLE.to_owned()], set: &BTreeMap::new() };
        let outer = (OsString::from(LAUNCH_TAG_VARIABLE), OsString::from("outer"));
        let untagged = child_environment([outer.clone()], policy, None).expect("valid globs");
        assert_eq!(untagged.get(OsStr::new(LAUNCH_TAG_VARIABLE)), None);
        let tagged = child_environment([outer], policy, Some(&tag)).expect("valid globs");
        assert_eq!(tagged[OsStr::new(LAUNCH_TAG_VARIABLE)], "0000000000000abc/qwen3/2");
    }

    #[test]
    fn a_bad_glob_is_an_error() {
        let pass = ["[".to_owned()];
        let policy = EnvironmentPolicy { pass: &pass, set: &BTreeMap::new() };
        assert!(child_environment([], policy, None).is_err());
    }
}
