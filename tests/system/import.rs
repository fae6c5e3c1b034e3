//! `import`: what it prints is a configuration that is checked, started and asked.

use std::fs;

use llama_warden_stand_in::Script;
use llama_warden_tests::{sandbox, stand_in_program};

#[test]
fn a_configuration_of_llama_swap_is_converted_checked_and_started() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("small", Script::default());
        let (model, state) = (fleet.model("small"), sandbox.file("state"));
        let server = sandbox.file("llama-server");
        std::os::unix::fs::symlink(stand_in_program(), &server).unwrap();
        let yaml = format!(
            "models:\n  \"org/small:1b\":\n    cmd: {} --port ${{PORT}} -m {} -c 512\n    aliases: [tiny]\n    ttl: 60\n    \
             proxy: http://127.0.0.1:1\nhooks: {{ on_startup: {{ preload: [tiny] }} }}\n",
            server.display(),
            model.display()
        );
        let file = sandbox.file("config.yaml");
        fs::write(&file, yaml).unwrap();
        let ran = sandbox.run(&fleet.path(), ["import", "llama-swap", &file.to_string_lossy()]).await.expect(0);
        assert!(ran.stderr.contains("models.org/small:1b.proxy"), "{}", ran.stderr);
        assert!(!ran.stderr.contains("to be fixed"), "{}", ran.stderr);
        let daemon = format!("[daemon]\nlisten = \"\"\nstate-dir = {state:?}\n");
        let config = sandbox.file("imported.toml");
        fs::write(&config, ran.stdout.replace("127.0.0.1:8080", "") + &daemon).unwrap();
        sandbox.run(&config, ["check"]).await.expect(0);
        sandbox.run(&config, ["up", "--detach"]).await.expect(0);
        let waited = sandbox.run(&config, ["wait", "org-small-1b", "--timeout", "20s"]).await;
        let status = sandbox.run(&config, ["status"]).await;
        sandbox.run(&config, ["down"]).await.expect(0);
        assert!(waited.expect(0).stdout.contains("org-small-1b") && status.stdout.contains("ready"), "{status:?}");
    });
}

#[test]
fn what_cannot_be_converted_is_a_usage_error_with_its_place() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let config = fleet.write();
        let file = sandbox.file("other");
        for (format, text, said) in [
            ("llama-swap", "models: [unclosed", "no YAML"),
            ("llama-swap", "a: 1", "no `models`"),
            ("router-presets", "[a]\nnonsense", "line 2"),
            ("router-presets", "", "no section"),
        ] {
            fs::write(&file, text).unwrap();
            let ran = sandbox.run(&config, ["import", format, &file.to_string_lossy()]).await.expect(2);
            assert!(ran.stderr.contains(said) && ran.stdout.is_empty(), "{}", ran.stderr);
        }
        let ran = sandbox.run(&config, ["import", "llama-swap", "/nowhere.yaml"]).await.expect(2);
        assert!(ran.stderr.contains("cannot read /nowhere.yaml"), "{}", ran.stderr);
        // Two models with one alias: the second one's is left out and listed.
        fs::write(
            &file,
            "models: { a: { cmd: llama-server -m a, aliases: [x] }, b: { cmd: llama-server -m b, aliases: [x] } }",
        )
        .unwrap();
        let ran = sandbox.run(&config, ["import", "llama-swap", &file.to_string_lossy()]).await.expect(0);
        assert!(ran.stderr.contains("models.b.aliases: x: models.a has this name already"), "{}", ran.stderr);
        assert!(!ran.stderr.contains("to be fixed"), "{}", ran.stderr);
        // What is printed all the same is no configuration.
        fs::write(&file, "[a]\nmodel = a.gguf\n").unwrap();
        let broken = ["import", "router-presets", "--binary", "", &file.to_string_lossy()];
        let ran = sandbox.run(&config, broken).await.expect(2);
        assert!(ran.stderr.contains("to be fixed by hand") && ran.stdout.contains("[[servers]]"), "{}", ran.stderr);
    });
}
