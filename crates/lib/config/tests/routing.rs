//! The router's part of the configuration: its defaults, what a server overrides, and each mistake with its place.

#![expect(clippy::panic, reason = "tests end by panicking")]

use std::num::{NonZeroU16, NonZeroU32};
use std::path::Path;
use std::time::Duration;

use llama_warden_config::{
    ConfigProblem, ConfigSource, Configuration, Discovered, DiscoveredServer, Environment, HostEnvironment, MaxLoaded,
    Progress, RouterAddress,
};
use llama_warden_events::ServerId;
use serde_json::json;

fn parse(text: &str) -> Result<Configuration, Vec<ConfigProblem>> {
    let source = ConfigSource::text("/configuration", text);
    Configuration::parse(&source, &Environment::default()).map_err(|problems| problems.0)
}

fn valid(text: &str) -> Configuration {
    parse(text).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

#[track_caller]
fn assert_problem(text: &str, expected: &str) {
    let problems = parse(text).err().unwrap_or_default();
    let [problem] = &problems[..] else { panic!("not one problem, but {problems:#?} in:\n{text}") };
    assert!(problem.to_string().contains(expected), "expected: {expected}\nfound:    {problem}\nin:\n{text}");
    assert!(problem.help.is_some(), "no next step for: {problem}");
}

/// Two servers, `a` and `b`, each with these keys of `router`. Those of `a` are on line 4, those of `b` on line 8.
fn two(a: &str, b: &str) -> String {
    let server = |id: &str, keys: &str| format!("[[servers]]\nid = '{id}'\nmodel = 'm.gguf'\nrouter = {{{keys}}}\n");
    server("a", a) + &server("b", b)
}

#[test]
fn the_router_is_off_unless_it_is_told_where_to_listen() {
    let configuration = valid("");
    let router = configuration.router();
    assert_eq!((&router.listen, router.on_demand, router.open), (&RouterAddress::Off, true, false));
    assert_eq!((router.max_loaded, router.request_timeout), (MaxLoaded::Auto, None));
    assert_eq!((router.queue_timeout, router.ping_after), (Duration::from_secs(300), Some(Duration::from_secs(15))));
    assert_eq!((router.max_body, router.body_memory), (100 << 20, 256 << 20));
    assert!(router.groups.is_empty() && router.combinations.is_empty() && router.default_model.is_none());
    for (listen, expected) in [("run/r.sock", "/configuration/run/r.sock"), ("/r.sock", "/r.sock")] {
        let configuration = valid(&format!("[router]\nlisten = '{listen}'\n"));
        assert_eq!(configuration.router().listen, RouterAddress::Unix(Path::new(expected).into()));
    }
}

#[test]
fn a_server_overrides_what_the_router_says_for_all() {
    let shared = "[router]\nttl = '10m'\nqueue = 8\nconcurrency = 2\nprogress = 'comments'\n";
    let own = "ttl = '0s', queue = 9, concurrency = 'auto', progress = 'off', aliases = ['gpt'], keep = true, priority = -1, \
               evict-cost = 2, strip = ['top_p'], set = { temperature = 0.5 }, variants = { high = { k = { e = 'high' } } }";
    let fleet = valid(&format!("{shared}{}", two("", own))).resolve(None, &HostEnvironment { cpus: 1 }).unwrap();
    let [a, b] = ["a", "b"].map(|id| fleet.get(id).unwrap().router.clone());
    assert_eq!((a.ttl, a.queue, a.concurrency), (Some(Duration::from_secs(600)), 8, NonZeroU32::new(2)));
    assert_eq!((a.progress, a.priority, a.evict_cost, a.is_kept), (Progress::Comments, 0, 1.0, false));
    assert_eq!((b.ttl, b.queue, b.concurrency, b.progress), (None, 9, None, Progress::Off));
    assert_eq!((b.priority, b.evict_cost, b.is_kept, &b.aliases[..]), (-1, 2.0, true, &["gpt".to_owned()][..]));
    assert_eq!(json!(b.set), json!({ "temperature": 0.5 }));
    assert_eq!(json!(b.variants["high"]), json!({ "k": { "e": "high" } }));
    let canary = fleet.get("b").unwrap().canary(Path::new("/new"), 9);
    assert!(canary.router.aliases.is_empty() && canary.router.variants.is_empty());
}

#[test]
fn groups_and_combinations_name_servers_by_id_or_glob() {
    let text = "[router]\ncombinations = [['a', 'b*'], ['c']]\nmax-loaded = 2\n[router.groups.g]\nservers = ['b*']\nat-most = 0\n\
                exclusive = true\n[[servers]]\nid = 'c'\nmodel = 'm.gguf'\n";
    let configuration = valid(&format!("{text}{}", two("", "")));
    let router = configuration.router();
    let matching = |set: usize, id: &str| {
        let id = ServerId::new(id).unwrap();
        router.combinations[set].iter().any(|pattern| pattern.matches(&id))
    };
    assert_eq!([matching(0, "a"), matching(0, "b"), matching(0, "c"), matching(1, "c")], [true, true, false, true]);
    assert_eq!(router.max_loaded, MaxLoaded::AtMost(NonZeroU32::new(2).unwrap()));
    let group = &router.groups["g"];
    assert_eq!((group.at_most, group.is_exclusive, group.is_persistent), (None, true, false));
    assert!(group.contains(&ServerId::new("b").unwrap()) && !group.contains(&ServerId::new("a").unwrap()));
}

#[test]
fn a_bad_value_of_the_router_is_told_with_its_place() {
    for (line, expected) in [
        ("listen = '8080'", ":2:10: `router.listen` cannot be used: `8080` is not HOST:PORT"),
        ("listen = 8080", ":2:10: `router.listen` must be a string, not an integer"),
        ("listen = '127.0.0.1:9888'", ":2:10: port 9888 is taken twice"),
        ("listen = '~/r.sock'", ":2:10: only a shell expands `~`"),
        ("keys-file = '~/keys'", ":2:13: only a shell expands `~`"),
        ("max-loaded = 'all'", ":2:14: `router.max-loaded` is `all`"),
        ("max-loaded = -1", ":2:14: `router.max-loaded` is -1"),
        ("concurrency = 0", ":2:15: `router.concurrency` is 0"),
        ("queue-timeout = '0s'", ":2:17: `router.queue-timeout` is zero"),
        ("progress = 'text'", ":2:12: `router.progress` is `text`"),
        ("cors-origins = ['https://a.example/']", ":2:17: `router.cors-origins[0]` is `https://a.example/`"),
        ("cors-origins = ['*', 'a.example']", ":2:22: `router.cors-origins[1]` is `a.example`"),
        ("max-body = '300MiB'", ":2:12: `max-body` is larger than `body-memory`"),
        ("body-memory = '1MiB'", ":2:15: `max-body` is larger than `body-memory`"),
        ("max-body = '0'", ":2:12: `max-body` is 0"),
        ("default-model = 'aa'", ":2:17: no server, alias or variant is called `aa`"),
        ("combinations = ['a']", ":2:17: `router.combinations[0]` must be an array, not a string"),
        ("combinations = [['a'], []]", ":2:24: `router.combinations` has an empty set"),
        ("combinations = [['a'], ['c']]", ":2:25: `router.combinations` names the unknown server `c`"),
        ("combinations = [['c*']]", ":2:18: `router.combinations`: no server matches `c*`"),
        ("groups.g = { servers = ['c'] }", ":2:25: group `g` names the unknown server `c`"),
        ("groups.g = { servers = [] }", ":2:24: group `g` has an empty set"),
        ("groups.g = { at-most = 1 }", "group `g` has no key `servers`"),
        ("groups.'a b' = { servers = ['a'] }", "`a b` is not the name of a group"),
        (
            "groups.x.servers = ['a']\ngroups.y.servers = ['b', '*']",
            ":3:26: `a` is in two groups, `x` and `y`: configuration:2:21 and here",
        ),
        ("grops = {}", ":2:1: unknown key `router.grops`"),
    ] {
        assert_problem(&format!("[router]\n{line}\n{}", two("", "")), expected);
    }
    for (keys, expected) in [
        ("aliases = ['']", ":8:22: `servers[1].router.aliases[0]` is ``"),
        ("aliases = [' x']", ":8:22: `servers[1].router.aliases[0]` is ` x`"),
        ("alias = []", ":8:11: unknown key `servers[1].router.alias`"),
        ("evict-cost = -0.5", ":8:24: `servers[1].router.evict-cost` is -0.5"),
        ("evict-cost = inf", ":8:24: `servers[1].router.evict-cost` is inf"),
        ("strip = ['model']", ":8:20: `servers[1].router.strip[0]` is `model`"),
        ("set = { model = 'x' }", ":8:17: `model` of a request cannot be set"),
        ("set = { at = 1979-05-27 }", ":8:24: `servers[1].router.set.at` cannot be written in JSON"),
        ("set = 1", ":8:17: `servers[1].router.set` must be a table of JSON values, not an integer"),
        ("variants = { v = { model = 'x' } }", ":8:28: `model` of a request cannot be set"),
        ("variants = { '' = {} }", ":8:29: `` is not the name of a variant"),
    ] {
        assert_problem(&two("", keys), expected);
    }
}

#[test]
fn two_servers_that_share_a_name_are_both_named() {
    for (a, b, expected) in [
        ("aliases = ['x']", "aliases = ['x']", ":8:22: the name `x` is taken twice: here and configuration:4:22"),
        ("", "aliases = ['a']", ":8:22: the name `a` is taken twice: here and configuration:2:6"),
        ("aliases = ['x', 'x']", "", ":4:27: the name `x` is taken twice: here and configuration:4:22"),
        ("variants = { x = {} }", "aliases = ['x']", ":8:22: the name `x` is taken twice: here and configuration:4:28"),
        ("aliases = ['x']", "variants = { x = {} }", ":8:28: the name `x` is taken twice: here and configuration:4:22"),
    ] {
        assert_problem(&two(a, b), expected);
    }
}

#[test]
fn names_of_discovered_models_count_as_soon_as_they_are_known() {
    let text = "[models]\ndirs = ['d']\n[router]\ndefault-model = 'found'\ncombinations = [['found'], ['lost']]\n";
    let configuration = valid(&format!("{text}{}", two("aliases = ['found']", "")));
    let found = DiscoveredServer {
        id: ServerId::new("found").unwrap(),
        model: "/configuration/d/found.gguf".into(),
        port: NonZeroU16::new(9000).unwrap(),
        enabled: false,
        display_name: "found".to_owned(),
        tier: None,
        thinking: false,
        flags: Default::default(),
    };
    let discovered = Discovered { servers: vec![found], ..Discovered::default() };
    let problems = configuration.with_discovered(discovered).map(drop).unwrap_err();
    let lines: Vec<String> = problems.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "configuration:5:29: `router.combinations` names the unknown server `lost`",
            "configuration:9:22: the name `found` is taken twice: here and /configuration/d/found.gguf",
        ]
    );
}

