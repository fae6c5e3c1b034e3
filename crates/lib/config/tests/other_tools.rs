//! What people write who come from another tool gets the next step to take.

#![expect(clippy::unwrap_used, reason = "tests end by panicking")]

use llama_warden_config::{ConfigProblems, ConfigSource, Configuration, Environment};

fn problems(text: &str) -> ConfigProblems {
    Configuration::parse(&ConfigSource::text("/", text), &Environment::default()).map(drop).unwrap_err()
}

fn server(line: &str) -> String {
    format!("[[servers]]\nmodel = \"m.gguf\"\n{line}\n")
}

/// The nearest of our keys would be another one, or none.
#[test]
fn a_word_of_another_tool_names_our_key() {
    for (text, help) in [
        (server("autostart = false"), "did you mean `enabled`?"),
        (server("environment = {}"), "did you mean `env`?"),
        (server("stop_grace_period = \"3s\""), "write `stop = { grace = … }`"),
        (server("aliases = [\"x\"]"), "write `router = { aliases = … }`"),
        (server("n_ctx = 8192"), "it is an option of llama-server: write `flags = { ctx-size = … }`"),
        ("[stop]\nTimeoutStopSec = \"3s\"".to_owned(), "did you mean `grace`?"),
        ("[router]\nglobalTTL = \"3s\"".to_owned(), "did you mean `ttl`?"),
        ("[llama-server]\nstartPort = 1".to_owned(), "did you mean `first-port`?"),
    ] {
        assert_eq!(problems(&text).0[0].help.as_deref(), Some(help), "{text}");
    }
}

/// Where others have one table for all, a table for each server, or a command line.
#[test]
fn a_table_of_another_tool_and_a_misplaced_key_get_their_next_step() {
    for (text, expected) in [
        ("[defaults]\nctx-size = 1".to_owned(), "options of every server belong in [flags]"),
        ("[macros]\na = 'b'".to_owned(), "there are no macros"),
        ("version = 3".to_owned(), "remove it"),
        ("[hooks]\npre-start = ['x']".to_owned(), "hooks belong to a server"),
        ("[server.qwen]\nmodel = 'm'".to_owned(), "write [[servers]] above each server, and `id = \"qwen\"` below it"),
        ("[[server]]\nmodel = 'm'".to_owned(), "write [[servers]] above each server"),
        ("[services.qwen]\nmodel = 'm'".to_owned(), "`id = \"qwen\"`"),
        (
            "[servers.qwen]\nmodel = 'm'".to_owned(),
            "write [[servers]], with two brackets, above each of them, and `id = \"qwen\"`",
        ),
        ("[models.qwen]\ncmd = 'x'".to_owned(), "[models] names folders: write [[servers]], and `id = \"qwen\"`"),
        ("[[models]]\nname = 'x'".to_owned(), "[models] names folders: write [[servers]] above each model"),
        (server("cmd = 'llama-server -m x'"), "write its program as `binary`"),
        (server("command = ['llama-server']"), "write its program as `binary`"),
        (server("ttl = '5m'"), "write `router = { ttl = … }`"),
        (server("keep = true"), "write `router = { keep = … }`"),
        ("ttl = '5m'".to_owned(), "write [router], and `ttl = …` below it"),
        ("[daemon]\nttl = '5m'".to_owned(), "`ttl` is a key of [router]: write it below that"),
        ("healthCheckTimeout = 120".to_owned(), "write [readiness], and `timeout = …` below it"),
        ("startPort = 5800".to_owned(), "`first-port` is a key of [llama-server]"),
        ("[daemon]\nbinary = 'x'".to_owned(), "it is a key of [llama-server]: write it below that"),
        ("grace = '1s'".to_owned(), "it is a key of [stop]: write it below that"),
        ("ctx-size = 4096".to_owned(), "write [flags], and `ctx-size = …` below it"),
        ("model = 'x.gguf'".to_owned(), "write [[servers]] above `model`"),
    ] {
        let problems = problems(&text);
        let help = problems.0[0].help.clone().unwrap_or_default();
        assert!(help.contains(expected), "{text}:\n{problems}\n{help}");
    }
}

#[test]
fn a_single_value_in_the_place_of_a_table_names_the_key_that_it_is() {
    for (text, help) in [
        (
            "llama-server = '/opt/llama-server'".to_owned(),
            "write [llama-server], and `binary = \"/opt/llama-server\"` below it",
        ),
        ("router = '127.0.0.1:8080'".to_owned(), "write [router], and `listen = \"127.0.0.1:8080\"` below it"),
        ("models = '/srv/models'".to_owned(), "write [models], and `dirs = [\"/srv/models\"]` below it"),
        ("models = ['/srv/models']".to_owned(), "write [models], and `dirs = …` below it"),
        ("stop = '10s'".to_owned(), "write [stop], and `grace = \"10s\"` below it"),
        (server("restart = 'always'"), "write `restart = { policy = \"always\" }`"),
        (server("health = 5"), "write `health = { interval = … }`"),
        (server("hooks = 'fetch.sh'"), "write `hooks = { pre-start = [\"fetch.sh\"] }`"),
        (server("flags = '--jinja'"), "write a table such as { ctx-size = 8192 }; whole words belong into `args`"),
        (server("env = ['A=b']"), "write a table such as { NAME = \"value\" }"),
    ] {
        let problems = problems(&text);
        assert_eq!(problems.0[0].help.as_deref(), Some(help), "{text}:\n{problems}");
    }
}
