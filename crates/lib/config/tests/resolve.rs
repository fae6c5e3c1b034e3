//! The meaning of a configuration: precedence of values, started servers, resolved paths.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests end by panicking")]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use llama_warden_config::{
    ConfigProblem, ConfigProblems, ConfigSource, Configuration, Environment, FlagOrigin, FlagValue, Fleet,
    HostEnvironment, Location, RenderStyle, Severity,
};

const HOST: HostEnvironment = HostEnvironment { cpus: 4 };

const THREE: &str = r#"
[flags]
ctx-size = 1000
parallel = 1

[llama-server]
args = ["--shared"]
env = { A = "shared", B = "shared" }
env-pass = ["SHARED_*"]

[stop]
grace = "20s"

[[servers]]
id = "small"
model = "small.gguf"
tier = "Q2_K"
flags = { ctx-size = 3000 }
args = ["--own"]
env = { B = "own" }
env-pass = ["OWN"]
stop = { ladder = ["INT"] }

[[servers]]
id = "large"
model = "/models/large.gguf"
port = 8001
tier = "Q8_0"

[[servers]]
id = "off"
model = "off.gguf"
enabled = false

[profiles.tiny]
description = "for the train"
servers = [{ tier = "Q2*" }, "off"]
flags = { ctx-size = 2000, parallel = 2 }

[profiles.all]
servers = ["*"]
"#;

fn parse_with(text: &str, variables: &[(&str, &str)]) -> Result<Configuration, ConfigProblems> {
    Configuration::parse(&ConfigSource::text("/configuration", text), &variables.iter().copied().collect())
}

fn parse(text: &str) -> Configuration {
    parse_with(text, &[]).unwrap_or_else(|problems| panic!("{problems}"))
}

fn enabled(fleet: &Fleet) -> Vec<&str> {
    fleet.iter().filter(|spec| spec.enabled).map(|spec| spec.id.as_str()).collect()
}

fn flag(fleet: &Fleet, server: &str, name: &str) -> FlagValue {
    fleet.get(server).unwrap().flags[name].value.clone()
}

#[test]
fn a_servers_flag_wins_over_the_profiles_and_that_over_the_shared_one() {
    let configuration = parse(THREE);
    let plain = configuration.resolve(None, &HOST).unwrap();
    let tiny = configuration.resolve(Some("tiny"), &HOST).unwrap();
    let integer = FlagValue::Integer;
    assert_eq!((flag(&plain, "small", "ctx-size"), flag(&plain, "small", "parallel")), (integer(3000), integer(1)));
    assert_eq!((flag(&tiny, "small", "ctx-size"), flag(&tiny, "small", "parallel")), (integer(3000), integer(2)));
    assert_eq!((flag(&tiny, "off", "ctx-size"), flag(&tiny, "off", "parallel")), (integer(2000), integer(2)));
    assert_eq!(flag(&tiny, "large", "ctx-size"), integer(1000), "a profile's flags are for its own servers");
    assert_eq!(plain.get("small").unwrap().flags["ctx-size"].origin, FlagOrigin::User);
    assert_eq!(plain.get("small").unwrap().flags["batch-size"].origin, FlagOrigin::BuiltIn);
}

#[test]
fn a_server_may_sleep_by_an_argument_an_option_or_a_variable_and_below_zero_by_none() {
    let may_sleep = |keys: &str| {
        let text = format!("[[servers]]\nid = 'a'\nmodel = 'm.gguf'\n{keys}\n");
        parse(&text).resolve(None, &HOST).unwrap().get("a").unwrap().may_sleep()
    };
    for keys in [
        "flags = { sleep-idle-seconds = 60 }",
        "args = ['--sleep-idle-seconds', '60']",
        "args = ['--sleep_idle_seconds=60']",
        "env = { LLAMA_ARG_SLEEP_IDLE_SECONDS = '60' }",
    ] {
        assert!(may_sleep(keys), "{keys}");
    }
    for keys in [
        "",
        "flags = { sleep-idle-seconds = -1 }",
        "flags = { sleep-idle-seconds = 'default' }",
        "args = ['--sleep-idle-seconds', '-1']\nflags = { sleep-idle-seconds = 60 }",
        "env = { LLAMA_ARG_SLEEP_IDLE_SECONDS = '-1' }",
    ] {
        assert!(!may_sleep(keys), "{keys}");
    }
}

