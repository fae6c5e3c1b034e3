//! Tests of dialects as files, with the built-in one as fallback.

use llama_warden_config::{FlagValue, Flags};
use llama_warden_plugin_files::{FileError, Origin, PluginFile as _, PluginSource};

use crate::dialect::Dialect;
use crate::help::OptionList;
use crate::load::check_examples;
use crate::profile::BinaryProfile;
use crate::{build_command_line, fixtures};

#[test]
fn the_built_in_dialect_holds_its_examples_and_knows_every_option_of_every_recorded_build() {
    let dialect = fixtures::dialect();
    let source = PluginSource::new(&Origin::BuiltIn, Dialect::FALLBACK_TEXT, "dialect");
    check_examples(&dialect, &source).expect("its examples hold");
    assert!(dialect.example_count() > 0 && dialect.layers().count() == 1);
    let builds = fixtures::HELP_OPTION_COUNTS.iter().map(|(build, _)| *build).chain(["2023-12-py0.2.26"]);
    for build in builds {
        let list = OptionList::parse(&fixtures::help(build));
        let unknown: Vec<&str> = list.names().filter(|name| !dialect.knows(name)).collect();
        assert!(unknown.is_empty(), "{build}: {unknown:?}");
    }
}

fn parse(text: &str) -> Result<Dialect, FileError> {
    Dialect::parse(&Origin::File("/d.toml".into()), text.to_owned().into(), Some(&fixtures::dialect()))
}

#[test]
fn a_mistake_is_refused_with_its_place_and_a_next_step() {
    let rule = |name: &str, rule: &str| format!("name = 'd'\n[[option]]\nname = '{name}'\n[[option.rule]]\n{rule}");
    let cases = [
        (rule("--b", ""), "/d.toml:3:8: `--b` is not the long name"),
        ("name = 'd'\nsynonym = []".to_owned(), "/d.toml:2:1: unknown field `synonym`"),
        (rule("a", "spell = []"), "/d.toml:4:1: missing field `because`"),
        ("name = 'd'\nknown = [".to_owned(), "/d.toml:2:10: unclosed array"),
        ("name = 'a b'".to_owned(), "/d.toml:1:8: `a b` is no name for a dialect"),
        ("name = 'd'\nbuilds = { min = 2, max = 1 }".to_owned(), "/d.toml:2:10: no build is from 2 to 1"),
        ("name = 'llama-server'\nbuilds = { min = 2 }".to_owned(), "/d.toml:1:8: the dialect behind all others"),
        (rule("a", "spell = ['a']\nbecause = ''"), "/d.toml:5:9: `a` would not read as an option"),
        (rule("a", "spell = [\"--a\\n\"]\nbecause = ''"), "/d.toml:5:9: an argument contains a line end"),
        (rule("api-key", "spell = []\nbecause = ''"), "/d.toml:5:9: `api-key` protects a server"),
        (rule("ssl-key-file", "spell = ['--tls']\nbecause = ''"), "/d.toml:5:9: `ssl-key-file` protects a server"),
        (
            "name = 'd'\n[[example]]\nhelp = ['--a N']\nflags = { a = 1 }\nspell = ['--b', '1']".to_owned(),
            r#"/d.toml:5:9: this example claims ["--b", "1"], but ["--a", "1"] is passed"#,
        ),
        (
            "name = 'd'\n[[example]]\nhelp = ['--a N']\nflags = { ab = 1 }\nspell = []".to_owned(),
            "/d.toml:5:9: this example cannot be: option `ab`: no llama-server is known to have this option",
        ),
        (
            "name = 'd'\n[[example]]\nhelp = ['--a N']\nflags = { api-key = 'k' }\nspell = []".to_owned(),
            "/d.toml:5:9: this example cannot be: option `api-key`: this build does not list it, and it is never",
        ),
    ];
    for (text, expected) in cases {
        let error = parse(&text).expect_err(&text);
        assert!(error.to_string().starts_with(expected) && !error.advice.is_empty(), "{error}\nexpected {expected}");
    }
}

#[test]
fn a_dialect_says_what_is_different_and_its_fallback_says_the_rest() {
    let dialect = parse(
        r#"
        name = "mine"
        synonyms = [["ctx-size", "context-length"], ["gpu-layers", "offload"]]
        [[option]]
        name = "flash-attn"
        rule = [{ value = true, when-lists = ["attention"], spell = ["--attention=flash"], because = "renamed" }]
        [[option]]
        name = "lora"
        rule = [{ spell = ["--adapter", "lora:{value}"], because = "renamed" }]
        [[option]]
        name = "brand-new"
        rule = [{ value = 1, spell = ["--new"], because = "a switch" }]
        [[example]]
        help = ["-c, --context-length N", "--attention KIND"]
        flags = { ctx-size = 512, flash-attn = true, lora = ["a", "b"], brand-new = 1, mmap = true }
        spell = [
          "--new", "--context-length", "512", "--attention=flash", "--adapter", "lora:a", "--adapter", "lora:b",
        ]
        [[example]]
        help = ["-fa, --flash-attn [on|off|auto]", "--load-mode MODE", "--offload N"]
        flags = { flash-attn = true, no-mmap = true, n-gpu-layers = 9 }
        spell = ["--flash-attn", "on", "--load-mode", "none", "--offload", "9"]
        "#,
    );
    let dialect = dialect.expect("its examples hold");
    let names = |option| dialect.synonyms(option).iter().map(|rule| (rule.item, rule.dialect)).collect::<Vec<_>>();
    assert_eq!(names("n-gpu-layers"), [("gpu-layers", "llama-server"), ("offload", "mine")]);
}

