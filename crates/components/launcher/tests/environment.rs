//! The environment of a child.

#![expect(clippy::expect_used, reason = "helpers of tests are no tests to the lint")]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use llama_warden_events::{BootId, Incarnation, ServerId};
use llama_warden_launcher::{EnvironmentPolicy, LAUNCH_TAG_VARIABLE, LaunchTag, child_environment};

/// Set in every child.
const NO_BACKTRACE: &str = "GGML_NO_BACKTRACE";

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
        "ZE_AFFINITY_MASK",
        "ZES_ENABLE_SYSMAN",
        "GPU_DEVICE_ORDINAL",
        "MUSA_VISIBLE_DEVICES",
        "ASCEND_RT_VISIBLE_DEVICES",
        "MESA_VK_DEVICE_SELECT",
        "AMD_VULKAN_ICD",
        "RADV_PERFTEST",
        "DRI_PRIME",
        "MTMD_BACKEND_DEVICE",
        "HF_HUB_CACHE",
        "HF_ENDPOINT",
        "KMP_AFFINITY",
        "MKL_NUM_THREADS",
        "ROCBLAS_USE_HIPBLASLT",
        "NCCL_P2P_DISABLE",
        "LD_PRELOAD",
        "LOCALE_ARCHIVE",
        "CURL_CA_BUNDLE",
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
