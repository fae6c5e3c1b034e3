//! What others have written becomes a configuration, and what does not is listed.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use llama_warden_import::{ImportedConfig, PresetError, SwapError, from_llama_swap, from_presets};
use toml::{Table, Value};

fn variable(name: &str) -> Option<String> {
    match name {
        "MODELS" => Some("/models".to_owned()),
        "API_KEY" => Some("sk-secret".to_owned()),
        _ => None,
    }
}

/// What a configuration sets by itself.
fn defaults() -> Vec<String> {
    ["ctx-size", "mmap"].map(str::to_owned).to_vec()
}

fn swapped(yaml: &str) -> (Table, Vec<String>) {
    let ImportedConfig { toml, left_out } =
        from_llama_swap(yaml, &defaults(), variable).unwrap_or_else(|error| panic!("{error}"));
    let table = toml.parse().unwrap_or_else(|error| panic!("{error}\n{toml}"));
    (table, left_out.into_iter().map(|left| left.place).collect())
}

fn server<'a>(table: &'a Table, id: &str) -> &'a Value {
    let servers = table["servers"].as_array().expect("servers");
    servers.iter().find(|server| server["id"].as_str() == Some(id)).unwrap_or_else(|| panic!("no {id} in {table}"))
}

/// Written for this test, with every kind of setting that llama-swap documents.
const SWAP: &str = r#"
healthCheckTimeout: 500
logLevel: info
startPort: 10001
sendLoadingState: true
globalTTL: 300
macros:
  "llama": >
    /opt/llama-server --port ${PORT}
  "ctx": 4096
  "args": "--ctx-size ${ctx}"
apiKeys: ["${env.API_KEY}"]
peers: { other: { proxy: "http://192.0.2.1" } }
somethingNew: 1
models:
  "org/coder:7b":
    macros: { ctx: 16384, temp: 0.7 }
    cmd: |
      # ${llama} has lines of its own
      ${llama} --model ${env.MODELS}/coder.gguf \
      ${args} --temp ${temp} -ngl 99 --jinja --lora a.gguf --lora b.gguf -x 3 --seed -1
    name: "Coder"
    description: "writes"
    env: ["CUDA_VISIBLE_DEVICES=0,1", "A=b=c"]
    ttl: 60
    unloadTimeout: 20
    aliases: ["gpt-4o-mini"]
    filters:
      stripParams: "temperature, top_p"
      setParams: { top_k: 5 }
      setParamsByID: { "${MODEL_ID}:high": { reasoning: { effort: high } }, "${MODEL_ID}:same": {}, "${MODEL_ID}": { n: 1 } }
    metadata:
      port: ${PORT}
      size: ${ctx}
      list: [1, 1.5, "${MODEL_ID}"]
    concurrencyLimit: 3
    cmdStop: kill ${PID}
    proxy: "http://127.0.0.1:9"
  "small":
    cmd: llama-server -m s.gguf --host 0.0.0.0 --port 9001 --alias tiny,wee --sleep-idle-seconds 30 --api-key secret
    unlisted: true
    ttl: -1
    checkEndpoint: none
  "container":
    cmd: docker run --name ${MODEL_ID} image
hooks: { on_startup: { preload: ["small"] } }
"#;