#[test]
fn a_profile_enables_its_servers_and_no_others() {
    let configuration = parse(THREE);
    for (profile, expected) in [
        (None, vec!["large", "small"]),
        (Some(""), vec!["large", "small"]),
        (Some("tiny"), vec!["off", "small"]),
        (Some("all"), vec!["large", "off", "small"]),
    ] {
        let fleet = configuration.resolve(profile, &HOST).unwrap();
        assert_eq!(enabled(&fleet), expected, "{profile:?}");
        assert_eq!(fleet.iter().len(), 3, "every configured server is in the fleet");
    }
    let profiles = configuration.profiles();
    let names: Vec<&str> = profiles.iter().map(|profile| profile.name.as_str()).collect();
    assert_eq!(names, ["all", "tiny"]);
    assert_eq!(profiles[1].description, "for the train");
    assert_eq!(profiles[1].servers.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["small", "off"]);
}

#[test]
fn the_configured_profile_is_taken_where_none_is_asked_for() {
    let configuration = parse(&format!("[daemon]\nprofile = \"tiny\"\n{THREE}"));
    assert_eq!(configuration.active_profile(None), Some("tiny"));
    assert_eq!(enabled(&configuration.resolve(None, &HOST).unwrap()), ["off", "small"]);
    assert_eq!(configuration.active_profile(Some("all")), Some("all"));
    assert_eq!(configuration.active_profile(Some("")), None);
}

#[test]
fn an_unknown_profile_names_the_nearest_one() {
    let problems = parse(THREE).resolve(Some("tinny"), &HOST).unwrap_err();
    assert_eq!(problems.to_string(), "--profile: there is no profile `tinny`");
    assert_eq!(problems.0[0].help.as_deref(), Some("did you mean `tiny`?"));
}

#[test]
fn a_servers_keys_lie_over_those_of_the_sections() {
    let fleet = parse(THREE).resolve(None, &HOST).unwrap();
    let spec = fleet.get("small").unwrap();
    assert_eq!(spec.args, ["--shared", "--own"]);
    assert_eq!(spec.env_pass, ["SHARED_*", "OWN"]);
    assert_eq!(spec.env.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(), ["A=shared", "B=own"]);
    assert_eq!(
        (spec.stop.grace.as_secs(), spec.stop.ladder.iter().map(|s| s.to_string()).collect()),
        (20, vec!["INT".to_owned()])
    );
}

#[test]
fn ports_are_the_next_free_ones_in_the_order_of_the_file() {
    let fleet = parse(THREE).resolve(None, &HOST).unwrap();
    let ports: Vec<u16> = ["small", "large", "off"].iter().map(|id| fleet.get(id).unwrap().port).collect();
    assert_eq!(ports, [8002, 8001, 8003]);
    let text = "[llama-server]\nfirst-port = 9888\n[[servers]]\nmodel = \"a\"";
    let fleet = parse(text).resolve(None, &HOST).unwrap();
    assert_eq!(fleet.get("a").unwrap().port, 9889, "the daemon's own port is not given away");
}

#[test]
fn the_default_of_threads_is_capped_at_the_usable_cpus_and_a_written_value_is_not() {
    let server = "[[servers]]\nmodel = \"a\"";
    for (text, cpus, expected) in [("", 2, 2), ("", 64, 8), ("[flags]\nthreads = 8\n", 2, 8), ("", 0, 1)] {
        let fleet = parse(&format!("{text}{server}")).resolve(None, &HostEnvironment { cpus }).unwrap();
        assert_eq!(flag(&fleet, "a", "threads"), FlagValue::Integer(expected), "{text:?} on {cpus}");
    }
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let text = r#"
[daemon]
state-dir = "state"
token-file = "./~/token"
[llama-server]
dialects-dir = "dialects"
[readiness]
detectors-dir = "packs"
[models]
dirs = ["models", "/models"]
[[servers]]
id = "a"
model = "--host"
binary = "./llama-server"
host = "a.sock"
api-key-file = "../key"
hooks = { pre-start = ["./fetch", "./a"], post-ready = ["tools/tell"], pre-stop = ["drain"], post-exit = ["/bin/sweep"] }
"#;
    let configuration = parse(text);
    let path = |path: Option<&Path>| path.unwrap().display().to_string();
    assert_eq!(path(configuration.daemon().state_dir.as_deref()), "/configuration/state");
    assert_eq!(path(configuration.daemon().token_file.as_deref()), "/configuration/~/token");
    assert_eq!(path(configuration.detectors_dir()), "/configuration/packs");
    assert_eq!(path(configuration.dialects_dir()), "/configuration/dialects");
    assert_eq!(
        configuration.model_dirs().iter().map(|p| path(Some(p))).collect::<Vec<_>>(),
        ["/configuration/models", "/models"]
    );
    let fleet = configuration.resolve(None, &HOST).unwrap();
    let spec = fleet.get("a").unwrap();
    assert_eq!(path(Some(&spec.model)), "/configuration/--host");
    assert_eq!(path(Some(&spec.binary)), "/configuration/llama-server");
    assert_eq!(&*spec.host, "/configuration/a.sock");
    assert_eq!(path(spec.api_key_file.as_deref()), "/configuration/../key");
    let hooks = &spec.hooks;
    assert_eq!(
        [&hooks.pre_start, &hooks.post_ready, &hooks.pre_stop, &hooks.post_exit]
            .map(|hook| hook.as_ref().unwrap().join(" ")),
        ["/configuration/fetch ./a", "/configuration/tools/tell", "drain", "/bin/sweep"],
        "only the program of a command, and no name that is looked up in PATH"
    );
}

