//! Every kind of mistake is reported with its place, all at once.

#![expect(clippy::panic, reason = "tests end by panicking")]

use llama_warden_config::{ConfigProblems, ConfigSource, Configuration, Environment, RenderStyle};

fn problems(text: &str) -> ConfigProblems {
    let source = ConfigSource::text("/configuration", text);
    match Configuration::parse(&source, &Environment::default()) {
        Ok(_) => panic!("was taken:\n{text}"),
        Err(problems) => problems,
    }
}

/// One server around a line of its own, so that the line is number 3.
fn server(line: &str) -> String {
    format!("[[servers]]\nmodel = \"m.gguf\"\n{line}\n")
}

#[track_caller]
fn assert_problem(text: &str, expected: &str) {
    let problems = problems(text);
    let lines: Vec<String> = problems.0.iter().map(ToString::to_string).collect();
    let [line] = lines.as_slice() else { panic!("not one problem, but {lines:#?} in:\n{text}") };
    assert!(line.contains(expected), "expected: {expected}\nfound:    {line}\nin:\n{text}");
    assert!(problems.0[0].help.is_some(), "no next step for: {line}");
}

#[test]
fn a_bad_value_is_told_with_its_place() {
    for (text, expected) in [
        (
            "[stop]\ngrace = 10",
            "configuration:2:9: `stop.grace` must be a duration such as \"500ms\", \"10s\" or \"2m\", not an integer",
        ),
        ("[stop]\n  grace = \"10\"", "configuration:2:11: `stop.grace` is `10`"),
        ("[stop]\ngrace = \"-1s\"", ":2:9: `stop.grace` is `-1s`"),
        ("[stop]\ngrace = \"9000h\"", ":2:9: `stop.grace` is longer than a year"),
        ("[readiness]\ntimeout = \"0s\"", ":2:11: `readiness.timeout` is zero"),
        ("[readiness]\non-timeout = \"ignore\"", ":2:14: `readiness.on-timeout` is `ignore`"),
        ("[readiness]\ndetector = \"\"", ":2:12: `detector` is empty"),
        ("[logs]\nring = \"1 cup\"", ":2:8: `logs.ring` is `1 cup`"),
        ("[logs]\nring = \"1KiB\"", ":2:8: `logs.ring` is out of range"),
        ("[logs]\nring = 4096", ":2:8: `logs.ring` must be a size"),
        ("[health]\ninference = \"never\"", ":2:13: `health.inference` is `never`"),
        ("[health]\ninference = \"0s\"", ":2:13: `health.inference` is zero"),
        (
            "[health]\ninference = 60",
            ":2:13: `health.inference` must be \"off\", or a duration such as \"60s\", not an integer",
        ),
        ("[health]\nfailures = 0", ":2:12: `health.failures` is 0"),
        ("[restart]\nmax-attempts = -1", ":2:16: `restart.max-attempts` is -1"),
        ("[restart]\ninitial-delay = \"5m\"", ":2:17: `initial-delay` (300s) is longer than `max-delay` (60s)"),
        ("[start]\nmemory = true", ":2:10: `start.memory` must be \"off\", \"warn\" or \"enforce\", not a boolean"),
        ("[models]\ndirs = \"here\"", ":2:8: `models.dirs` must be an array, not a string"),
        ("[models]\ndirs = [\"a\", 1]", ":2:14: `models.dirs[1]` must be a string, not an integer"),
        ("[daemon]\nlisten = \"9888\"", ":2:10: `daemon.listen` cannot be used: `9888` is not HOST:PORT"),
        ("[daemon]\nlisten = 1979-05-27", ":2:10: `daemon.listen` must be a string, not a date"),
        ("[daemon]\non-daemon-death = \"adopt\"", ":2:19: `on-daemon-death = \"adopt\"` is not built yet"),
        ("[daemon]\nhosts = [\"a.example\", \"https://b.example\"]", ":2:23: `daemon.hosts[1]` is `https://b.example`"),
        ("[daemon]\nhosts = [\"a.example:443\"]", ":2:10: `daemon.hosts[0]` is `a.example:443`"),
        ("[daemon]\nlocal-users = \"all\"", ":2:15: `daemon.local-users` is `all`"),
        ("[daemon]\nprofile = \"night\"", ":2:11: there is no profile `night`"),
        ("daemon = 1", ":1:10: `daemon` must be a table, not an integer"),
        ("[llama-server]\nhost = \"x.sock\"", ":2:8: servers cannot share a unix socket"),
        ("[llama-server]\nhost = \"http://x\"", ":2:8: `http://x` is not a host"),
        ("[llama-server]\nbinary = \"\"", ":2:10: `llama-server.binary` is empty"),
        ("[llama-server]\nfirst-port = 0", ":2:14: `llama-server.first-port` is 0"),
        ("[llama-server]\nenv = { A = 1 }", ":2:13: `llama-server.env.A` must be a string, not an integer"),
        ("[llama-server]\nenv = { \"A=B\" = \"x\" }", ":2:17: `A=B` is not the name of a variable"),
        ("[llama-server]\nenv-pass = [\"[\"]", ":2:13: `llama-server.env-pass[0]` is not a glob"),
    ] {
        assert_problem(text, expected);
    }
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    for (text, expected, help) in [
        ("[deamon]\n", ":1:2: unknown key `deamon`", "did you mean `daemon`?"),
        ("[stop]\n\nlader = []", ":3:1: unknown key `stop.lader`", "did you mean `ladder`?"),
        ("[restart]\nmax_attempts = 1", ":2:1: unknown key `restart.max_attempts`", "did you mean `max-attempts`?"),
        ("[stop]\nquantum = 1", ":2:1: unknown key `stop.quantum`", "known here: grace, ladder"),
        (&server("modell = \"x\""), ":3:1: unknown key `servers[0].modell`", "did you mean `model`?"),
        (&server("stop = { gracee = \"1s\" }"), ":3:10: unknown key `servers[0].stop.gracee`", "did you mean `grace`?"),
        (
            &server("hooks = { prestart = [] }"),
            ":3:11: unknown key `servers[0].hooks.prestart`",
            "did you mean `pre-start`?",
        ),
    ] {
        assert_problem(text, expected);
        assert_eq!(problems(text).0[0].help.as_deref(), Some(help));
    }
}