#[test]
fn a_file_of_llama_swap_becomes_servers_and_a_router() {
    let (table, _) = swapped(SWAP);
    let coder = server(&table, "org-coder-7b");
    let expected: Value = r#"v = { ctx-size = 16384, temp = 0.7, n-gpu-layers = 99, jinja = true, lora = ["a.gguf", "b.gguf"], seed = -1 }"#
        .parse::<Table>()
        .expect("valid")["v"]
        .clone();
    assert_eq!(coder["flags"], expected);
    assert_eq!(coder["args"], Value::from(vec!["-x", "3"]));
    for (key, value) in [
        ("binary", Value::from("/opt/llama-server")),
        ("model", "/models/coder.gguf".into()),
        ("display-name", "Coder".into()),
        ("enabled", false.into()),
    ] {
        assert_eq!(coder[key], value, "{key}");
    }
    assert!(coder.get("port").is_none(), "{coder}");
    assert_eq!(coder["env"]["A"].as_str(), Some("b=c"));
    assert_eq!(coder["stop"]["grace"].as_str(), Some("20s"));
    let router = &coder["router"];
    assert_eq!(router["aliases"], Value::from(vec!["org/coder:7b", "gpt-4o-mini", "org/coder:7b:same"]));
    assert_eq!(router["variants"]["org/coder:7b:high"]["reasoning"]["effort"].as_str(), Some("high"));
    assert_eq!((&router["ttl"], &router["concurrency"]), (&"60s".into(), &3.into()));
    assert_eq!((&router["set"]["n"], router["variants"].as_table().map(Table::len)), (&1.into(), Some(1)));
    assert_eq!((&router["strip"], &router["set"]["top_k"]), (&Value::from(vec!["temperature", "top_p"]), &5.into()));
    let metadata = router["metadata"].as_table().expect("a table");
    assert_eq!(metadata.keys().collect::<Vec<_>>(), ["description", "list", "size"]);
    assert_eq!(metadata["size"], 16384.into());

    let small = server(&table, "small");
    assert_eq!((&small["port"], &small["host"], &small["enabled"]), (&9001.into(), &"0.0.0.0".into(), &true.into()));
    assert_eq!((&small["router"]["ttl"], &small["router"]["hidden"]), (&"30s".into(), &true.into()));
    assert_eq!(small["router"]["aliases"], Value::from(vec!["tiny", "wee"]));
    assert_eq!(table["readiness"]["timeout"].as_str(), Some("500s"));
    assert_eq!((&table["router"]["ttl"], &table["router"]["progress"]), (&"300s".into(), &"comments".into()));
    assert_eq!(table["llama-server"]["first-port"], 10001.into());
    let group = &table["router"]["groups"]["default"];
    assert_eq!(group["servers"], Value::from(vec!["org-coder-7b", "small"]));
    assert_eq!((&group["at-most"], &group["exclusive"]), (&1.into(), &true.into()));
}

#[test]
fn what_has_no_counterpart_is_listed_and_no_secret_is_written() {
    let (table, left_out) = swapped(SWAP);
    let text = table.to_string();
    assert!(!text.contains("secret") && !text.contains('\0'), "{text}");
    assert_eq!(
        left_out,
        [
            "models.small: --api-key",
            "models.container",
            "apiKeys",
            "models.org/coder:7b.metadata.port",
            "models.org/coder:7b.proxy",
            "models.org/coder:7b.cmdStop",
            "logLevel",
            "peers",
            "somethingNew"
        ]
    );
}

#[test]
fn the_idle_time_of_a_preset_becomes_its_ttl() {
    let presets = "[a]\nmodel = a.gguf\nsleep-idle-seconds = 60\n[b]\nmodel = b.gguf\n";
    let ImportedConfig { toml, .. } =
        from_presets(presets, "llama-server", &defaults()).unwrap_or_else(|error| panic!("{error}"));
    let table: Table = toml.parse().unwrap_or_else(|error| panic!("{error}\n{toml}"));
    assert_eq!(server(&table, "a")["router"]["ttl"].as_str(), Some("60s"));
    assert!(server(&table, "b").get("router").is_none(), "{toml}");
}

