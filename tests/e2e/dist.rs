//! The archive that `cargo xtask dist` packs, taken as a user takes it.

use std::fs;
use std::path::Path;

use llama_warden_tests::{ProgramRun, Sandbox, daemon_program, sandbox};

/// Packs the program of this build into a folder of the sandbox, and returns the name of the archive.
async fn pack(sandbox: &Sandbox, folder: &str) -> String {
    let mut command = sandbox.program(daemon_program().with_file_name("xtask"));
    for variable in ["CARGO_HOME", "RUSTUP_HOME", "CARGO_MANIFEST_DIR", "CARGO_TARGET_DIR", "HOME"] {
        if let Some(value) = std::env::var_os(variable) {
            command.env(variable, value);
        }
    }
    command.arg("dist").arg("--program").arg(daemon_program()).arg("--out").arg(sandbox.file(folder));
    let run = ProgramRun::to_end(command).await.expect(0);
    let path = Path::new(run.stdout.trim()).to_owned();
    assert!(path.starts_with(fs::canonicalize(sandbox.file(folder)).expect("it exists")), "{}", path.display());
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

#[test]
fn the_archive_has_the_same_bytes_each_time_and_what_is_in_it_runs() {
    sandbox(async |sandbox| {
        let archive = pack(sandbox, "one").await;
        assert_eq!(pack(sandbox, "two").await, archive);
        let bytes = |folder: &str| fs::read(sandbox.file(folder).join(&archive)).expect("an archive");
        assert!(bytes("one") == bytes("two"), "the archives differ");
        let shell = async |script: &str| {
            let mut command = sandbox.program("sh");
            command.args(["-ec", script]).current_dir(sandbox.file("one"));
            ProgramRun::to_end(command).await.expect(0).stdout
        };
        shell(&format!("sha256sum --check --quiet {archive}.sha256 && tar -xzf {archive}")).await;
        let folder = sandbox.file("one").join(archive.strip_suffix(".tar.gz").expect("the name of an archive"));
        for file in [
            "bin/llama-warden",
            "share/man/man1/llama-warden.1",
            "share/man/man1/llama-warden-status.1",
            "share/completions/llama-warden",
            "share/completions/_llama-warden",
            "share/completions/llama-warden.fish",
            "config/default.toml",
            "config/systemd/llama-warden.service",
            "config/prometheus/alerts.yaml",
            "config/grafana/llama-warden.json",
            "config/kubernetes/base/deployment.yaml",
            "docs/runbooks/crashed.md",
            "LICENSE-APACHE",
            "LICENSE-MIT",
        ] {
            assert!(folder.join(file).is_file(), "{file} is missing");
        }
        let third_party = fs::read_to_string(folder.join("THIRD-PARTY.md")).expect("a page");
        assert!(third_party.contains("| tokio | ") && third_party.contains("Permission is hereby granted"));
        let page = fs::read_to_string(folder.join("share/man/man1/llama-warden-status.1")).expect("a page");
        assert!(page.contains(".SH SYNOPSIS") && page.contains("watch"), "{page}");
        // Nothing of where it was packed is in it.
        let completion = fs::read_to_string(folder.join("share/completions/llama-warden")).expect("a script");
        assert!(!completion.contains(&*sandbox.path().to_string_lossy()), "{completion}");
        let program = folder.join("bin/llama-warden");
        let run = async |arguments: &[&str]| {
            let mut command = sandbox.program(&program);
            ProgramRun::to_end({
                command.args(arguments);
                command
            })
            .await
            .expect(0)
        };
        assert!(run(&["version"]).await.stdout.starts_with("llama-warden "));
        let default = folder.join("config/default.toml").display().to_string();
        run(&["--config", &default, "config", "show"]).await;
        let listed = shell(&format!("tar -tvzf {archive}")).await;
        assert!(listed.lines().all(|line| line.contains(" 0/0 ")), "{listed}");
    });
}
