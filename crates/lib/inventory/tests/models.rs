//! Models in folders, and what becomes of them.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use llama_warden_config::{ConfigSource, Environment, HostEnvironment};
use llama_warden_events::ServerId;
use llama_warden_inventory::{
    DiscoveryOutcome, FormerModels, Inventory, KeptServer, KeptServers, LoadedConfig, ModelFolders, discover_servers,
    search, word,
};
use llama_warden_tiny_gguf::{Damage, TinyModel};
use tempfile::TempDir;

/// A folder with a model for each name.
fn folder(names: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary directory");
    for name in names {
        TinyModel::new(*name).write(&folder.path().join(format!("{name}.gguf"))).expect("writable");
    }
    folder
}

fn parse(text: &str, folder: &Path) -> LoadedConfig {
    let text = text.replace("FOLDER", &folder.to_string_lossy());
    let source = ConfigSource::text(folder, text);
    LoadedConfig::parse(&source, Environment::default()).unwrap_or_else(|failure| panic!("{failure:?}"))
}

/// A first port with some free ones after it.
fn first_port() -> u16 {
    let held = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    held.local_addr().expect("it is bound").port().min(60_000)
}

fn find(loaded: &LoadedConfig, enabled: &[&Path], kept: &KeptServers) -> DiscoveryOutcome {
    let enabled = enabled.iter().map(|path| path.to_path_buf()).collect();
    let folders = ModelFolders { enabled, ..ModelFolders::of(loaded) };
    discover_servers(&loaded.configuration, &folders, kept).unwrap_or_else(|failure| panic!("{failure:?}"))
}

fn ids(findings: &DiscoveryOutcome) -> Vec<&str> {
    findings.discovered.servers.iter().map(|server| server.id.as_str()).collect()
}

#[test]
fn models_become_servers_that_are_enabled_where_their_folder_was_named() {
    let (named, configured) = (folder(&["alpha-1B"]), folder(&["beta-1B"]));
    TinyModel::new("x").write_damaged(&named.path().join("bad-1B.gguf"), Damage::WrongMagic).expect("writable");
    let loaded = parse("[models]\ndirs = ['FOLDER']", configured.path());
    let findings = find(&loaded, &[named.path()], &KeptServers::new());
    assert_eq!(ids(&findings), ["alpha_1b_f32", "beta_1b_f32"]);
    let enabled: Vec<_> = findings.discovered.servers.iter().map(|server| server.enabled).collect();
    assert_eq!(enabled, [true, false]);
    assert_eq!(findings.discovered.servers[0].tier.as_deref(), Some("F32"));
    assert_eq!(findings.discovered.servers[0].display_name, "alpha-1B (F32)");
    let problems: Vec<_> = findings.report.problems.iter().map(|problem| word(problem.reason)).collect();
    assert_eq!(problems, ["not-gguf"]);
    let configuration = Arc::unwrap_or_clone(loaded.configuration).with_discovered(findings.discovered).expect("valid");
    let fleet = configuration.resolve(None, &HostEnvironment { cpus: 1 }).expect("no profile");
    assert_eq!(fleet.iter().filter(|spec| spec.enabled).count(), 1);
}

#[test]
fn a_configured_server_wins_over_the_model_that_it_runs_and_over_its_own_id() {
    let models = folder(&["alpha-1B", "beta-1B", "gamma-1B"]);
    let text = "[models]\ndirs = ['FOLDER']\n\
                [[servers]]\nid = 'mine'\nmodel = './../FOLDER/alpha-1B.gguf'\nport = 4001\n\
                [[servers]]\nid = 'beta_1b_f32'\nmodel = 'elsewhere.gguf'\ntier = 'own'\n";
    std::os::unix::fs::symlink(models.path(), models.path().join("link")).expect("writable");
    let text = text.replace("./../FOLDER", "link");
    let loaded = parse(&text, models.path());
    let findings = find(&loaded, &[], &KeptServers::new());
    assert_eq!(ids(&findings), ["gamma_1b_f32"]);
    let runs: Vec<_> = findings
        .report
        .models
        .iter()
        .map(|known| (known.server.as_ref().map(ServerId::as_str), known.model.port))
        .collect();
    assert_eq!(runs[..2], [(Some("mine"), Some(4001)), (None, None)]);
    let configuration = Arc::unwrap_or_clone(loaded.configuration).with_discovered(findings.discovered).expect("valid");
    let tiers: Vec<_> = configuration.servers().map(|spec| spec.tier.clone().unwrap_or_default()).collect();
    assert_eq!(tiers, ["F32", "own", "F32"].map(Arc::<str>::from));
}