#[test]
fn groups_and_the_matrix_say_what_may_run_together() {
    let models =
        "models: { a: { cmd: llama-server -m a }, b: { cmd: llama-server -m b }, c: { cmd: llama-server -m c } }\n";
    let groups = "groups: { g1: { swap: false, exclusive: false, persistent: true, members: [a, none] } }\n";
    for place in [groups.to_owned(), format!("routing: {{ router: {{ settings: {{ {} }} }} }}\n", groups.trim())] {
        let (table, left_out) = swapped(&format!("{models}{place}"));
        let groups = &table["router"]["groups"];
        assert_eq!(groups["g1"]["servers"], Value::from(vec!["a"]));
        assert_eq!((&groups["g1"]["at-most"], &groups["g1"]["persistent"]), (&0.into(), &true.into()));
        assert_eq!(groups["default"]["servers"], Value::from(vec!["b", "c"]));
        assert_eq!(left_out, ["groups.g1: none"]);
    }
    let matrix = "routing:\n  router:\n    use: matrix\n    settings:\n      matrix:\n        vars: { x: a }\n        \
                  evict_costs: { x: 50 }\n        sets: { one: \"x & b\", two: \"+one | b\", wrong: \"(a\" }\n  \
                  scheduler: { settings: { fifo: { priority: { b: 7 } } } }\n";
    let (table, left_out) = swapped(&format!("{models}{matrix}"));
    let sets = [vec!["a", "b"], vec!["b"], vec!["c"]].map(Value::from);
    assert_eq!(table["router"]["combinations"], Value::Array(sets.to_vec()));
    assert_eq!(server(&table, "a")["router"]["evict-cost"], Value::from(50.0));
    assert_eq!(server(&table, "b")["router"]["priority"], 7.into());
    assert_eq!(left_out, ["matrix.sets.wrong"]);
}

/// A command that worked gets no option that its author did not write.
#[test]
fn an_imported_server_runs_with_its_own_options_alone() {
    let expected: Table = "ctx-size = 'default'\nmmap = 'default'".parse().expect("valid");
    let (table, _) = swapped("models: { a: { cmd: llama-server -m a } }");
    assert_eq!((&table["flags"], server(&table, "a").get("flags")), (&Value::Table(expected.clone()), None));
    let presets = from_presets("[a]\nmodel = a.gguf\n", "llama-server", &defaults()).expect("presets");
    let table: Table = presets.toml.parse().expect("valid");
    assert_eq!(table["flags"], Value::Table(expected));
}

/// The file of every year.
#[test]
fn a_matrix_at_the_top_of_the_file_and_other_spellings_of_old_are_read() {
    let (table, left_out) = swapped(
        "models: { a: { cmd: llama-server -m a, filters: { strip_params: top_p } }, b: { cmd: llama-server -m b } }\n\
         matrix: { vars: { x: a }, evict_costs: { x: 3 }, sets: { one: x & b } }\nlogRequests: true\n",
    );
    let both = Value::Array(vec![vec!["a", "b"].into()]);
    assert_eq!((&table["router"]["combinations"], &table["router"]["access-log"]), (&both, &true.into()));
    assert!(table["router"].get("groups").is_none(), "{table}");
    let router = &server(&table, "a")["router"];
    assert_eq!((&router["strip"], &router["evict-cost"]), (&vec!["top_p"].into(), &3.0.into()));
    assert_eq!(left_out, [""; 0]);
}

#[test]
fn a_selector_of_one_model_is_an_alias_and_a_plain_stop_command_a_hook() {
    let (table, left_out) = swapped(
        "models: { a: { cmd: llama-server -m a, cmdStop: \"/usr/bin/logger 'a ends'\" } }\n\
         selectors: { one: { strategy: pin, targets: [a], name: One }, two: { strategy: pin, targets: [a, b] } }\n",
    );
    assert_eq!(server(&table, "a")["router"]["aliases"], vec!["one"].into());
    assert_eq!(server(&table, "a")["hooks"]["pre-stop"], vec!["/usr/bin/logger", "a ends"].into());
    assert_eq!(left_out, ["selectors.one.name", "selectors.two"]);
}

/// Also what llama-swap itself would refuse, or takes without a word.
#[test]
fn nothing_is_dropped_in_silence() {
    let (table, left_out) = swapped(
        "models:\n  a:\n    cmd: llama-server -m a --port=${PORT} --slot-save-path /slots/${PORT}\n    \
         aliases: [x, { id: y }]\n    env: [NONE, \"P=${PORT}\"]\n    name: on ${PORT}\n    ttl: soon\n    \
         metadata: { deep: { port: \"${PORT}\" } }\n    macros: 3\n\
         hooks: { on_startup: { preload: [b, a], more: 1 } }\nupstream: { more: 1 }\n\
         routing: { more: 1, router: { use: matrix, settings: { matrix: { sets: { s: a } }, groups: { g: { members: [a] } } } } }\n",
    );
    assert!(!table.to_string().contains('\0'), "{table}");
    assert_eq!((&server(&table, "a")["enabled"], server(&table, "a").get("flags")), (&true.into(), None));
    assert_eq!(server(&table, "a")["router"]["aliases"], vec!["x"].into());
    assert_eq!(
        left_out,
        [
            "models.a: --slot-save-path",
            "models.a.name",
            "hooks.on_startup.preload: b",
            "hooks.on_startup.more",
            "upstream.more",
            "routing.more",
            "routing.router.settings.groups",
            "models.a.env: NONE",
            "models.a.env: P",
            "models.a.metadata.deep",
            "models.a.ttl",
            "models.a.macros",
            "models.a.aliases",
        ]
    );
}

