//! What `config` has for containers and systemd, checked by the tools of both.

use std::fs;
use std::path::{Path, PathBuf};

use llama_warden_tests::{ExternalProgram, ProgramRun, daemon_program, external_program, sandbox};

/// A folder below `config`.
pub fn config(folder: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../config").join(folder)
}

#[test]
fn hadolint_finds_nothing_in_the_dockerfile() {
    let Some(hadolint) = external_program(ExternalProgram::Hadolint) else { return };
    sandbox(async |sandbox| {
        let mut command = sandbox.program(&hadolint);
        let output = command.arg(config("docker/Dockerfile")).output().await.expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    });
}

#[test]
fn docker_compose_accepts_the_file_with_and_without_gpus() {
    let Some(compose) = external_program(ExternalProgram::DockerCompose) else { return };
    sandbox(async |sandbox| {
        for files in [&["compose.yaml"][..], &["compose.yaml", "compose.nvidia.yaml"]] {
            let mut command = sandbox.program(&compose);
            command.env("GRAFANA_PASSWORD", "secret").env_remove("DOCKER_HOST");
            for file in files {
                command.arg("-f").arg(config("docker").join(file));
            }
            let output = ProgramRun::to_end({
                command.args(["config", "--format", "json"]);
                command
            })
            .await
            .expect(0);
            let project = output.json();
            // A mount of something that does not exist would become an empty folder in the container.
            for service in ["prometheus", "alertmanager", "grafana"] {
                for volume in project["services"][service]["volumes"].as_array().expect("volumes") {
                    let is_bind = volume["type"] == "bind";
                    let source = volume["source"].as_str().expect("a source");
                    assert!(!is_bind || Path::new(source).exists(), "{service} mounts {source}");
                }
            }
            let has_gpu = !project["services"]["llama-warden"]["deploy"]["resources"]["reservations"].is_null();
            assert_eq!(has_gpu, files.len() == 2);
        }
    });
}

#[test]
fn yamllint_finds_nothing() {
    let Some(yamllint) = external_program(ExternalProgram::Yamllint) else { return };
    sandbox(async |sandbox| {
        let mut command = sandbox.program(&yamllint);
        command.arg("--strict").arg("--config-file").arg(config(".yamllint.yaml")).arg(config(""));
        let run = ProgramRun::to_end(command).await;
        assert_eq!((run.code(), run.stdout.as_str()), (0, ""));
    });
}

/// The sections that Podman takes out of a quadlet become a command; the rest is a unit, which systemd checks.
#[test]
fn systemd_accepts_what_podman_leaves_of_the_quadlet() {
    let Some(analyze) = external_program(ExternalProgram::SystemdAnalyze) else { return };
    sandbox(async |sandbox| {
        let text = fs::read_to_string(config("docker/llama-warden.container")).expect("a quadlet");
        let (before, rest) = text.split_once("[Container]").expect("a container");
        let (container, service) = rest.split_once("[Service]").expect("a service");
        let program = daemon_program();
        let unit = format!("{before}[Service]\nType=notify\nExecStart={} up\n{service}", program.display());
        let path = sandbox.file("llama-warden.service");
        fs::write(&path, unit).expect("written");
        let verified = sandbox.program(&analyze).arg("verify").arg(&path).output().await.expect("it runs");
        let remarks = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success() && !remarks.contains("llama-warden"), "{remarks}");
        // The keys of the version of Podman that the file is written for (5.0).
        let known = [
            "Image",
            "ContainerName",
            "Notify",
            "ReadOnly",
            "Tmpfs",
            "NoNewPrivileges",
            "DropCapability",
            "PublishPort",
            "Volume",
            "StopTimeout",
        ];
        for line in container.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let key = line.split('=').next().unwrap_or_default();
            assert!(known.contains(&key), "{key} is no key of a quadlet that the file is meant to have");
        }
    });
}

#[test]
fn systemd_accepts_the_units_and_rates_the_service_at_most_three() {
    let Some(analyze) = external_program(ExternalProgram::SystemdAnalyze) else { return };
    sandbox(async |sandbox| {
        // `verify` looks for the executables of a unit, and this one is not installed.
        let unit = |name: &str| {
            let text = fs::read_to_string(config("systemd").join(name)).expect("a unit");
            let program = daemon_program().display().to_string();
            let path = sandbox.file(name);
            fs::write(&path, text.replace("/usr/local/bin/llama-warden", &program)).expect("written");
            path
        };
        let (service, socket) = (unit("llama-warden.service"), unit("llama-warden.socket"));
        let template = unit("llama-warden@.service");
        let units = [&service, &socket, &template];
        let verified = sandbox.program(&analyze).arg("verify").args(units).output().await.expect("it runs");
        // It also reads the units of this machine, and remarks on them are none of ours.
        let remarks = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success() && !remarks.contains("llama-warden"), "{remarks}");
        let arguments = ["security", "--no-pager", "--offline=true", "--threshold=30"];
        for service in [&service, &template] {
            let rated = sandbox.program(&analyze).args(arguments).arg(service).output().await.expect("it runs");
            assert!(rated.status.success(), "{}", String::from_utf8_lossy(&rated.stdout));
        }
    });
}

/// A hardening of one that the other lacks would go unnoticed.
#[test]
fn the_template_differs_from_the_service_only_in_names() {
    let settings = |name: &str| {
        let text = fs::read_to_string(config("systemd").join(name)).expect("a unit");
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    let (service, template) = (settings("llama-warden.service"), settings("llama-warden@.service"));
    assert_eq!(service.len(), template.len());
    for (one, of_each) in service.iter().zip(&template).filter(|(one, of_each)| one != of_each) {
        let key = |line: &str| line.split('=').next().map(str::to_owned);
        assert_eq!(key(one), key(of_each));
        assert!(of_each.contains("%i"), "{one} is {of_each} in the template");
    }
}