#[test]
fn a_model_outside_the_folders_has_the_tier_of_its_header() {
    let models = folder(&["alpha-1B"]);
    let loaded =
        parse("[[servers]]\nid = 'a'\nmodel = 'alpha-1B.gguf'\n[[servers]]\nmodel = 'gone.gguf'", models.path());
    let findings = find(&loaded, &[], &KeptServers::new());
    assert_eq!(findings.discovered.tiers, [(models.path().join("alpha-1B.gguf"), "F32".to_owned())].into());
}

/// The ports of an outcome, by id.
fn ports(outcome: &DiscoveryOutcome) -> BTreeMap<&str, u16> {
    outcome.kept.iter().map(|(id, server)| (id.as_str(), server.port)).collect()
}

#[test]
fn a_port_stays_with_its_model_whatever_comes_and_goes() {
    let models = folder(&["beta-1B"]);
    let first = first_port();
    let loaded = parse(&format!("[llama-server]\nfirst-port = {first}\n[models]\ndirs = ['FOLDER']"), models.path());
    let before = find(&loaded, &[], &KeptServers::new());
    TinyModel::new("a").write(&models.path().join("alpha-1B.gguf")).expect("writable");
    let both = find(&loaded, &[], &before.kept);
    let kept = ports(&both);
    assert_eq!((kept.len(), kept["beta_1b_f32"]), (2, ports(&before)["beta_1b_f32"]));
    assert_ne!(kept["alpha_1b_f32"], kept["beta_1b_f32"]);
    fs::remove_file(models.path().join("beta-1B.gguf")).expect("it is there");
    TinyModel::new("c").write(&models.path().join("gamma-1B.gguf")).expect("writable");
    let others = find(&loaded, &[], &both.kept);
    assert_eq!(ports(&others)["beta_1b_f32"], kept["beta_1b_f32"], "kept for when it comes back");
    assert!(others.kept["beta_1b_f32"].gone_since.is_some() && others.kept["alpha_1b_f32"].gone_since.is_none());
    assert!(![kept["alpha_1b_f32"], kept["beta_1b_f32"]].contains(&ports(&others)["gamma_1b_f32"]));
}

#[test]
fn a_port_of_a_model_that_went_long_ago_is_free_again() {
    let models = folder(&["alpha-1B"]);
    let first = first_port();
    let loaded = parse(&format!("[llama-server]\nfirst-port = {first}\n[models]\ndirs = ['FOLDER']"), models.path());
    let port = ports(&find(&loaded, &[], &KeptServers::new()))["alpha_1b_f32"];
    let gone = |since| KeptServer { port, model: None, gone_since: Some(since) };
    let kept = |since| KeptServers::from([("old".parse().expect("valid"), gone(since))]);
    let long_ago = find(&loaded, &[], &kept(0));
    assert_eq!(ports(&long_ago), [("alpha_1b_f32", port)].into());
    let a_moment_ago = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() - 60;
    assert_ne!(ports(&find(&loaded, &[], &kept(a_moment_ago)))["alpha_1b_f32"], port);
}

#[test]
fn a_server_without_a_port_keeps_the_one_that_it_was_given_whatever_stands_before_it() {
    let first = first_port();
    let fleet = |servers: &str, kept: &KeptServers| {
        let loaded = parse(&format!("[llama-server]\nfirst-port = {first}\n{servers}"), Path::new("/m"));
        let outcome = find(&loaded, &[], kept);
        (outcome.discovered.ports, outcome.kept)
    };
    let (a, b, c) = ("[[servers]]\nmodel = 'a'\n", "[[servers]]\nmodel = 'b'\n", "[[servers]]\nmodel = 'c'\n");
    let (before, kept) = fleet(&format!("{a}{b}"), &KeptServers::new());
    assert!(before["a"] < before["b"], "in the order of the file");
    let (after, kept) = fleet(&format!("{c}{b}{a}"), &kept);
    assert_eq!((after["a"], after["b"]), (before["a"], before["b"]));
    // Another server that names the port of one takes it: what is written wins.
    let written = format!("[[servers]]\nid = 'd'\nmodel = 'd'\nport = {}\n", before["a"]);
    let (moved, _) = fleet(&format!("{written}{a}{b}"), &kept);
    assert!(moved["d"] == before["a"] && moved["a"] != before["a"] && moved["b"] == before["b"], "{moved:?}");
    let (back, _) = fleet(b, &kept);
    assert_eq!(back["b"], before["b"]);
}

