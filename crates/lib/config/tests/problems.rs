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
        ("[daemon]\non-daemon-death = \"keep\"", ":2:19: `daemon.on-daemon-death` is `keep`"),
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
        ("port = 9888", ":3:8: port 9888 is taken twice: here and the built-in defaults"),
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
fn what_only_a_shell_expands_is_refused_with_the_path_to_write() {
    let environment: Environment = [("HOME", "/home/u"), ("MODELS", "/mnt/m")].into_iter().collect();
    let told = |text: &str| {
        let source = ConfigSource::text("/configuration", text);
        let problems = Configuration::parse(&source, &environment).map(drop).unwrap_err();
        let lines = problems.0.iter().map(|problem| (problem.to_string(), problem.help.clone().unwrap_or_default()));
        lines.collect::<Vec<_>>()
    };
    let in_sections = [
        ("daemon", "state-dir = '~/x'"),
        ("daemon", "token-file = '~/x'"),
        ("llama-server", "binary = '~/x'"),
        ("llama-server", "dialects-dir = '~/x'"),
        ("llama-server", "args = ['--lora', '~/x']"),
        ("llama-server", "env = { LLAMA_CACHE = '~/x' }"),
        ("readiness", "detectors-dir = '~/x'"),
        ("models", "dirs = ['~/x']"),
        ("flags", "lora = ['/a', '~/x']"),
        ("flags", "log-file = '~/x'"),
    ];
    let in_server = [
        "binary = '~/x'",
        "host = '~/x.sock'",
        "api-key-file = '~/x'",
        "args = ['--lora=~/x']",
        "env = { A = '~/x' }",
        "flags = { mmproj = '~/x' }",
        "hooks = { pre-start = ['~/x', '$HOME'] }",
    ];
    let texts = in_sections.iter().map(|(section, line)| format!("[{section}]\n{line}\n"));
    let profile = format!("{}[profiles.p]\nservers = ['m']\nflags = {{ lora = '~/x' }}\n", server(""));
    let texts =
        texts.chain(in_server.map(server)).chain(["[[servers]]\nid = 'a'\nmodel = '~/x'\n".to_owned(), profile]);
    for text in texts {
        let told = told(&text);
        let [(line, help)] = &told[..] else { panic!("{told:#?} in:\n{text}") };
        assert!(line.ends_with(": only a shell expands `~`") && help.contains("/home/u/x"), "{line}: {help}");
    }
    let text = "[models]\ndirs = ['$MODELS/x', '/mnt/${NONE}/x', '~bob/x']\n";
    let helps: Vec<_> = told(text).into_iter().map(|(_, help)| help).collect();
    assert_eq!(helps, ["write \"/mnt/m/x\"", "write what `${NONE}` stands for", "write the whole path, from `/` on"]);
    let variable: Environment = [("HOME", "/h"), ("LLAMA_WARDEN_DAEMON__STATE_DIR", "~/x")].into_iter().collect();
    let problems = Configuration::parse(&ConfigSource::none("/"), &variable).map(drop).unwrap_err();
    assert_eq!(problems.to_string(), "LLAMA_WARDEN_DAEMON__STATE_DIR: only a shell expands `~`");
    for fine in ["[flags]\nchat-template = '{{ a ~ b }} $x'\n", "[llama-server]\nenv = { PASSWORD = 'a$B' }\n"] {
        assert!(Configuration::parse(&ConfigSource::text("/c", fine), &environment).is_ok(), "{fine}");
    }
}

