//! Programs of other projects that some tests need, named by environment variables.
//!
//! `cargo xtask test` provides all of them. Without a variable the test is left out and prints a line that says so; with
//! `LLAMA_WARDEN_TEST_ALL` set, a missing program fails the test instead.

use std::path::PathBuf;

/// A program of another project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExternalProgram {
    /// llama-server of a recent llama.cpp.
    LlamaServer,
    /// llama-server as llama-cpp-python 0.3.2 of November 2024 contains it.
    LlamaServer0_3_2,
    /// llama-server as llama-cpp-python 0.3.16 of August 2025 contains it.
    LlamaServer0_3_16,
    /// Prometheus; promtool is in the same folder.
    Prometheus,
    /// Chromium without a window.
    Browser,
    /// hadolint, which checks Dockerfiles.
    Hadolint,
    /// systemd-analyze, which checks units.
    SystemdAnalyze,
    /// Alertmanager; amtool is in the same folder.
    Alertmanager,
    /// jsonnet, which evaluates mixins.
    Jsonnet,
    /// kustomize, which builds manifests from parts.
    Kustomize,
    /// kubernetes-validate, which checks manifests by the schemas of Kubernetes.
    KubernetesValidate,
    /// The list of the npm packages with the schemas of operators, in the folder of these packages.
    KubernetesModels,
    /// Docker Compose as a program of its own.
    DockerCompose,
    /// yamllint, which checks files of YAML.
    Yamllint,
    /// The list of the clients of OpenAI's and Anthropic's interfaces for Python, in the folder of their packages.
    PythonClients,
    /// The list of those for JavaScript.
    NodeClients,
}

impl ExternalProgram {
    /// The variable that names its path, and a description for the line about a test that is left out.
    const fn variable_and_description(self) -> (&'static str, &'static str) {
        match self {
            Self::LlamaServer => ("LLAMA_WARDEN_TEST_LLAMA_SERVER", "a real llama-server"),
            Self::LlamaServer0_3_2 => ("LLAMA_WARDEN_TEST_LLAMA_SERVER_0_3_2", "a llama-server of 2024"),
            Self::LlamaServer0_3_16 => ("LLAMA_WARDEN_TEST_LLAMA_SERVER_0_3_16", "a llama-server of 2025"),
            Self::Prometheus => ("LLAMA_WARDEN_TEST_PROMETHEUS", "a real Prometheus"),
            Self::Browser => ("LLAMA_WARDEN_TEST_BROWSER", "a real browser"),
            Self::Hadolint => ("LLAMA_WARDEN_TEST_HADOLINT", "hadolint"),
            Self::SystemdAnalyze => ("LLAMA_WARDEN_TEST_SYSTEMD_ANALYZE", "systemd-analyze"),
            Self::Alertmanager => ("LLAMA_WARDEN_TEST_ALERTMANAGER", "a real Alertmanager"),
            Self::Jsonnet => ("LLAMA_WARDEN_TEST_JSONNET", "jsonnet"),
            Self::Kustomize => ("LLAMA_WARDEN_TEST_KUSTOMIZE", "kustomize"),
            Self::KubernetesValidate => ("LLAMA_WARDEN_TEST_KUBERNETES_VALIDATE", "kubernetes-validate"),
            Self::KubernetesModels => ("LLAMA_WARDEN_TEST_KUBERNETES_MODELS", "the schemas of operators"),
            Self::DockerCompose => ("LLAMA_WARDEN_TEST_DOCKER_COMPOSE", "Docker Compose"),
            Self::Yamllint => ("LLAMA_WARDEN_TEST_YAMLLINT", "yamllint"),
            Self::PythonClients => ("LLAMA_WARDEN_TEST_PYTHON_CLIENTS", "clients of models for Python"),
            Self::NodeClients => ("LLAMA_WARDEN_TEST_NODE_CLIENTS", "clients of models for JavaScript"),
        }
    }
}

/// Returns the path of an external program, or prints a line and returns `None` where the test has to be left out.
///
/// # Panics
/// If the variable names a file that does not exist, or is not set although `LLAMA_WARDEN_TEST_ALL` is.
pub fn external_program(program: ExternalProgram) -> Option<PathBuf> {
    let (variable, description) = program.variable_and_description();
    let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from) else {
        leave_out(&format!("{description}; run cargo xtask test"));
        return None;
    };
    assert!(path.is_file(), "{variable} names {}, which does not exist", path.display());
    Some(path)
}

/// Returns the path of a shell that this machine has, or prints a line and returns `None` where the test has to be left out.
///
/// # Panics
/// If there is none although `LLAMA_WARDEN_TEST_ALL` is set.
pub fn shell_on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file());
    if found.is_none() {
        leave_out(&format!("{name} on PATH; install {name}"));
    }
    found
}

/// Whether the test runs as root and may change users and mounts; prints a line where it may not and has to be left out.
///
/// # Panics
/// If it does not although `LLAMA_WARDEN_TEST_ALL` is set.
pub fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        leave_out("root");
    }
    is_root
}

fn leave_out(needs: &str) {
    let thread = std::thread::current();
    let missing = format!("{} (needs {needs})", thread.name().unwrap_or("a test"));
    assert!(std::env::var_os("LLAMA_WARDEN_TEST_ALL").is_none(), "left out: {missing}");
    println!("left out: {missing}");
}
