//! Builds the environment of a child: inherited names, names that are never inherited, and additions.
//!
//! Inherited `LLAMA_*` variables change how a server behaves; `LLAMA_SERVER_ROUTER_PORT` even makes TERM hang for ever
//! (measured). So this is a list of allowed names, and some names are refused even if the user allows them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::launch_tag::{LAUNCH_TAG_VARIABLE, LaunchTag};

/// Names that every child inherits, as [`is_named`] reads them: the user's session, the loader, devices and their libraries, mathematical libraries,
/// models and their caches, proxies and certificates.
const INHERITED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_*",
    "TZ",
    "TMPDIR",
    "XDG_*",
    "LOCALE_ARCHIVE",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "CUDA_*",
    "NVIDIA_*",
    "NCCL_*",
    "HIP_*",
    "ROCR_*",
    "HSA_*",
    "ROCBLAS_*",
    "RCCL_*",
    "GPU_DEVICE_ORDINAL",
    "GGML_*",
    "MTMD_*",
    "OMP_*",
    "GOMP_*",
    "KMP_*",
    "MKL_*",
    "OPENBLAS_*",
    "BLIS_*",
    "VK_*",
    "MESA_VK_*",
    "AMD_VULKAN_*",
    "RADV_*",
    "ANV_*",
    "DRI_PRIME",
    "ONEAPI_*",
    "ONEDNN_*",
    "SYCL_*",
    "ZE_*",
    "ZES_*",
    "OCL_*",
    "MUSA_*",
    "ASCEND_*",
    "HF_HOME",
    "HF_HUB_*",
    "HF_ENDPOINT",
    "LLAMA_CACHE",
    "SSL_CERT_*",
    "CURL_CA_BUNDLE",
    "*_PROXY",
    "*_proxy",
];

/// Names that no child inherits, even if `env-pass` matches them.
const NEVER_INHERITED: &[&str] =
    &["LLAMA_ARG_*", "LLAMA_SERVER_*", "LLAMA_API_KEY", "HF_TOKEN", "AIP_*", "NOTIFY_SOCKET", "WATCHDOG_*", "LISTEN_*"];

/// Stops a build that aborts from running gdb on itself, which takes 1.5 s (measured).
const NO_BACKTRACE: &str = "GGML_NO_BACKTRACE";

/// All variables of a child.
pub type ChildEnvironment = BTreeMap<OsString, OsString>;

/// The settings of one server about its environment.
#[derive(Debug, Clone, Copy)]
pub struct EnvironmentPolicy<'a> {
    /// Further names to inherit, as globs.
    pub pass: &'a [String],
    /// Variables to set; they win over inherited ones.
    pub set: &'a BTreeMap<String, String>,
}

/// The environment of a child: the allowed part of `inherited`, then the variables that `policy` sets, then the tag.
///
/// # Errors
/// If an entry of `policy.pass` is not a glob.
pub fn child_environment(
    inherited: impl IntoIterator<Item = (OsString, OsString)>,
    policy: EnvironmentPolicy<'_>,
    tag: Option<&LaunchTag>,
) -> Result<ChildEnvironment, globset::Error> {
    let passed = globs(policy.pass)?;
    let is_allowed = |name: &OsStr| is_named(name, INHERITED) || passed.is_match(name);
    let may_pass = |name: &OsStr| name != LAUNCH_TAG_VARIABLE && is_allowed(name) && !is_named(name, NEVER_INHERITED);

    let mut environment: ChildEnvironment = inherited.into_iter().filter(|(name, _)| may_pass(name)).collect();
    environment.insert(NO_BACKTRACE.into(), "1".into());
    environment.extend(policy.set.iter().map(|(name, value)| (name.into(), value.into())));
    if let Some(tag) = tag {
        environment.insert(LAUNCH_TAG_VARIABLE.into(), tag.value().into());
    }
    Ok(environment)
}

/// Whether a name is one of these, of which each may have a star as its first or as its last character. Without a set of globs, which
/// takes longer to make than a launch has time.
fn is_named(name: &OsStr, names: &[&str]) -> bool {
    let name = name.as_bytes();
    names.iter().any(|known| match (known.strip_suffix('*'), known.strip_prefix('*')) {
        (Some(beginning), _) => name.starts_with(beginning.as_bytes()),
        (None, Some(end)) => name.ends_with(end.as_bytes()),
        (None, None) => name == known.as_bytes(),
    })
}

fn globs(globs: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(Glob::new(glob)?);
    }
    set.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_have_a_star_at_one_end_at_most() {
        for name in INHERITED.iter().chain(NEVER_INHERITED) {
            let stars = name.matches('*').count();
            assert!(stars == 0 || (stars == 1 && (name.starts_with('*') || name.ends_with('*'))), "{name}");
            assert!(!name.contains(['?', '[', '{', '\\']), "{name}");
        }
        let is_inherited = |name: &str| is_named(OsStr::new(name), INHERITED);
        assert!(["PATH", "LC_ALL", "LC_", "http_proxy", "CUDA_VISIBLE_DEVICES"].into_iter().all(is_inherited));
        assert!(!["PATHS", "XPATH", "proxy", "ALC_X", ""].into_iter().any(is_inherited));
    }
}