#[test]
fn a_server_that_cannot_be_is_told() {
    for (line, expected) in [
        ("id = \"a b\"", ":3:6: `servers[0].id` cannot be used: `a b` is not a server id"),
        ("id = \"-a\"", ":3:6: "),
        ("port = 0", ":3:8: `servers[0].port` is 0"),
        ("port = 65536", ":3:8: `servers[0].port` is 65536"),
        ("port = 9888", ":3:8: port 9888 is taken twice: here and config/default.toml:"),
        ("host = \"\"", ":3:8: `` is not a host"),
        ("host = \"--help\"", ":3:8: `--help` is not a host"),
        ("binary = \"\"", ":3:10: `binary` is empty"),
        ("args = [\"--x\", \"a\\nb\"]", ":3:16: `servers[0].args[1]` contains a line break"),
        ("args = [\"a\\u0000\"]", ":3:9: `servers[0].args[0]` contains a NUL character"),
        ("display-name = \"a\\u0000\"", ":3:16: `servers[0].display-name` contains a NUL character"),
        ("env = { A = \"\\u0000\" }", ":3:13: `servers[0].env.A` contains a NUL character"),
        ("hooks = { pre-start = [] }", ":3:23: the hook has no command"),
        ("readiness = { detectors-dir = \"x\" }", ":3:31: `detectors-dir` is for all servers"),
        ("restart = { initial-delay = \"2m\" }", ":3:29: `initial-delay` (120s) is longer than `max-delay` (60s)"),
    ] {
        assert_problem(&server(line), expected);
    }
    assert_problem("[[servers]]\nport = 1", ":1:1: this server has no key `model`");
    assert_problem("[[servers]]\nmodel = \"\"\nid = \"a\"", ":2:9: `model` is empty");
    assert_problem("[[servers]]\nmodel = \"a\\nb\"", ":2:9: `servers[0].model` contains a line break");
    assert_problem("[[servers]]\nmodel = \".gguf\"", ":2:9: no id can be derived");
    let long = format!("host = \"/{}.sock\"", "x".repeat(110));
    assert_problem(&server(&long), ":3:8: the path of the unix socket is too long");
    assert_problem(
        &format!("[llama-server]\nfirst-port = 65535\n{}{}", server(""), server("id = \"b\"")),
        ":6:1: no port from `llama-server.first-port` up is left",
    );
}