#[test]
fn a_variable_overrides_a_single_value() {
    let variables = [
        ("LLAMA_WARDEN_DAEMON__LISTEN", ""),
        ("LLAMA_WARDEN_DAEMON__SHUTDOWN_DEADLINE", "5s"),
        ("LLAMA_WARDEN_LLAMA_SERVER__FIRST_PORT", "7000"),
        ("LLAMA_WARDEN_STOP__GRACE", "1s"),
        ("LLAMA_WARDEN_FLAGS__CTX_SIZE", "4096"),
        ("LLAMA_WARDEN_FLAGS__FLASH_ATTN", "false"),
        ("LLAMA_WARDEN_FLAGS__TEMP", "0.5"),
        ("LLAMA_WARDEN_FLAGS__ALIAS", "x"),
        ("LLAMA_WARDEN_HEALTH__FAILURES", "9"),
        ("LLAMA_WARDEN_CONFIG", "ignored"),
        ("LLAMA_WARDEN_ADDRESS", "ignored"),
        ("LLAMA_WARDEN_LOG", "ignored"),
        ("STOP__GRACE", "ignored"),
    ];
    let configuration = parse_with("[stop]\ngrace = \"9s\"\n[[servers]]\nmodel = \"a\"", &variables).unwrap();
    let fleet = configuration.resolve(None, &HOST).unwrap();
    let spec = fleet.get("a").unwrap();
    assert_eq!(configuration.daemon().listen, None);
    assert_eq!(configuration.daemon().shutdown_deadline.as_secs(), 5);
    assert_eq!((spec.port, spec.stop.grace.as_secs(), spec.health.failures), (7000, 1, 9));
    for (name, value) in [
        ("ctx-size", FlagValue::Integer(4096)),
        ("flash-attn", FlagValue::Switch(false)),
        ("temp", FlagValue::Float(0.5)),
        ("alias", FlagValue::Text("x".into())),
    ] {
        assert_eq!((&spec.flags[name].value, spec.flags[name].origin), (&value, FlagOrigin::User));
    }
}

#[test]
fn a_bad_variable_is_named() {
    for (name, value, expected) in [
        ("LLAMA_WARDEN_STOP__GRACE", "soon", "LLAMA_WARDEN_STOP__GRACE: `stop.grace` is `soon`"),
        ("LLAMA_WARDEN_STOP__GRASE", "1s", "LLAMA_WARDEN_STOP__GRASE: unknown key `stop.grase`"),
        ("LLAMA_WARDEN_STOPP__GRACE", "1s", "LLAMA_WARDEN_STOPP__GRACE: unknown key `stopp`"),
        ("LLAMA_WARDEN_STOP__LADDER", "TERM", "LLAMA_WARDEN_STOP__LADDER: `stop.ladder` cannot be set"),
        ("LLAMA_WARDEN_SERVERS__ID", "a", "LLAMA_WARDEN_SERVERS__ID: `servers` cannot be set"),
        ("LLAMA_WARDEN_HEALTH__FAILURES", "many", "LLAMA_WARDEN_HEALTH__FAILURES: `health.failures` must be a number"),
        ("LLAMA_WARDEN_DAEMON__PROFILE", "x", "LLAMA_WARDEN_DAEMON__PROFILE: there is no profile `x`"),
        ("LLAMA_WARDEN_LLAMA_SERVER__ENV", "A=1", "LLAMA_WARDEN_LLAMA_SERVER__ENV: `llama-server.env` must be a table"),
    ] {
        let problems = parse_with("", &[(name, value)]).unwrap_err();
        let text = problems.to_string();
        assert!(problems.0.len() == 1 && text.starts_with(expected), "expected: {expected}\nfound: {text}");
        assert!(matches!(&problems.0[0].location, Location::Variable(variable) if **variable == *name));
        assert!(problems.render(RenderStyle::Plain).contains(name));
    }
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("there.gguf"), "GGUF").unwrap();
    let text = r#"
