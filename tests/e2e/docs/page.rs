//! A page of the documentation, taken apart: what is run in which order, and which output it shows.
//!
//! | fence | meaning |
//! |---|---|
//! | `sh` | runs; every command of it ends with 0 |
//! | `sh eventually` | only reads; runs again until it succeeds, and its output is the one that is shown |
//! | `sh exit=3` | its last command ends with 3 |
//! | `sh terminal` | goes on until the next heading, as in a terminal of its own; then it gets INT |
//! | `sh needs-docker` and the like | cannot run in a test, see [`BlockNeed`] |
//! | `text` | the output of the command before it |
//! | `toml`, `yaml` | a file, named in its first line: `# NAME`, or `# in NAME` for lines that are added to it |
//!
//! A fence without a language is refused, so that no command escapes.

use std::fs;
use std::path::{Path, PathBuf};

/// One thing that a page has its reader do.
#[derive(Debug, PartialEq, Eq)]
pub enum PageStep {
    /// A heading; what was started in terminals above ends.
    Section,
    /// Commands for a shell.
    Commands {
        /// Line of the fence in the page.
        line: usize,
        /// The commands.
        script: String,
        /// How they are run.
        run: RunMode,
        /// The output that the page shows for them.
        shown: Option<String>,
    },
    /// A file that the reader writes.
    File {
        /// Its name.
        name: String,
        /// Its content.
        text: String,
        /// Whether the content is added to what the file has.
        is_added: bool,
    },
}

/// How a block of commands is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunMode {
    /// To its end, with this exit code.
    ToEnd(i32),
    /// To its end, again and again until it succeeds and its output is the one that is shown.
    Eventually,
    /// Until the next heading.
    Terminal,
    /// Not by a test.
    Elsewhere(BlockNeed),
}

/// What a command needs that no test has. Only programs of its list may stand in such a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockNeed {
    /// The Rust compiler, for minutes.
    Build,
    /// A container engine.
    Docker,
    /// A cluster.
    Kubernetes,
    /// systemd as process 1, and root.
    Systemd,
    /// The internet.
    Network,
}

impl BlockNeed {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "needs-build" => Self::Build,
            "needs-docker" => Self::Docker,
            "needs-kubernetes" => Self::Kubernetes,
            "needs-systemd" => Self::Systemd,
            "needs-network" => Self::Network,
            _ => return None,
        })
    }

    /// The programs that have this need.
    pub const fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Build => &["cargo", ".ci/run", "target/debug/custom-component"],
            Self::Docker => &["docker", "podman", "systemctl --user"],
            Self::Kubernetes => &["kubectl"],
            Self::Systemd => &["sudo", "systemctl", "journalctl", "systemd-run"],
            Self::Network => &["git clone", "curl -L", "pip", "npm"],
        }
    }
}

/// The path of a file of the checkout.
pub fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The steps of a page, whose path is relative to the checkout.
pub fn steps_of_page(path: &str) -> Vec<PageStep> {
    let text = fs::read_to_string(checkout(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    steps(path, &text)
}

fn steps(path: &str, text: &str) -> Vec<PageStep> {
    let mut steps = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        if line.starts_with('#') {
            steps.push(PageStep::Section);
        }
        let Some(info) = line.trim_start().strip_prefix("```") else { continue };
        let block: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| !line.trim_start().starts_with("```")).collect();
        let place = format!("{path}:{}", index + 1);
        let mut words = info.split_whitespace();
        match words.next() {
            Some("sh") => steps.push(PageStep::Commands {
                line: index + 1,
                script: block.join("\n"),
                run: words.fold(RunMode::ToEnd(0), |_, word| {
                    let code = word.strip_prefix("exit=").and_then(|code| code.parse().ok()).map(RunMode::ToEnd);
                    let terminal = (word == "terminal").then_some(RunMode::Terminal);
                    let eventually = (word == "eventually").then_some(RunMode::Eventually);
                    let elsewhere = BlockNeed::of(word).map(RunMode::Elsewhere);
                    code.or(terminal)
                        .or(eventually)
                        .or(elsewhere)
                        .unwrap_or_else(|| panic!("{place}: what does {word:?} mean?"))
                }),
                shown: None,
            }),
            Some("text") => {
                if let Some(PageStep::Commands { shown: shown @ None, .. }) = steps.last_mut() {
                    *shown = Some(block.join("\n"));
                }
            }
            Some("toml" | "yaml") => {
                let first = block.first().and_then(|line| line.strip_prefix("# ")).unwrap_or_default();
                let (is_added, name) = first.strip_prefix("in ").map_or((false, first), |name| (true, name));
                assert!(
                    name.contains('.') && !name.contains(' '),
                    "{place}: the first line says neither `# NAME` nor `# in NAME`"
                );
                steps.push(PageStep::File { name: name.to_owned(), text: block.join("\n") + "\n", is_added });
            }
            Some("rust" | "json") => {}
            language => panic!("{place}: a block of {language:?} is neither run nor known not to be"),
        }
    }
    steps
}

#[test]
fn a_page_is_taken_apart_into_what_its_reader_does() {
    let page = "# A page\n```sh exit=3\na\nb\n```\nIt says\n```text\nno\n```\n```text\na picture\n```\n\
                ```toml\n# in x.toml\nk = 1\n```\n```sh needs-docker\ndocker ps\n```\n";
    let expected = [
        PageStep::Section,
        PageStep::Commands { line: 2, script: "a\nb".to_owned(), run: RunMode::ToEnd(3), shown: Some("no".to_owned()) },
        PageStep::File { name: "x.toml".to_owned(), text: "# in x.toml\nk = 1\n".to_owned(), is_added: true },
        PageStep::Commands {
            line: 17,
            script: "docker ps".to_owned(),
            run: RunMode::Elsewhere(BlockNeed::Docker),
            shown: None,
        },
    ];
    assert_eq!(steps("x.md", page), expected);
}

#[test]
#[should_panic(expected = "x.md:1: a block of None")]
fn a_block_without_a_language_is_refused() {
    steps("x.md", "```\nllama-warden down\n```\n");
}

#[test]
#[should_panic(expected = "what does \"skip\" mean?")]
fn a_word_that_no_test_knows_is_refused() {
    steps("x.md", "```sh skip\nllama-warden down\n```\n");
}
