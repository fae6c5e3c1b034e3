//! What is written is a valid configuration, whatever the other file says, and nothing in it can grow without a limit.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use llama_warden_import::{ImportedConfig, PresetError, SwapError, from_llama_swap, from_presets};
use toml::{Table, Value};

/// The configuration and what was left out, as `place: because`.
fn swapped(yaml: &str) -> (Table, Vec<String>) {
    read(from_llama_swap(yaml, &[], |_| None).unwrap_or_else(|error| panic!("{error}")))
}

fn preset(text: &str) -> (Table, Vec<String>) {
    read(from_presets(text, "llama-server", &[]).unwrap_or_else(|error| panic!("{error}")))
}

fn read(ImportedConfig { toml, left_out }: ImportedConfig) -> (Table, Vec<String>) {
    let table: Table = toml.parse().unwrap_or_else(|error| panic!("{error}\n{toml}"));
    assert_valid(&table);
    (table, left_out.into_iter().map(|left| format!("{}: {}", left.place, left.because)).collect())
}

fn servers(table: &Table) -> Vec<Value> {
    table.get("servers").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn server(table: &Table, id: &str) -> Value {
    let found = servers(table).into_iter().find(|server| server["id"].as_str() == Some(id));
    found.unwrap_or_else(|| panic!("no {id} in {table}"))
}

/// The rules that a file of another program breaks most easily. The ports are those of the router and of the daemon.
fn assert_valid(table: &Table) {
    let (mut ports, mut names, mut sockets) = (BTreeSet::from([8080, 9888]), BTreeSet::new(), BTreeSet::new());
    let servers = servers(table);
    let ids: Vec<String> = servers.iter().map(|server| server["id"].as_str().expect("an id").to_owned()).collect();
    for id in &ids {
        assert!(!id.is_empty() && id.len() <= 64 && names.insert(id.clone()), "{id} in {table}");
    }
    for server in &servers {
        if let Some(port) = server.get("port").and_then(Value::as_integer) {
            assert!((1..=65535).contains(&port) && ports.insert(port), "{port} in {table}");
        }
        if let Some(host) = server.get("host").and_then(Value::as_str) {
            assert!(!host.ends_with(".sock") || sockets.insert(host.to_owned()), "{host} in {table}");
        }
        assert!(!server["model"].as_str().expect("a model").is_empty(), "{table}");
        for name in server.get("env").and_then(Value::as_table).into_iter().flatten().map(|(name, _)| name) {
            assert!(!name.is_empty() && !name.contains(['=', '\0']), "{name} in {table}");
        }
        let Some(router) = server.get("router") else { continue };
        let aliases = router.get("aliases").and_then(Value::as_array).cloned().unwrap_or_default();
        let aliases = aliases.iter().map(|alias| alias.as_str().expect("a text").to_owned());
        let variants = router.get("variants").and_then(Value::as_table).cloned().unwrap_or_default();
        for name in aliases.chain(variants.into_iter().map(|(name, _)| name)) {
            let is_name = !name.is_empty() && name.len() <= 256 && name.trim() == name;
            assert!(is_name && names.insert(name.clone()), "{name:?} in {table}");
        }
    }
    let mut grouped = BTreeSet::new();
    for (name, group) in table["router"].get("groups").and_then(Value::as_table).into_iter().flatten() {
        assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)));
        for id in group["servers"].as_array().expect("servers") {
            let id = id.as_str().expect("an id").to_owned();
            assert!(ids.contains(&id) && grouped.insert(id.clone()), "{id} in {table}");
        }
    }
}

/// Ten times as much with each line.
fn nested(first: &str, lines: usize) -> String {
    let line = |number: usize| format!("  m{number}: '{}'\n", format!("${{m{}}} ", number - 1).repeat(10));
    format!("macros:\n  m0: '{first}'\n{}", (1..=lines).map(line).collect::<String>())
}