#[test]
fn an_open_address_without_keys_and_a_server_that_sleeps_are_warned_of() {
    let text = "[router]\nlisten = '0.0.0.0:8080'\n[flags]\nsleep-idle-seconds = 60\n";
    let warnings: Vec<String> = valid(text).warnings().iter().map(ToString::to_string).collect();
    for expected in [
        "configuration:2:10: 0.0.0.0:8080 can be reached from other machines and there is no `keys-file`",
        "configuration:4:22: a server that sleeps by itself keeps its place",
    ] {
        assert!(warnings.iter().any(|warning| warning.contains(expected)), "{expected}: {warnings:#?}");
    }
    let open = valid(&text.replace("[flags]", "open = true\n[flags]")).warnings();
    assert!(!open.iter().any(|warning| warning.to_string().contains("other machines")));
}

#[test]
fn a_change_of_the_router_waits_for_the_next_start_and_one_of_a_server_needs_no_new_process() {
    let before = valid(&two("", ""));
    let listening = valid(&format!("[router]\nlisten = '127.0.0.1:8080'\n{}", two("", "")));
    assert_eq!(before.changes_at_restart(&listening), ["[router]"]);
    let named = valid(&two("aliases = ['x'], ttl = '1m'", ""));
    assert!(before.changes_at_restart(&named).is_empty());
    let [old, new] = [&before, &named].map(|configuration| configuration.servers().next().cloned().unwrap());
    assert!(old != new && !new.needs_new_process(&old));
}
