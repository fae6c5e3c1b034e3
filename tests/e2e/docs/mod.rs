//! Every command of the documentation is run, page by page, and gives the output that the page shows. [`page`] says what the
//! fences mean.
//!
//! What needs more than a test has (a compiler, a container engine, a cluster, systemd) is marked in the page, is printed by the
//! test, and is checked as far as it can be: its program has that need, its files exist, its subcommands are known.

mod page;
mod session;
mod shape;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use llama_warden_stand_in::Script;
use llama_warden_tests::{
    ExternalProgram, ProgramRun, Sandbox, daemon_program, external_program, sandbox, stand_in_program,
};

use page::{BlockNeed, PageStep, RunMode, checkout, steps_of_page};
use session::ShellSession;
use shape::has_shape;

macro_rules! pages {
    ($($test:ident: $path:literal $($program:ident)?;)*) => {
        const PAGES: &[&str] = &[$($path),*];
        $(
            #[test]
            fn $test() {
                follow($path, None$(.or(Some(ExternalProgram::$program)))?);
            }
        )*
    };
}

pages! {
    the_commands_of_the_readme_hold: "README.md";
    the_tour_can_be_followed_word_for_word: "docs/tour.md";
    install: "docs/how-to/install.md";
    models: "docs/how-to/models.md";
    watch: "docs/how-to/watch.md";
    the_servers_of_several_machines: "docs/how-to/peers.md";
    one_address: "docs/how-to/one-address.md";
    keys: "docs/how-to/keys.md";
    metrics: "docs/how-to/metrics.md";
    profiles: "docs/how-to/profiles.md";
    hooks: "docs/how-to/hooks.md";
    memory: "docs/how-to/memory.md";
    troubleshooting: "docs/how-to/troubleshooting.md";
    a_new_build: "docs/how-to/new-llama.cpp.md";
    upgrade: "docs/how-to/upgrade.md";
    from_llama_swap: "docs/how-to/from-llama-swap.md";
    from_router_presets: "docs/how-to/from-router-presets.md";
    from_supervisord: "docs/how-to/from-supervisord.md";
    systemd: "docs/how-to/systemd.md";
    docker: "docs/how-to/docker.md";
    kubernetes: "docs/how-to/kubernetes.md" Kustomize;
    the_kubernetes_base: "config/kubernetes/README.md" Kustomize;
    prometheus: "docs/how-to/prometheus.md" Prometheus;
    configuration: "docs/reference/configuration.md";
    http: "docs/reference/http.md";
    command_line: "docs/reference/command-line.md";
    detectors: "docs/detectors.md";
    dialects: "docs/dialects.md";
    opentelemetry: "docs/opentelemetry.md";
    the_custom_component: "examples/custom-component/README.md";
    contributing: "CONTRIBUTING.md";
}

/// Follows a page as a reader does, with a further program of others where the page needs one.
fn follow(path: &str, program: Option<ExternalProgram>) {
    let Some(programs) = program.map_or(Some(Vec::new()), |program| Some(vec![external_program(program)?])) else {
        return;
    };
    sandbox(async |sandbox| {
        let llama_server = std::env::var_os("LLAMA_WARDEN_TEST_LLAMA_SERVER").filter(|path| !path.is_empty());
        let stand_in = || sandbox.build("stand-in", &Script { load_ms: 300, ..Script::default() });
        let llama_server = llama_server.map_or_else(stand_in, PathBuf::from);
        let programs: Vec<PathBuf> = programs
            .into_iter()
            .map(|path| if path.ends_with("prometheus") { path.with_file_name("promtool") } else { path })
            .collect();
        let mut session = ShellSession::open(sandbox, &llama_server, &programs).await;
        for step in steps_of_page(path) {
            match step {
                PageStep::Section => session.end_terminals().await,
                PageStep::File { name, text, is_added } => session.write(&name, &text, is_added),
                PageStep::Commands { line, script, run, shown } => {
                    let place = format!("{path}:{line}");
                    match run {
                        RunMode::ToEnd(code) => expect(&mut session, &place, &script, code, shown.as_deref()).await,
                        RunMode::Eventually => {
                            session.run_until(&script, shown.as_deref()).await;
                        }
                        RunMode::Terminal => session.start(&script, shown.as_deref()).await,
                        RunMode::Elsewhere(need) => {
                            println!("not run, it needs more than a test has ({need:?}): {place}");
                            check(sandbox, &mut session, &place, &script, need).await;
                        }
                    }
                }
            }
        }
        session.close().await;
    });
}

async fn expect(session: &mut ShellSession, place: &str, script: &str, code: i32, shown: Option<&str>) {
    let (output, failed) = session.run(script).await;
    let is_right = match failed.as_slice() {
        [] => code == 0,
        [failed] => failed.code == code,
        _ => false,
    };
    assert!(is_right, "{place}: ended with {code} expected, failed: {failed:?}; it said\n{output}");
    if let Some(shown) = shown {
        has_shape(shown, &output).unwrap_or_else(|error| panic!("{place}: {error}\n--- it said\n{output}"));
    }
}