#[test]
fn the_first_rule_whose_conditions_all_hold_is_taken() {
    let dialect = parse(
        r#"
        name = "test"
        [[option]]
        name = "a"
        rule = [
          { value = 1, when-set = { b = "*" }, spell = ["--both"], because = "" },
          { value = 1, when-lists = ["new"], when-takes-value = true, spell = ["--new"], because = "" },
          { value = 1, spell = ["--one"], because = "" },
        ]
        "#,
    )
    .expect("valid");
    let spelled = |value: i64, help: &str, flags: &Flags| {
        let rule = dialect.rule("a", &FlagValue::Integer(value), &OptionList::parse(help), flags);
        rule.map(|rule| rule.item.spell.as_ref().join(" "))
    };
    let b = Flags::from([("b".to_owned(), fixtures::user_flag(FlagValue::Switch(true)))]);
    let cases = [
        (1, "--a N  x\n--new  x", &b, Some("--both")),
        (1, "--a N  x\n--new  x", &Flags::new(), Some("--new")),
        (1, "--a  x\n--new  x", &Flags::new(), Some("--one")),
        (1, "--a N  x", &Flags::new(), Some("--one")),
        (2, "--a N  x\n--new  x", &b, None),
    ];
    for (value, help, flags, expected) in cases {
        assert_eq!(spelled(value, help, flags).as_deref(), expected, "{value} {help:?}");
    }
}

#[test]
fn the_seed_flags_are_spelled_for_eras_whose_output_is_not_recorded() {
    let mut server = fixtures::server("seed");
    let integers = [("ctx-size", 32_768), ("n-gpu-layers", 99), ("batch-size", 512), ("ubatch-size", 256)];
    let switches = [("flash-attn", true), ("mmap", false), ("log-disable", true)];
    *std::sync::Arc::make_mut(&mut server.flags) = integers
        .map(|(name, value)| (name, FlagValue::Integer(value)))
        .into_iter()
        .chain(switches.map(|(name, value)| (name, FlagValue::Switch(value))))
        .map(|(name, value)| (name.to_owned(), fixtures::user_flag(value)))
        .collect();
    let common = "-c, --ctx-size N  x\n-ngl, --n-gpu-layers N  x\n-b, --batch-size N  x\n-ub, --ubatch-size N  x\n";
    let today = "--ctx-size 32768 --n-gpu-layers 99 --batch-size 512 --ubatch-size 256 --flash-attn on";
    let cases = [
        // As measured: a CPU build of December 2023 lists neither GPU layers nor the two options that came later.
        (fixtures::help("2023-12-py0.2.26"), "--batch-size 512 --ctx-size 32768 --log-disable --no-mmap".to_owned()),
        // From 2025-08 to 2026-07 the switch takes a value and `--no-mmap` is still there.
        (
            format!("{common}-fa, --flash-attn [on|off|auto]  x\n--mmap, --no-mmap  x\n--log-disable  x\n"),
            format!("{today} --log-disable --no-mmap"),
        ),
        (
            format!("{common}-fa, --flash-attn [on|off|auto]  x\n-lm, --load-mode MODE  x\n--log-disable  x\n"),
            format!("{today} --load-mode none --log-disable"),
        ),
    ];
    for (help, expected) in cases {
        let binary = BinaryProfile::new(
            "/bin/llama-server".into(),
            crate::BuildVersion::default(),
            Some(OptionList::parse(&help)),
        );
        let line = build_command_line(&server, &binary, &fixtures::dialect()).expect(&expected);
        let words: Vec<_> = line.arguments.iter().map(|word| word.to_string_lossy()).collect();
        let mut given: Vec<String> = Vec::new();
        // Behind model, host, port and alias; an option with its value, in alphabetical order.
        for word in &words {
            match given.last_mut() {
                Some(last) if !word.starts_with("--") => last.push_str(&format!(" {word}")),
                _ => given.push(word.to_string()),
            }
        }
        given.retain(|option| !["--model", "--host", "--port", "--alias"].iter().any(|own| option.starts_with(own)));
        given.sort();
        let mut expected: Vec<String> =
            expected.split(" --").map(|option| format!("--{}", option.trim_start_matches("--"))).collect();
        expected.sort();
        assert_eq!(given, expected, "{help}");
    }
}