[daemon]
listen = "0.0.0.0:9888"
[stop]
ladder = ["TERM", "INT"]
[[servers]]
model = "there.gguf"
flags = { api-key = "hunter2" }
[[servers]]
model = "gone.gguf"
binary = "./gone"
api-key-file = "gone.key"
"#;
    let source = ConfigSource::text(directory.path(), text);
    let path = [("PATH", directory.path())].into_iter().collect();
    let configuration = Configuration::parse(&source, &path).unwrap();
    let warnings = configuration.warnings();
    let found: Vec<(usize, &str)> = warnings
        .iter()
        .map(|warning| (warning.location.line_and_column().unwrap().0, warning.message.split('/').next().unwrap()))
        .collect();
    let shared_binary = warnings.last().unwrap().location.line_and_column().unwrap().0;
    assert_eq!(
        found,
        [
            (3, "0.0.0.0:9888 can be reached from other machines and there is no `token-file`"),
            (5, "INT after TERM makes some builds of llama-server hang or abort"),
            (8, "an `api-key` on the command line can be read by every user of this machine"),
            (10, "the model "),
            (12, "the api key file "),
            (11, "the executable "),
            (shared_binary, "there is no `llama-server` in PATH"),
        ]
    );
    assert!(warnings.iter().all(|warning| warning.severity == Severity::Warning && warning.help.is_some()));
    let rendered = ConfigProblems(warnings).render(RenderStyle::Coloured);
    assert!(!rendered.contains("hunter2"), "{rendered}");

    let misses_server = || configuration.warnings().iter().any(|warning| warning.message.contains("PATH"));
    write_program(&directory.path().join("llama-server"), 0o644);
    assert!(misses_server(), "a file that nobody may execute is passed over");
    write_program(&directory.path().join("llama-server"), 0o755);
    assert!(!misses_server());
}

fn write_program(path: &Path, mode: u32) {
    std::fs::write(path, "").unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_missing_executable_is_told_in_the_users_own_file_with_the_path_to_write() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("own.toml");
    let advice = |text: &str| {
        let source = ConfigSource { path: Some(file.clone()), ..ConfigSource::text(directory.path(), text) };
        let warnings = Configuration::parse(&source, &Environment::default()).unwrap().warnings();
        let rendered = ConfigProblems(warnings).render(RenderStyle::Plain);
        rendered.lines().filter(|line| line.contains("PATH") || line.contains("write")).collect::<String>()
    };
    let server = "[[servers]]\nmodel = 'a.gguf'\n";
    let told = advice(server);
    assert!(told.contains(&format!("{}: there is no `llama-server` in PATH", file.display())), "{told}");
    write_program(&directory.path().join("llama-server"), 0o755);
    write_program(&directory.path().join("x.sh"), 0o755);
    assert!(advice(server).contains("write \"./llama-server\""));
    assert!(advice(&format!("{server}binary = 'x.sh'\n")).contains("write \"./x.sh\""));
    for (binary, program) in [("llama-server --verbose -n '1'", "llama-server"), ("./x.sh --verbose -n '1'", "/x.sh")] {
        let told = advice(&format!("{server}binary = \"{binary}\"\n"));
        assert!(told.contains(&format!("{program}\", and `args = [\"--verbose\", \"-n\", \"'1'\"]`")), "{told}");
    }
    assert!(advice(&format!("{server}binary = 'x.sh'\nhooks = {{ pre-start = ['x.sh'] }}\n")).contains("./x.sh"));
}