#[test]
fn macros_within_macros_end_at_a_limit_that_names_the_macro_and_its_place() {
    let refused =
        |yaml: &str, asked: &str| match from_llama_swap(yaml, &[], |_| Some("y".repeat(1000))).expect_err("too much") {
            SwapError::Macros { place, name, .. } => assert_eq!(format!("{place} {name}"), asked),
            other => panic!("{other}"),
        };
    let model = "models: { a: { cmd: 'llama-server -m x.gguf ${m7}' } }";
    // An empty one is no less work, and neither are variables.
    for first in ["xxxxxxxxxx", "", "${env.LONG}", "${nobody}"] {
        refused(&format!("{}{model}", nested(first, 7)), "models.a.cmd m7");
    }
    let own = nested("x", 7).replace('\n', "\n    ");
    refused(&format!("models:\n  a:\n    {own}\n    cmd: llama-server -m x ${{m7}}\n"), "models.a.cmd m7");
    for (rest, asked) in [
        ("models: { a: { cmd: llama-server -m x, metadata: { k: [ { k: '${m7}' } ] } } }", "models.a.metadata m7"),
        ("models: { a: { cmd: llama-server -m x, filters: { setParams: { '${m7}': 1 } } } }", "models.a.filters m7"),
        (
            "models: { a: { cmd: llama-server -m x } }\nhooks: { on_startup: { preload: ['${m7}'] } }",
            "hooks.on_startup m7",
        ),
        ("models: { a: { cmd: llama-server -m x } }\nmatrix: { sets: { s: '${m7}' } }", "matrix.sets m7"),
        ("models: { a: { cmd: llama-server -m x } }\nrouting: { router: { use: '${m7}' } }", "routing.router m7"),
    ] {
        refused(&format!("{}{rest}", nested("x", 7)), asked);
    }
    // A macro that is a list of lists, and one that means itself twice.
    let lists: String = (1..8).map(|n| format!("  m{n}: [{}]\n", format!("'${{m{}}}',", n - 1).repeat(10))).collect();
    let lists = format!(
        "macros:\n  m0: []\n{lists}models: {{ a: {{ cmd: llama-server -m x, metadata: {{ k: '${{m7}}' }} }} }}"
    );
    refused(&lists, "models.a.metadata m7");
    refused("macros: { m: '${m} ${m}' }\nmodels: { a: { cmd: 'llama-server ${m}' } }", "models.a.cmd m");
    let message = from_llama_swap(&format!("{}{model}", nested("x", 7)), &[], |_| None).expect_err("too much");
    let expected = "models.a.cmd: with `${m7}`, macros write more than 128 KiB into it; shorten it, or use fewer macros within \
                    macros";
    assert_eq!(message.to_string(), expected);
}

#[test]
fn a_whole_file_of_macros_ends_at_a_limit_too() {
    let models: String = (0..300).map(|n| format!("  a{n}: {{ cmd: 'llama-server -m x ${{m}}' }}\n")).collect();
    let yaml = |bytes: usize| format!("macros: {{ m: '{}' }}\nmodels:\n{models}", "x".repeat(bytes));
    assert!(matches!(
        from_llama_swap(&yaml(100_000), &[], |_| None),
        Err(SwapError::Macros { limit: "16 MiB into the file", .. })
    ));
    let (table, left_out) = swapped(&yaml(1000));
    assert_eq!((servers(&table).len(), left_out), (300, Vec::new()));
}

#[test]
fn what_the_value_itself_says_and_macros_of_a_usual_size_are_no_matter_of_the_limit() {
    let long = "y".repeat(200_000);
    let (table, _) = swapped(&format!(
        "{}models: {{ a: {{ cmd: 'llama-server -m x --grammar ${{m3}}', metadata: {{ k: {long} }} }} }}",
        nested("x", 3)
    ));
    assert_eq!(server(&table, "a")["router"]["metadata"]["k"].as_str(), Some(long.as_str()));
    assert_eq!(server(&table, "a")["flags"]["grammar"].as_str(), Some("x"));
}

#[test]
fn shared_options_of_presets_are_written_up_to_a_limit() {
    let sections: String = (0..2000).map(|number| format!("[s{number}]\nmodel = a\n")).collect();
    let text = format!("[*]\ngrammar = {}\n{sections}", "x".repeat(10_000));
    assert_eq!(from_presets(&text, "x", &[]), Err(PresetError::TooLong { models: 2000 }));
}