#[test]
fn a_ladder_sends_each_polite_signal_once_and_leaves_kill_alone() {
    for (ladder, expected) in [
        ("[\"TERM\", \"SIGTERM\"]", ":2:19: TERM is twice in the ladder"),
        ("[\"TERM\", \"KILL\"]", ":2:19: KILL is the last rung by itself"),
        ("[\"TERMINATE\"]", ":2:11: `stop.ladder[0]` cannot be used: `TERMINATE` is not a signal"),
        ("[\"STOP\"]", ":2:11: STOP does not end a process"),
        ("[]", ":2:10: `ladder` is empty"),
    ] {
        assert_problem(&format!("[stop]\nladder = {ladder}"), expected);
        assert_problem(&server(&format!("stop = {{ ladder = {ladder} }}")), expected.split(": ").last().unwrap());
    }
}

#[test]
fn a_flag_that_is_no_flag_is_told() {
    for (flag, expected) in [
        ("port = 1", ":2:1: `port` is not set as a flag"),
        ("host = \"x\"", ":2:1: `host` is not set as a flag"),
        ("model = \"x\"", ":2:1: `model` is not set as a flag"),
        ("m = \"x\"", ":2:1: `m` is not set as a flag"),
        ("api-key-file = \"x\"", ":2:1: `api-key-file` is not set as a flag"),
        ("--ctx-size = 1", ":2:1: `--ctx-size` is written with dashes in front"),
        ("\"ctx size\" = 1", ":2:1: `ctx size` is not the name of an option"),
        ("\"\" = 1", ":2:1: `` is not the name of an option"),
        ("grammar = \"a\\nb\"", ":2:11: `flags.grammar` contains a line break"),
        ("grammar = \"--host\"", ":2:11: `flags.grammar` is `--host`"),
        ("temp = nan", ":2:8: `flags.temp` is not a finite number"),
    ] {
        assert_problem(&format!("[flags]\n{flag}"), expected);
    }
    assert_problem(&server("flags = { port = 1 }"), ":3:11: `port` is not set as a flag");
    assert_eq!(problems("[flags]\nm = \"x\"").0[0].help.as_deref(), Some("set it as the key `model` of the server"));
}

#[test]
fn a_profile_that_means_nobody_is_told() {
    for (profile, expected) in [
        ("[profiles.p]\nservers = [\"n\"]", ":5:12: profile `p` names the unknown server `n`"),
        ("[profiles.p]\nservers = [\"m\", \"x*\"]", ":5:17: profile `p`: no server matches `x*`"),
        ("[profiles.p]\nservers = [{ tier = \"Q*\" }]", ":5:12: profile `p`: no server has a tier like `Q*`"),
        ("[profiles.p]\nservers = [{}]", ":5:12: `profiles.p.servers[0]` names no tier"),
        ("[profiles.p]\nservers = []", ":5:11: profile `p` has no servers"),
        ("[profiles.p]\n", ":4:1: profile `p` has no key `servers`"),
        ("[profiles.\"a b\"]\nservers = [\"m\"]", ":4:1: `a b` is not the name of a profile"),
    ] {
        assert_problem(&format!("{}{profile}", server("tier = \"F16\"")), expected);
    }
}