#[test]
fn a_program_that_cannot_be_run_is_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    write_program(&directory.path().join("runs"), 0o755);
    write_program(&directory.path().join("plain"), 0o644);
    let here = directory.path().display();
    // `..` leads back where the folder is no link.
    let parent = directory.path().parent().unwrap().display();
    let cases = [
        ("hooks = { pre-start = ['./runs'], post-ready = ['runs', './gone'] }", None),
        ("binary = './runs'", None),
        (
            "binary = 'llama-server -v --port 8001'",
            Some("there is no `llama-server -v --port 8001` in PATH".to_owned()),
        ),
        ("binary = './plain'", Some(format!("{here}/plain is not executable"))),
        ("hooks = { pre-start = ['./plain'] }", Some(format!("{here}/plain is not executable"))),
        ("hooks = { post-ready = ['./gone', 'x'] }", Some(format!("the executable {here}/gone does not exist"))),
        ("hooks = { pre-stop = ['plain'] }", Some("there is no `plain` in PATH".to_owned())),
        ("hooks = { post-exit = ['../'] }", Some(format!("the executable {parent} is not a file"))),
    ];
    for (keys, expected) in cases {
        let text = format!("[[servers]]\nid = 'a'\nmodel = 'a.gguf'\n{keys}\n");
        let path = [("PATH", directory.path())].into_iter().collect();
        let configuration = Configuration::parse(&ConfigSource::text(directory.path(), &text), &path).unwrap();
        let warnings = configuration.warnings();
        let about = |warning: &&ConfigProblem| warning.location.line_and_column().is_some_and(|(line, _)| line == 4);
        let messages: Vec<_> = warnings.iter().filter(about).map(|warning| warning.message.clone()).collect();
        assert_eq!(messages, expected.into_iter().collect::<Vec<_>>(), "{keys}");
        assert!(warnings.iter().all(|warning| warning.help.is_some()));
    }
}

#[test]
fn a_path_that_is_refused_is_not_looked_for() {
    let environment: Environment = [("HOME", "/home/u")].into_iter().collect();
    let text =
        "[[servers]]\nid = 'a'\nmodel = '$HOME/a.gguf'\n[[servers]]\nid = 'b'\nmodel = 'b.gguf'\nenabled = 'yes'\n";
    let (configuration, problems) = Configuration::examine(&ConfigSource::text("/c", text), &environment);
    assert_eq!(problems.0.len(), 2, "{problems}");
    let warnings: Vec<_> = configuration.unwrap().warnings().iter().map(ToString::to_string).collect();
    assert!(warnings.iter().all(|warning| !warning.contains("$HOME")), "{warnings:#?}");
}

#[test]
fn a_fault_of_a_model_that_is_there_is_a_warning_at_its_key() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.gguf"), "").unwrap();
    let text = "[[servers]]\nmodel = 'a.gguf'\n[[servers]]\nmodel = 'gone.gguf'\n[[servers]]\nmodel = 'hf:o/r'\n\
                [[servers]]\nid = 'h'\nmodel = 'a.gguf'\nhooks = { pre-start = ['/bin/true'] }\n";
    let source = ConfigSource::text(directory.path(), text);
    let configuration = Configuration::parse(&source, &Environment::default()).unwrap();
    let warnings = configuration.model_warnings(|_| Some(("it is cut".to_owned(), "fetch it again".to_owned())));
    let path = directory.path().join("a.gguf");
    let expected = format!("configuration:2:9: the model {} cannot be served: it is cut", path.display());
    assert_eq!(warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    assert!(configuration.model_warnings(|_| None).is_empty());
}

#[test]
fn a_model_that_a_pre_start_command_may_fetch_is_not_missed() {
    let missed = |hooks: &str| {
        let text = format!("[[servers]]\nmodel = \"/nonexistent.gguf\"\n{hooks}");
        let warnings = parse_with(&text, &[]).unwrap().warnings();
        warnings.iter().any(|warning| warning.message.contains("/nonexistent.gguf"))
    };
    assert!(missed(""));
    assert!(missed("hooks = { post-ready = [\"true\"] }"));
    assert!(!missed("hooks = { pre-start = [\"fetch\"] }"));
}

#[test]
fn a_configuration_can_be_read_with_no_environment_at_all() {
    assert!(Configuration::parse(&ConfigSource::none("/"), &Environment::default()).is_ok());
}

#[test]
fn a_model_of_hugging_face_is_no_path_and_names_its_server() {
    let text = "[[servers]]\nmodel = 'hf:ggml-org/Gemma-3-4B-GGUF:Q4_K_M'\n[[servers]]\nmodel = './hf:x/y.gguf'\n";
    let configuration = Configuration::parse(&ConfigSource::text("/c", text), &Environment::default()).unwrap();
    assert_eq!(configuration.warnings().len(), 2, "the program and the second model do not exist");
    let servers: Vec<_> = configuration.servers().collect();
    assert_eq!((servers[0].id.as_str(), servers[0].tier.as_deref()), ("gemma-3-4b-gguf-q4_k_m", Some("Q4_K_M")));
    assert_eq!(servers[0].model_repository(), Some("ggml-org/Gemma-3-4B-GGUF:Q4_K_M"));
    assert_eq!((servers[1].model_repository(), servers[1].model.to_str()), (None, Some("/c/hf:x/y.gguf")));
}