#[test]
fn a_port_or_a_socket_of_two_models_is_the_first_ones() {
    let (table, left_out) = swapped(
        "models:\n  a: { cmd: llama-server --port 9999 -m a }\n  b: { cmd: llama-server --port=9999 -m b }\n  \
         c: { cmd: llama-server --port 8080 -m c }\n  d: { cmd: llama-server --port 9888 -m d }\n  \
         e: { cmd: llama-server --host /run/x.sock -m e }\n  f: { cmd: llama-server --host /run/x.sock -m f }\n  \
         g: { cmd: llama-server --port 0 -m g }\n  h: { cmd: llama-server --port 70000 --host 'a b' -m h }\n",
    );
    let ports: Vec<_> = servers(&table).iter().map(|server| server.get("port").and_then(Value::as_integer)).collect();
    assert_eq!(ports, [Some(9999), None, None, None, None, None, None, None]);
    let free = "has this port already; this server gets a free one from llama-warden";
    assert_eq!(left_out[0], format!("models.b: --port 9999: models.a {free}"));
    assert_eq!(left_out[1], format!("models.c: --port 8080: the router of this file {free}"));
    assert_eq!(left_out[2], format!("models.d: --port 9888: the daemon {free}"));
    assert!(left_out[3].starts_with("models.f: --host /run/x.sock: models.e has this socket already"), "{left_out:?}");
    assert_eq!(left_out[4], "models.h: --port: `70000` is no port from 1 to 65535");
    assert!(left_out[5].starts_with("models.h: --host a b: it is neither"), "{left_out:?}");
    assert_eq!(left_out.len(), 6);
    let (table, left_out) = preset("[a]\nmodel = a\nport = 9999\n[b]\nmodel = b\nport = 9999\n");
    assert_eq!((server(&table, "a")["port"].as_integer(), server(&table, "b").get("port")), (Some(9999), None));
    assert_eq!(left_out, [format!("[b]: --port 9999: [a] {free}")]);
}

#[test]
fn a_first_port_leaves_one_for_each_server() {
    let models = "models: { a: { cmd: llama-server -m a }, b: { cmd: llama-server -m b } }";
    let (table, left_out) = swapped(&format!("{models}\nstartPort: 65532"));
    assert_eq!((table["llama-server"]["first-port"].as_integer(), left_out.len()), (Some(65532), 0));
    let (table, left_out) = swapped(&format!("{models}\nstartPort: 65533"));
    assert!(table.get("llama-server").is_none(), "{table}");
    assert_eq!(left_out, ["startPort: fewer ports than servers are left from there up to 65535"]);
}

/// The ports that are never given to a server are those of the configuration itself.
#[test]
fn the_daemon_listens_where_the_default_configuration_says() {
    let defaults: Table = include_str!("../../../../config/default.toml").parse().expect("valid");
    assert_eq!(defaults["daemon"]["listen"].as_str(), Some("127.0.0.1:9888"));
    assert_eq!(swapped("models: {}").0["router"]["listen"].as_str(), Some("127.0.0.1:8080"));
}

