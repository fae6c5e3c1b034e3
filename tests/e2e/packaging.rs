//! What `config` has for containers and systemd, checked by the tools of both.

use std::fs;
use std::path::PathBuf;

use llama_warden_tests::{ExternalProgram, daemon_program, external_program, sandbox};

/// A folder below `config`.
fn config(folder: &str) -> PathBuf {
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