#[test]
fn a_model_keeps_its_id_whatever_becomes_of_its_namesakes() {
    let models = tempfile::tempdir().expect("a temporary directory");
    let write = |folder: &str| {
        fs::create_dir_all(models.path().join(folder)).expect("writable");
        TinyModel::new("same-1B").write(&models.path().join(folder).join("same-1B.gguf")).expect("writable");
    };
    let loaded = parse("[models]\ndirs = ['FOLDER']", models.path());
    write("a");
    let alone = find(&loaded, &[], &KeptServers::new());
    write("b");
    let both = find(&loaded, &[], &alone.kept);
    assert_eq!((ids(&alone), ids(&both)), (vec!["same_1b_f32"], vec!["same_1b_f32", "same_1b_f32_b"]));
    fs::remove_file(models.path().join("a/same-1B.gguf")).expect("it is there");
    let second = find(&loaded, &[], &both.kept);
    assert_eq!(ids(&second), ["same_1b_f32_b"]);
    write("a");
    assert_eq!(ids(&find(&loaded, &[], &second.kept)), ids(&both), "by its path");
    assert_eq!(ids(&find(&loaded, &[], &KeptServers::new())), ["same_1b_f32_a", "same_1b_f32_b"]);
}

#[test]
fn a_new_model_gets_an_id_that_no_other_one_keeps() {
    let models = folder(&["alpha-1B", "beta-1B"]);
    let loaded = parse("[models]\ndirs = ['FOLDER']", models.path());
    let server = KeptServer { port: 9001, model: Some(models.path().join("alpha-1B.gguf")), gone_since: None };
    let kept = KeptServers::from([("beta_1b_f32".parse().expect("valid"), server)]);
    assert_eq!(ids(&find(&loaded, &[], &kept)), ["beta_1b_f32", "beta_1b_f32_2"]);
}

#[test]
fn a_folder_that_has_lost_all_its_models_changes_nothing() {
    let (one, two) = (folder(&["alpha-1B", "beta-1B"]), folder(&["gamma-1B"]));
    let text = format!(
        "[models]\ndirs = ['FOLDER', '{}']\n[[servers]]\nid = 'mine'\nmodel = 'FOLDER/beta-1B.gguf'",
        two.path().display()
    );
    let before = Inventory::scan_again(parse(&text, one.path()), &KeptServers::new(), None).expect("valid");
    let again = |former| {
        let next = Inventory::scan_again(parse(&text, one.path()), &before.kept, former).expect("valid");
        let servers = next.loaded.configuration.servers();
        let servers: Vec<_> =
            servers.map(|spec| format!("{} {}", spec.id, spec.tier.as_deref().unwrap_or("-"))).collect();
        servers
    };
    let former = FormerModels { models: &before.models, configuration: &before.loaded.configuration };
    let all = ["mine F32", "alpha_1b_f32 F32", "gamma_1b_f32 F32"];
    for name in ["alpha-1B.gguf", "beta-1B.gguf"] {
        fs::remove_file(one.path().join(name)).expect("it is there");
    }
    assert_eq!(again(Some(former)), all);
    assert_eq!(again(None), ["mine -", "gamma_1b_f32 F32"], "by force");
    TinyModel::new("d").write(&one.path().join("delta-1B.gguf")).expect("writable");
    assert_eq!(again(Some(former)), ["mine F32", "delta_1b_f32 F32", "gamma_1b_f32 F32"], "the folder is there");
}

#[test]
fn a_port_that_is_taken_is_not_given() {
    let models = folder(&["alpha-1B"]);
    let held = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let busy = held.local_addr().expect("it is bound").port();
    if busy == u16::MAX {
        return;
    }
    let text = format!(
        "[daemon]\nlisten = '127.0.0.1:{}'\n[llama-server]\nfirst-port = {busy}\n[models]\ndirs = ['FOLDER']\n[[servers]]\nmodel = 'z'\n",
        busy + 1
    );
    let loaded = parse(&text, models.path());
    let outcome = find(&loaded, &[], &KeptServers::new());
    let given = ports(&outcome);
    assert!(
        given["alpha_1b_f32"] > busy + 1 && given["z"] > busy + 1,
        "neither the stranger's nor the daemon's: {given:?}"
    );
    let kept = |port| {
        let server = KeptServer { port, model: None, gone_since: None };
        KeptServers::from([("alpha_1b_f32".parse().expect("valid"), server)])
    };
    assert!(ports(&find(&loaded, &[], &kept(busy + 1)))["alpha_1b_f32"] > busy + 1, "a kept one neither");
    assert_eq!(ports(&find(&loaded, &[], &kept(busy)))["alpha_1b_f32"], busy, "its own server may listen there");
}