#[test]
fn a_model_is_a_file_or_a_repository() {
    for (model, expected, help) in [
        ("hf:repo", "`repo` is not a repository", "hf:ORG/REPO:QUANT"),
        ("hf:org/repo:", "`org/repo:` is not a repository", "hf:ORG/REPO:QUANT"),
        ("-hf org/repo:Q4", "`-hf` is an option", "write model = \"hf:org/repo:Q4\""),
        ("--model x.gguf", "`--model` is an option", "write model = \"x.gguf\""),
        ("https://huggingface.co/o/r/resolve/main/d/x.gguf?download=true", "not a URL", "hf-file = \"d/x.gguf\""),
        ("https://huggingface.co/o/r", "not a URL", "write model = \"hf:o/r\""),
        ("https://example.org/x.gguf", "not a URL", "download it"),
    ] {
        let text = format!("[[servers]]\nid = 'a'\nmodel = '{model}'");
        assert_problem(&text, expected);
        let told = problems(&text).0[0].help.clone().unwrap_or_default();
        assert!(told.contains(help), "{told}");
    }
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
fn a_profile_is_checked_beside_servers_that_cannot_be_used_and_blamed_for_none_of_them() {
    for (servers, members) in [
        ("[[servers]]\nid = \"a b\"\nmodel = \"m\"", "[\"nobody\", \"a b\"]"),
        ("[[servers]]\nid = 5\nmodel = \"m\"", "[\"nobody\", \"5\", { tier = \"Q4\" }]"),
        ("[[servers]]\nmodel = \"Tiny.gguf\"\nport = 70000", "[\"nobody\", \"tiny\"]"),
        ("[[servers]]\nmodel = \"m\"\n[[servers]]\nmodel = \"m\"", "[\"nobody\", \"m\"]"),
        ("[servers]\nid = \"a\"\nmodel = \"m\"", "[\"nobody\", \"a\"]"),
        ("servers = [3, { id = \"a\", model = \"m\" }]", "[\"nobody\", \"a\"]"),
        (
            "[llama-server]\nfirst-port = 65535\n[[servers]]\nmodel = \"m\"\n[[servers]]\nmodel = \"n\"",
            "[\"nobody\", \"n\"]",
        ),
    ] {
        let told = problems(&format!("{servers}\n[profiles.p]\nservers = {members}\n")).to_string();
        let about_profiles: Vec<&str> = told.lines().filter(|line| line.contains("profile `p`")).collect();
        assert!(about_profiles.len() == 1 && about_profiles[0].contains("`nobody`"), "{servers}: {told}");
        assert_eq!(told.lines().count(), 2, "{told}");
    }
}

#[test]
fn broken_toml_is_told_with_its_place() {
    let text = "[stop]\ngrace = \"1s\ngrace = 2\n[stop";
    let problems = problems(text);
    assert!(problems.to_string().starts_with("configuration:2:"), "{problems}");
    let twice = self::problems("[stop]\ngrace = \"1s\"\ngrace = \"2s\"");
    let expected = "configuration:3:1: the key `grace` is written twice: here and configuration:2:1";
    assert_eq!(twice.to_string(), expected);
}

#[test]
fn the_usual_slips_of_the_pen_get_a_sentence_of_their_own() {
    for (text, expected, help) in [
        (
            "[stop]\ngrace = '1s'\n[health]\n[stop] # again\n",
            ":4:2: the table `[stop]` is written twice: here and configuration:1:1",
            "write all its keys under one of the two",
        ),
        (
            "[flags]\na = 1\n[[servers]]\nmodel = 'm'\nflags = { a = 1, a = 2 }\na = 3",
            ":5:18: the key `a` is written twice: here and configuration:5:11",
            "remove one of the two",
        ),
        ("[flags]\nmmap = True", ":2:8: invalid boolean", "write `true`, in lower case"),
        ("[flags]\nmmap = yes", ":2:8: string values must be quoted", "write `true`"),
        ("[[servers]]\nmodel = m.gguf", ":2:9: string values must be quoted", "write \"m.gguf\", in quotes"),
        (
            "[stop]\ngrace =\u{a0}'1s'",
            ":2:8: TOML does not know a no-break space (U+00A0) here",
            "write a plain space in its place",
        ),
        ("[stop]\ngrace = “1s”", ":2:9: TOML does not know `“` (U+201C) here", "write the quote \" in its place"),
        ("[[servers]]\ndisplay-name = \"a\u{7}b\"", ":2:18: invalid basic string", "write `\\u0007` in its place"),
        ("[flags]\nctx–size = 1", ":2:4: TOML does not know `–` (U+2013) here", "write the dash - in its place"),
    ] {
        let problems = problems(text);
        let line = problems.0[0].to_string();
        assert!(line.contains(expected), "expected: {expected}\nfound:    {problems}\nin:\n{text}");
        assert_eq!(problems.0[0].help.as_deref(), Some(help), "{line}");
    }
}

#[test]
fn a_slip_in_one_value_hides_no_other_problem() {
    let text = "[stop]\ngrace = 10s\nlader = []\n[flags]\nmmap = True\n[stop]\n[profiles.p]\nservers = ['x']\n";
    let lines: Vec<String> = problems(text).0.iter().map(ToString::to_string).collect();
    let places: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("configuration:")?.get(..3)).collect();
    assert_eq!(places, ["2:9", "3:1", "5:8", "6:2", "8:1"], "{lines:#?}");
}

#[test]
fn a_file_in_another_encoding_is_told_with_the_first_byte_that_is_not_utf_8() {
    let folder = std::env::temp_dir().join(format!("llama-warden-encoding-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let told = |bytes: &[u8]| {
        std::fs::write(folder.join("w.toml"), bytes).unwrap();
        let problems = ConfigSource::read("w.toml".as_ref(), &folder).unwrap_err();
        (problems.to_string(), problems.0[0].help.clone().unwrap_or_default(), problems.render(RenderStyle::Plain))
    };
    let (line, help, rendered) = told(b"[stop]\n# f\xfcr alle\n");
    assert_eq!(line, "w.toml:2:4: the byte 0xFC is not UTF-8, in Latin-1 `\u{fc}`");
    assert!(help.contains("iconv -f LATIN1") && rendered.contains("2 | # f"), "{help} {rendered}");
    let (line, help, _) = told(b"\xff\xfe[\0s\0");
    assert_eq!(line, "w.toml:1:1: the file is UTF-16, not UTF-8");
    assert!(help.contains("iconv -f UTF-16"), "{help}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn of_very_many_problems_the_first_are_shown() {
    let text: String = (0..8000).map(|n| format!("[[servers]]\nid = 's{n}'\nmodel = 'm'\nport = 8001\n")).collect();
    let problems = problems(&text);
    assert_eq!(problems.0.len(), 7999);
    for shown in [problems.to_string(), problems.render(RenderStyle::Plain)] {
        assert_eq!(shown.matches("port 8001 is taken twice").count(), 20);
        assert!(shown.ends_with("and 7979 more"), "{}", &shown[shown.len() - 100..]);
    }
    let kept = problems.within(500);
    assert!(kept.len() < 520 && kept.ends_with(" more") && kept.starts_with("configuration:8:8: "), "{kept}");
    assert_eq!(problems.0[7998].location.line_and_column(), Some((32_000, 8)));
    let long = format!("[stop]\ngrace = '{}'", "x".repeat(100_000));
    assert!(self::problems(&long).to_string().len() < 1200);
}

#[test]
fn every_glob_of_very_many_is_compared_with_very_many_servers() {
    let servers: String = (0..400).map(|n| format!("[[servers]]\nid = 's{n}'\nmodel = 'm'\ntier = 't'\n")).collect();
    let globs: String = (0..400).map(|n| format!("'z{n}*', 'z{n}',")).collect();
    let text = format!("{servers}[profiles.p]\nservers = [{globs}]\n");
    assert_eq!(problems(&text).0.len(), 800);
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
