//! Builds the environment of a child: inherited names, names that are never inherited, and additions.
//!
//! Inherited `LLAMA_*` variables change how a server behaves; `LLAMA_SERVER_ROUTER_PORT` even makes TERM hang for ever
//! (measured). So this is a list of allowed names, and some names are refused even if the user allows them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::launch_tag::{LAUNCH_TAG_VARIABLE, LaunchTag};

/// Names that every child inherits, as globs: the user's session, the loader, devices and their libraries, mathematical libraries,
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