/// Fault S26.
#[test]
fn a_model_whose_folder_is_not_there_for_a_moment_keeps_its_server() {
    let (models, other) = (folder(&["alpha-1B", "beta-1B"]), folder(&["gamma-1B"]));
    std::os::unix::fs::symlink(other.path().join("gamma-1B.gguf"), models.path().join("linked-1B.gguf"))
        .expect("writable");
    let loaded = parse("[models]\ndirs = ['FOLDER/disk']", models.path());
    let disk = models.path().join("disk");
    let rest = models.path().join("rest");
    fs::create_dir(&rest).expect("writable");
    let look = |before: &DiscoveryOutcome| {
        let former = FormerModels { models: &before.report, configuration: &loaded.configuration };
        let found = search(&loaded.configuration, &ModelFolders::of(&loaded), &before.kept, Some(former));
        found.unwrap_or_else(|failure| panic!("{failure:?}"))
    };
    let start = || {
        let _ = fs::remove_dir_all(&disk);
        fs::create_dir(&disk).expect("writable");
        for name in ["alpha-1B.gguf", "beta-1B.gguf"] {
            fs::copy(models.path().join(name), disk.join(name)).expect("writable");
        }
        std::os::unix::fs::symlink(other.path().join("gamma-1B.gguf"), disk.join("linked-1B.gguf")).expect("writable");
        find(&loaded, &[], &KeptServers::new())
    };
    let all = ["alpha_1b_f32", "beta_1b_f32", "linked_1b_f32"];
    // The folder is gone; it is a mount point without its disk; what a link leads to is not there.
    let vanish: [&dyn Fn(); 3] = [
        &|| fs::remove_dir_all(&disk).expect("it is there"),
        &|| {
            fs::read_dir(&disk)
                .expect("listed")
                .for_each(|file| fs::remove_file(file.expect("a file").path()).expect("it is there"))
        },
        &|| fs::rename(other.path().join("gamma-1B.gguf"), other.path().join("away")).expect("it is there"),
    ];
    for vanish in vanish {
        let before = start();
        assert_eq!(ids(&before), all);
        vanish();
        let after = look(&before);
        assert_eq!(after.discovered, before.discovered, "servers, ports and settings stay");
        assert_eq!(ids(&look(&after)), all, "however often it is looked for");
    }
    fs::rename(other.path().join("away"), other.path().join("gamma-1B.gguf")).expect("it is there");
    let before = start();
    fs::remove_file(disk.join("alpha-1B.gguf")).expect("it is there");
    assert_eq!(ids(&look(&before)), all[1..], "a file that somebody removed is gone");
}

#[test]
fn the_folders_of_links_are_searched_where_the_configuration_says_so() {
    let (models, other) = (folder(&["alpha-1B"]), folder(&["beta-1B"]));
    std::os::unix::fs::symlink(other.path(), models.path().join("other")).expect("writable");
    for (follow, expected) in [("false", &["alpha_1b_f32"][..]), ("true", &["alpha_1b_f32", "beta_1b_f32"])] {
        let loaded = parse(&format!("[models]\ndirs = ['FOLDER']\nfollow-links = {follow}"), models.path());
        assert_eq!(ids(&find(&loaded, &[], &KeptServers::new())), expected);
    }
}

#[test]
fn what_is_wrong_with_a_configured_model_is_warned_about() {
    let models = folder(&["alpha-1B"]);
    let damaged = |name: &str, damage| {
        TinyModel::new(name).write_damaged(&models.path().join(name), damage).expect("writable");
    };
    damaged("cut.gguf", Damage::HeaderCut);
    for copy in ["lone-00001-of-00002.gguf", "mmproj-x.gguf", "part-00002-of-00002.gguf"] {
        fs::copy(models.path().join("alpha-1B.gguf"), models.path().join(copy)).expect("writable");
    }
    let names = ["alpha-1B", "cut", "lone-00001-of-00002", "mmproj-x", "part-00002-of-00002"];
    let servers =
        names.map(|name| format!("[[servers]]\nid = '{name}'\nbinary = '/bin/true'\nmodel = '{name}.gguf'\n"));
    let hook =
        "[[servers]]\nid = 'h'\nbinary = '/bin/true'\nmodel = 'cut.gguf'\nhooks = { pre-start = ['/bin/true'] }\n";
    let inventory = Inventory::scan(parse(&(servers.concat() + hook), models.path()))
        .unwrap_or_else(|failure| panic!("{failure:?}"));
    let said: Vec<String> = inventory.warnings().iter().map(ToString::to_string).collect();
    for (told, (line, what)) in said.iter().zip([
        ("configuration:8:9: ", "cut.gguf cannot be served: "),
        ("configuration:12:9: ", "shard 2 of 2 is missing"),
        ("configuration:16:9: ", "a projector, not a model to serve"),
        ("configuration:20:9: ", "shard 1 of 2 is missing"),
    ]) {
        assert!(told.starts_with(line) && told.contains(what), "{said:#?}");
    }
    assert_eq!(said.len(), 4, "{said:#?}");
}