/// The commands of a script, with continued lines joined, without comments.
fn commands(script: &str) -> Vec<String> {
    let joined = script.replace("\\\n", " ");
    let lines = joined.lines().map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned());
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// Checks commands that are not run: that they need what they are marked with, and what they name.
async fn check(sandbox: &Sandbox, session: &mut ShellSession, place: &str, script: &str, need: BlockNeed) {
    for command in commands(script) {
        let has_need = need.programs().iter().any(|program| command.starts_with(program));
        assert!(has_need, "{place}: {command:?} is marked with {need:?}, which it does not need");
        let ours = ["config/", "crates/", "docs/"];
        for word in command.split_whitespace().filter(|word| ours.iter().any(|folder| word.starts_with(folder))) {
            assert!(checkout(word).exists(), "{place}: there is no {word}");
        }
        let words: Vec<&str> = command.split_whitespace().collect();
        match *words.as_slice() {
            // What was built is there: it goes on in a terminal of its own, as on the page.
            ["cargo", "run", "--release", "--", ref arguments @ ..] => {
                session.start(&format!("llama-warden {}", arguments.join(" ")), None).await;
            }
            ["cargo", "xtask", chore, ..] => {
                let mut program = sandbox.program(daemon_program().with_file_name("xtask"));
                program.args(["help", chore]);
                ProgramRun::to_end(program).await.expect(0);
            }
            ["kubectl", "kustomize" | "apply", .., folder] => {
                expect(session, place, &format!("kustomize build {folder}"), 0, None).await;
            }
            _ => {}
        }
    }
}

/// The pages below a folder of the checkout.
fn pages_below(folder: &str, pages: &mut BTreeSet<String>) {
    for entry in fs::read_dir(checkout(folder)).expect("readable").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder == "." { name } else { format!("{folder}/{name}") };
        if entry.file_type().expect("a type").is_dir() && !path.starts_with('.') && folder != "." {
            pages_below(&path, pages);
        } else if path.ends_with(".md") {
            pages.insert(path);
        }
    }
}

fn all_pages() -> BTreeSet<String> {
    let mut pages = BTreeSet::new();
    for folder in [".", "docs", "config", "examples"] {
        pages_below(folder, &mut pages);
    }
    pages
}

/// Their other commands are those of the system and need what a test has not: a failure.
#[test]
fn the_commands_of_the_runbooks_run_with_a_server_for_its_placeholder() {
    let mut pages = BTreeSet::new();
    pages_below("docs/runbooks", &mut pages);
    let mut lines = BTreeSet::new();
    for page in &pages {
        for step in steps_of_page(page) {
            if let PageStep::Commands { script, .. } = step {
                lines.extend(script.lines().filter(|line| line.starts_with("llama-warden ")).map(str::to_owned));
            }
        }
    }
    assert!(lines.len() > 10, "{lines:?}");
    let llama_server = stand_in_program();
    sandbox(async |sandbox| {
        let mut session = ShellSession::open(sandbox, &llama_server, &[]).await;
        let server = "[[servers]]\nid = \"qwen3\"\nmodel = \"models/qwen3.gguf\"\n";
        session.write("llama-warden.toml", &format!("[models]\ndirs = [\"models\"]\n{server}"), false);
        expect(&mut session, "the set-up", "llama-warden up -d\nllama-warden wait qwen3", 0, None).await;
        for line in lines {
            let command = line.split(' ').map(|word| if word == "ID" { "qwen3" } else { word });
            expect(&mut session, "docs/runbooks", &command.collect::<Vec<_>>().join(" "), 0, None).await;
        }
        session.close().await;
    });
}

/// The runbooks have commands with placeholders, and a test of their own.
#[test]
fn every_page_with_commands_is_followed_by_a_test() {
    let has_commands = |page: &String| {
        let text = fs::read_to_string(checkout(page)).expect("a page");
        let fences = text.lines().filter_map(|line| line.trim_start().strip_prefix("```"));
        fences.into_iter().any(|info| !["", "text", "rust", "json"].contains(&info))
    };
    let pages: BTreeSet<String> = all_pages().into_iter().filter(has_commands).collect();
    let pages: Vec<&str> =
        pages.iter().map(String::as_str).filter(|page| !page.starts_with("docs/runbooks/")).collect();
    let unknown: Vec<_> = pages.iter().filter(|page| !PAGES.contains(page)).collect();
    assert!(unknown.is_empty(), "no test follows {unknown:?}: add them to `pages!`");
}

#[test]
fn every_link_of_a_page_leads_to_a_file() {
    let mut broken = Vec::new();
    for page in all_pages() {
        let text = fs::read_to_string(checkout(&page)).expect("a page");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.contains(' ') {
                continue;
            }
            if !checkout(&page).with_file_name(target).exists() {
                broken.push(format!("{page}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_index_leads_to_every_page_of_the_reference_and_of_the_how_tos() {
    let index = fs::read_to_string(checkout("docs/README.md")).expect("an index");
    for page in all_pages() {
        let below = page.strip_prefix("docs/").filter(|page| !page.starts_with("decisions/") && *page != "README.md");
        let Some(below) = below.filter(|page| !page.starts_with("runbooks/") || page.ends_with("README.md")) else {
            continue;
        };
        assert!(index.contains(&format!("({below})")), "docs/README.md does not lead to {page}");
    }
}