#[test]
fn presets_are_read_as_llama_server_reads_them() {
    let text = "[*]\nc = 8192\nflash-attn = off ; of every model\n[a]\nmodel = old.gguf\n[a]\nmodel = a.gguf # new\n\
                ctx-size = 512\nLLAMA_ARG_JINJA = on\n";
    let presets = from_presets(text, "llama-server", &[]).expect("presets");
    let table: Table = presets.toml.parse().expect("valid");
    let servers = table["servers"].as_array().expect("servers");
    assert_eq!((servers.len(), &servers[0]["model"]), (1, &"a.gguf".into()), "the last section of a name counts");
    let expected: Table = "ctx-size = 512\nflash-attn = false\njinja = true".parse().expect("valid");
    assert_eq!(servers[0]["flags"], Value::Table(expected), "an option may have two spellings");
}

#[test]
fn what_is_no_file_of_llama_swap_is_refused() {
    let error = |yaml: &str| from_llama_swap(yaml, &[], variable).expect_err("refused");
    assert!(matches!(error("models: [unclosed"), SwapError::Yaml(_)));
    for none in ["", "a: 1", "- a", "models: 3"] {
        assert!(matches!(error(none), SwapError::NoModels | SwapError::Yaml(_)), "{none}");
    }
    // A macro that means itself ends, and so does one that nobody knows.
    let (table, left_out) =
        swapped("macros: { m: \"${m}\" }\nmodels: { a: { cmd: \"llama-server -m ${m} --xx ${nobody}\" } }");
    assert_eq!(left_out, ["models.a: ${m}", "models.a: ${nobody}"]);
    assert_eq!(server(&table, "a")["flags"]["xx"].as_str(), Some("${nobody}"));
}

#[test]
fn presets_of_llama_server_become_servers() {
    let text = "version = 1\n; a comment\n[*]\nc = 8192\njinja = true\n\n[org/one:Q4]\nhf-repo = org/one:Q4\n\
                load-on-startup = true\nstop-timeout = 20\n\n[two]\nmodel = /m/two.gguf\nLLAMA_ARG_N_GPU_LAYERS = 12\nc = 4096\n\
                mmap = false\napi-key = x\n";
    let ImportedConfig { toml, left_out } = from_presets(text, "/opt/llama-server", &defaults()).expect("presets");
    let table: Table = toml.parse().expect("valid");
    let one = server(&table, "org-one-Q4");
    assert_eq!((&one["model"], &one["enabled"]), (&"hf:org/one:Q4".into(), &true.into()));
    assert_eq!((&one["flags"]["ctx-size"], &one["stop"]["grace"]), (&8192.into(), &"20s".into()));
    assert_eq!(one["router"]["aliases"], Value::from(vec!["org/one:Q4"]));
    let two = server(&table, "two");
    assert_eq!((&two["flags"]["ctx-size"], &two["flags"]["n-gpu-layers"]), (&4096.into(), &12.into()));
    assert_eq!((&two["flags"]["mmap"], &two["enabled"]), (&false.into(), &false.into()));
    assert_eq!(left_out.iter().map(|left| left.place.as_str()).collect::<Vec<_>>(), ["[two]: --api-key"]);
    assert_eq!(from_presets("version = 1\n", "x", &[]), Err(PresetError::NoModels));
    assert_eq!(
        from_presets("[a]\nnonsense\n", "x", &[]),
        Err(PresetError::Line { line: 2, text: "nonsense".to_owned() })
    );
}