#[test]
fn a_name_means_one_server_and_ids_come_first() {
    let (table, left_out) = swapped(
        "models:\n  a: { cmd: llama-server -m a, aliases: [b, x, x, ' y', a], filters: { setParamsByID: { x: { n: 1 }, b: { n: 2 } } } }\n  \
         b: { cmd: llama-server -m b, aliases: [x, org/c] }\n  org/c: { cmd: llama-server -m c }\n  org-c: { cmd: llama-server -m d }\n  \
         '': { cmd: llama-server -m e }\nselectors: { b: { strategy: pin, targets: [a] }, s: { strategy: pin, targets: [org/c] } }\n",
    );
    let ids: Vec<_> = servers(&table).iter().map(|server| server["id"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(ids, ["a", "b", "org-c-2", "org-c", "model"]);
    assert_eq!(server(&table, "org-c-2")["router"]["aliases"], vec!["org/c", "s"].into());
    let variants = server(&table, "a")["router"]["variants"].as_table().cloned().expect("a table");
    assert_eq!(variants.keys().collect::<Vec<_>>(), ["x"]);
    let places: Vec<&str> = left_out.iter().map(|line| line.split(": has").next().expect("a place")).collect();
    let no_name = "no request can ask for it: a name has 1 to 256 bytes, no control characters and no blanks around it";
    let has = "has this name already; give it to one of them";
    assert_eq!(
        places,
        [
            format!("models: \"\": {no_name}"),
            format!("models.a.aliases: b: models.b {has}"),
            format!("models.a.aliases: \" y\": {no_name}"),
            format!("models.b.aliases: x: models.a {has}"),
            format!("models.b.aliases: org/c: models.org/c {has}"),
            format!("selectors: b: models.b {has}"),
            format!("models.a.filters.setParamsByID: b: models.b {has}"),
        ]
    );
    let (table, left_out) = preset("[a]\nmodel = a\nalias = b,x\n[b]\nmodel = b\nalias = x\n");
    assert_eq!(server(&table, "a")["router"]["aliases"], vec!["x"].into());
    assert_eq!(left_out, [format!("[a]: alias: b: [b] {has}"), format!("[b]: alias: x: [a] {has}")]);
}

#[test]
fn a_server_is_in_one_group_and_groups_have_names() {
    let (table, left_out) = swapped(
        "models: { a: { cmd: llama-server -m a, aliases: [x] }, b: { cmd: llama-server -m b }, c: { cmd: llama-server -m c } }\n\
         groups: { 'one two': { members: [a, x] }, default: { members: [x, b], swap: 3, more: 1 }, none: 1 }\n",
    );
    let groups = &table["router"]["groups"];
    assert_eq!(groups["one-two"]["servers"], vec!["a"].into());
    assert_eq!(
        (&groups["default"]["servers"], &groups["default-2"]["servers"]),
        (&vec!["b"].into(), &vec!["c"].into())
    );
    assert_eq!(
        left_out,
        [
            "groups.default: x: it is in groups.one two, and a server has one group; `combinations` may have it in several",
            "groups.default.swap: its value is neither true nor false",
            "groups.default.more: llama-warden knows no such setting",
            "groups.none: its value is no map",
        ]
    );
}

#[test]
fn values_that_no_configuration_has_are_left_out_with_the_reason() {
    let (table, left_out) = swapped(
        "globalTTL: 99999999999\nstartPort: 0\nsendLoadingState: maybe\nmodels:\n  a:\n    cmd: llama-server -m a --verbose --verbose --models-dir x \
         --model --sleep-idle-seconds soon --foo=--bar --lora a --lora b --lora\n    \
         env: ['=x', 'A=1', \"N=\\0\"]\n    name: \"two\\nlines\"\n    ttl: abc\n    unloadTimeout: 99999999999999999999\n    \
         concurrencyLimit: 4294967296\n    aliases: one\n    metadata: { ok: 1 }\n    \
         filters: { stripParams: 'model, top_p', setParams: { model: x }, more: 1 }\n\
         matrix: { vars: { v: [a] }, evict_costs: { a: -1, b: 1 }, sets: { s: a }, more: 1 }\n\
         routing: { scheduler: { settings: { fifo: { priority: { a: 9999999999, b: 1 } } } } }\n",
    );
    let server = server(&table, "a");
    let expected: Table = "verbose = true\nlora = ['a', 'b']".parse().expect("valid");
    assert_eq!((&server["flags"], &server["args"]), (&Value::Table(expected), &vec!["--foo", "--bar"].into()));
    assert_eq!(
        (server["display-name"].as_str(), server["env"].as_table().map(Table::len)),
        (Some("two lines"), Some(1))
    );
    assert_eq!(
        server["router"],
        "v = { strip = ['top_p'], metadata = { ok = 1 } }".parse::<Table>().expect("valid")["v"]
    );
    let seconds = "its value is no number of seconds from 0 to 31536000, which is a year";
    let expected = [
        "models.a: --models-dir: each server has one model; `models.dirs` names folders of models".to_owned(),
        "models.a: --model: it has no value".to_owned(),
        format!("models.a: --sleep-idle-seconds: {seconds}"),
        "routing.scheduler.settings.fifo.priority.a: its value is no number from -2147483648 to 2147483647".to_owned(),
        "routing.scheduler.settings.fifo.priority.b: there is no such model".to_owned(),
        "matrix.vars.v: its value is no text".to_owned(),
        "matrix.evict_costs.a: its value is no number from 0 up".to_owned(),
        "matrix.evict_costs.b: there is no such server".to_owned(),
        "matrix.more: llama-warden knows no such setting".to_owned(),
        "models.a.name: it has a line break or a NUL character, for each of which a blank is written".to_owned(),
        "models.a.env: =x: the variable has no name".to_owned(),
        "models.a.env: N: a variable has no NUL character in its name or its value".to_owned(),
        "models.a.filters.setParams.model: a request keeps the model that it asks for; an alias gives a server another name".to_owned(),
        "models.a.filters.stripParams: model: a request keeps the model that it asks for".to_owned(),
        format!("models.a.ttl: {seconds}"),
        format!("models.a.unloadTimeout: {seconds}"),
        "models.a.concurrencyLimit: its value is no number from 0 to 4294967295".to_owned(),
        "models.a.aliases: its value is no list of texts, or what is listed here is none".to_owned(),
        "models.a.filters.more: llama-warden knows no such setting".to_owned(),
        format!("globalTTL: {seconds}"),
        "startPort: its value is no port from 1 to 65535".to_owned(),
        "sendLoadingState: its value is neither true nor false".to_owned(),
    ];
    let (mut left_out, mut expected) = (left_out, expected.to_vec());
    left_out.sort();
    expected.sort();
    assert_eq!(left_out, expected);
}

#[test]
fn a_command_that_no_server_can_run_is_left_out_with_the_reason() {
    for (command, because) in [
        (
            "cmd: \"llama-server -m 'x y\"",
            "its command cannot be read: a quote in it is never closed: 'x y; close it, or",
        ),
        (
            "cmd: 'llama-server -m \"x \\\" '",
            "its command cannot be read: a quote in it is never closed: \"x \\\" ; close it",
        ),
        ("cmd: \"llama-server -m 'a b' --grammar '0123456789012345678901234567890'' \"", "is never closed: ' ; close"),
        (
            "cmd: \"llama-server -m \\\"'\\\" it's 0123456789012345678901234567890\"",
            "closed: 's 012345678901234567890123456…; close",
        ),
        (
            "cmd: docker run x",
            "it runs `docker`, and only a llama-server is launched; a script of that name may wrap it",
        ),
        ("cmd: [llama-server]", "it has no text `cmd`, which names the program"),
        ("name: x", "it has no text `cmd`, which names the program"),
        ("cmd: '  '", "its `cmd` is empty"),
        (
            "cmd: \"llama-server -m 'a\\rb'\"",
            "its command cannot be read: a word of it has a line break or a NUL character",
        ),
        ("cmd: llama-server --port ${PORT}", "its command names no model; `-m FILE` or `-hf ORG/REPO` does"),
        ("cmd: llama-server -m ''", "the name of its model is empty; `-m FILE` or `-hf ORG/REPO` does"),
        ("cmd: llama-server -hf x", "`hf:x` is no repository of Hugging Face, such as hf:ORG/REPO:QUANT"),
        (
            "cmd: llama-server -m https://x/y.gguf",
            "`https://x/y.gguf` is a URL, and a model is a file or a repository; `-m",
        ),
    ] {
        let (table, left_out) = swapped(&format!("models:\n  a:\n    {command}\n  b: {{ cmd: llama-server -m b }}\n"));
        assert_eq!(servers(&table).len(), 1, "{command}");
        assert!(left_out.len() == 1 && left_out[0].contains(because), "{left_out:?} is not {because}");
        assert!(left_out[0].starts_with("models.a: "), "{left_out:?}");
    }
    let (_, left_out) = swapped("models: { a: { cmd: llama-server -m a, cmdStop: \"stop 'it\" } }");
    assert!(left_out[0].starts_with("models.a.cmdStop: it cannot be read: a quote in it is never closed: 'it"));
    let (table, left_out) =
        preset("[org/repo:Q4]\nc = 1\n[a]\nc = 1\n[b]\nmodel =\n[c]\nmodel = c\nstop-timeout = soon\n");
    assert_eq!(server(&table, "org-repo-Q4")["model"].as_str(), Some("hf:org/repo:Q4"));
    assert_eq!(
        left_out,
        [
            "[a]: its command names no model; `-m FILE` or `-hf ORG/REPO` does",
            "[b]: --model: it has no value",
            "[b]: its command names no model; `-m FILE` or `-hf ORG/REPO` does",
            "[c]: stop-timeout: its value is no number of seconds from 0 to 31536000, which is a year",
        ]
    );
}

#[test]
fn parentheses_and_lists_of_any_depth_are_refused_and_break_nothing() {
    let deep = format!("{}a{}", "(".repeat(300_000), ")".repeat(300_000));
    let (_, left_out) =
        swapped(&format!("models: {{ a: {{ cmd: llama-server -m a }} }}\nmatrix: {{ sets: {{ s: '{deep}' }} }}"));
    assert!(left_out.len() == 1 && left_out[0].len() < 200, "{left_out:?}");
    let levels = |count: usize| format!("{}{}", "[".repeat(count), "]".repeat(count));
    let (table, left_out) = swapped(&format!(
        "models: {{ a: {{ cmd: llama-server -m a, metadata: {{ deep: {}, flat: {} }} }} }}",
        levels(50),
        levels(30)
    ));
    assert_eq!(left_out, ["models.a.metadata.deep: it has too many levels of lists and maps"]);
    assert!(server(&table, "a")["router"]["metadata"].get("flat").is_some(), "{table}");
    let list = |number: usize| levels(50).replacen("[]", &format!("['${{m{}}}']", number - 1), 1);
    let macros: String = (1..30).map(|number| format!("  m{number}: {}\n", list(number))).collect();
    let yaml = format!(
        "macros:\n  m0: 1\n{macros}models: {{ a: {{ cmd: llama-server -m a, metadata: {{ deep: '${{m29}}' }} }} }}"
    );
    let error = from_llama_swap(&yaml, &[], |_| None).expect_err("too deep");
    let begin = "models.a.metadata: with `${m29}`, macros write more than 128 levels of lists and maps into it; ";
    assert!(error.to_string().starts_with(begin), "{error}");
}