#[test]
fn two_servers_with_one_id_port_or_socket_are_both_named() {
    let two = |first: &str, second: &str| format!("{}{}", server(first), server(second));
    assert_problem(&two("", ""), ":5:9: two servers are called `m`: this one and configuration:2:9");
    assert_problem(
        &two("id = \"a\"", "id = \"a\""),
        ":6:6: two servers are called `a`: this one and configuration:3:6",
    );
    let text = "[[servers]]\nmodel = \"a\"\nport = 8001\n[[servers]]\nmodel = \"b\"\nport = 8001";
    assert_problem(text, ":6:8: port 8001 is taken twice: here and configuration:3:8");
    let text = "[[servers]]\nmodel = \"a\"\nhost = \"s.sock\"\n[[servers]]\nmodel = \"b\"\nhost = \"s.sock\"";
    assert_problem(text, ":6:8: two servers bind `s.sock`: this one and configuration:3:8");
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let text = "[daemon]\nlisten = 1\nlisen = 2\n[stop]\nladder = [\"KILL\"]\n[[servers]]\nport = 70000\n[profiles.p]\nservers = [\"x\"]";
    let lines: Vec<String> = problems(text).0.iter().map(|problem| problem.location.to_string()).collect();
    // The profile may mean the server whose id could not be derived.
    assert_eq!(
        lines,
        ["configuration:2:10", "configuration:3:1", "configuration:5:11", "configuration:6:1", "configuration:7:8"]
    );
}

#[test]
fn broken_toml_is_told_with_its_place() {
    let text = "[stop]\ngrace = \"1s\ngrace = 2\n[stop";
    let problems = problems(text);
    assert!(problems.to_string().starts_with("configuration:2:"), "{problems}");
    let twice = self::problems("[stop]\ngrace = \"1s\"\ngrace = \"2s\"");
    assert!(twice.to_string().contains("configuration:3:1: duplicate key"), "{twice}");
}

#[test]
fn columns_count_characters() {
    assert_problem("[llama-server]\nargs = [\"äöü\", \"a\\nb\"]", ":2:16: ");
}

#[test]
fn a_rendered_problem_shows_the_line_the_caret_and_the_next_step() {
    let rendered = problems("[stop]\ngrace = \"1s\"\nlader = [\"TERM\"]\n").render(RenderStyle::Plain);
    insta::assert_snapshot!(rendered, @r#"
    error: unknown key `stop.lader`
     --> configuration:3:1
      |
    3 | lader = ["TERM"]
      | ^^^^^
      |
      = help: did you mean `ladder`?
    "#);
    let rendered = problems("[stop]\nladder = [\"TERM\", \"TERM\"]\n").render(RenderStyle::Plain);
    insta::assert_snapshot!(rendered, @r#"
    error: TERM is twice in the ladder
     --> configuration:2:19
      |
    2 | ladder = ["TERM", "TERM"]
      |           ------  ^^^^^^
      |           |
      |           the first one
      |
      = help: send each signal once: a second TERM or INT makes llama-server hang
    "#);
    assert!(problems("x = 1").render(RenderStyle::Coloured).contains("\x1b["));
}

#[test]
fn problems_are_data_for_programs() {
    let json = serde_json::to_value(problems("[stop]\ngrase = \"1s\"")).unwrap();
    assert_eq!(
        json,
        serde_json::json!([{
            "severity": "error",
            "file": "configuration",
            "line": 2,
            "column": 1,
            "message": "unknown key `stop.grase`",
            "help": "did you mean `grace`?",
        }])
    );
}

#[test]
fn no_damage_to_a_file_keeps_its_problems_from_being_rendered() {
    let whole = include_str!("fixture/complete.toml");
    let cut = (0..whole.len()).step_by(7).filter(|&end| whole.is_char_boundary(end)).map(|end| whole[..end].to_owned());
    let swapped = whole.lines().map(|line| whole.replacen(line, &line.replace('=', "= [ \u{e4}"), 1));
    for text in cut.chain(swapped) {
        if let Err(problems) =
            Configuration::parse(&ConfigSource::text("/configuration", text), &Environment::default())
        {
            assert!(!problems.0.is_empty() && !problems.render(RenderStyle::Coloured).is_empty());
        }
    }
}
