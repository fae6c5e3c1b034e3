//! Options, each spelled for recorded builds.

use super::*;
use crate::fixtures::{self, help, user_flag};

fn spell(build: &str, name: &str, value: FlagValue) -> Result<String, String> {
    let dialect = fixtures::dialect();
    let flags = merge_names(&Flags::from([(name.to_owned(), user_flag(value))]), &dialect);
    let listed = OptionList::parse(&help(build));
    let translator = Translator { dialect: &dialect, listed: &listed, flags: &flags, directory: Path::new("/etc/lw") };
    let (name, flag) = flags.first_key_value().expect("one flag");
    match translator.spell(name, &flag.value) {
        Ok(Spelling::Kept(spelled)) => Ok(spelled.join(" ")),
        Ok(Spelling::Translated(change)) => Ok(format!("~ {}", change.spelled.join(" "))),
        Ok(Spelling::Dropped(_)) => Ok("dropped".to_owned()),
        Err(error) => Err(error.detail),
    }
}

#[test]
fn an_option_is_spelled_as_each_build_wants_it() {
    let (mid_2024, late_2024, late_2025, late_2026) =
        ("2024-07-py0.2.80", "2024-11-py0.3.2", "2025-08-py0.3.16", "b11669-debian");
    let text = |text: &str| FlagValue::Text(text.to_owned());
    let many = |texts: &[&str]| FlagValue::Many(texts.iter().map(|text| (*text).to_owned()).collect());
    let cases = [
        (mid_2024, "flash-attn", FlagValue::Switch(true), "--flash-attn"),
        (late_2025, "flash-attn", text("on"), "~ --flash-attn"),
        (late_2025, "flash-attn", FlagValue::Switch(false), "~ "),
        (late_2026, "flash-attn", FlagValue::Switch(true), "~ --flash-attn on"),
        (late_2026, "flash-attn", FlagValue::Switch(false), "~ --flash-attn off"),
        (late_2026, "flash-attn", text("auto"), "--flash-attn auto"),
        (mid_2024, "mmap", FlagValue::Switch(false), "--no-mmap"),
        (late_2025, "no-mmap", FlagValue::Switch(true), "--no-mmap"),
        (late_2026, "mmap", FlagValue::Switch(false), "~ --load-mode none"),
        (late_2026, "no-mmap", FlagValue::Switch(true), "~ --load-mode none"),
        (late_2026, "mmap", FlagValue::Switch(true), "~ --load-mode mmap"),
        (late_2025, "mmap", FlagValue::Switch(true), "~ "),
        (late_2025, "load-mode", text("mlock"), "~ --no-mmap --mlock"),
        (late_2026, "mlock", FlagValue::Switch(true), "~ --load-mode mmap+mlock"),
        (late_2025, "mlock", FlagValue::Switch(true), "--mlock"),
        (mid_2024, "n-predict", FlagValue::Integer(-1), "~ --predict -1"),
        (late_2025, "n-predict", FlagValue::Integer(-1), "--n-predict -1"),
        (mid_2024, "n-gpu-layers", FlagValue::Integer(9), "dropped"),
        (late_2026, "n-gpu-layers", text("all"), "--n-gpu-layers all"),
        (late_2025, "perf", FlagValue::Switch(false), "--no-perf"),
        (late_2025, "perf", FlagValue::Switch(true), "~ "),
        (late_2026, "cpu-strict", FlagValue::Switch(true), "~ --cpu-strict 1"),
        (late_2026, "log-disable", FlagValue::Switch(false), "~ "),
        (late_2026, "log-disable", FlagValue::Switch(true), "--log-disable"),
        (late_2024, "temp", FlagValue::Float(0.7), "--temp 0.7"),
        (late_2024, "lora", many(&["/a", "/b"]), "--lora /a --lora /b"),
        (late_2026, "lora", many(&["a", "/b"]), "--lora /etc/lw/a --lora /b"),
        (late_2026, "lora", text("a,/b"), "--lora /etc/lw/a,/b"),
        (late_2026, "api-key", many(&["k1", "k2"]), "--api-key k1 --api-key k2"),
        (late_2025, "alias", many(&["a", "b"]), "--alias a --alias b"),
        (late_2024, "tensor-split", many(&["3", "1"]), "--tensor-split 3,1"),
        (late_2026, "tensor-split", many(&["3", "1"]), "--tensor-split 3,1"),
        (late_2026, "device", many(&["CUDA0", "CUDA1"]), "--device CUDA0,CUDA1"),
        (late_2025, "device-draft", many(&["CUDA0", "CUDA1"]), "--device-draft CUDA0,CUDA1"),
        (late_2026, "cors-origins", many(&["http://a", "http://b"]), "--cors-origins http://a,http://b"),
        (late_2026, "samplers", many(&["top_k", "temperature"]), "--samplers top_k;temperature"),
        (late_2026, "control-vector-layer-range", many(&["1", "9"]), "--control-vector-layer-range 1 9"),
        (late_2026, "ctx-size", many(&["512"]), "--ctx-size 512"),
        (late_2026, "chat-template-file", text("t.jinja"), "--chat-template-file /etc/lw/t.jinja"),
        (late_2026, "slot-save-path", text("slots/"), "--slot-save-path /etc/lw/slots/"),
        (late_2026, "model-draft", text("d.gguf"), "--model-draft /etc/lw/d.gguf"),
        (late_2025, "mmproj", text("eye.gguf"), "--mmproj /etc/lw/eye.gguf"),
        (late_2026, "log-file", text("/var/log/x"), "--log-file /var/log/x"),
        (late_2026, "hf-file", text("q4/x.gguf"), "--hf-file q4/x.gguf"),
        (late_2026, "alias", text("a/b"), "--alias a/b"),
        (late_2024, "sse-ping-interval", FlagValue::Integer(5), "dropped"),
        (late_2026, "grp-attn-n", FlagValue::Integer(5), "dropped"),
        (late_2026, "ui", FlagValue::Switch(false), "--no-ui"),
        (late_2025, "ui", FlagValue::Switch(false), "~ --no-webui"),
    ];
    for (build, name, value, expected) in cases {
        assert_eq!(spell(build, name, value.clone()).as_deref(), Ok(expected), "{build} {name} {value:?}");
    }
}

#[test]
fn what_cannot_be_passed_is_refused_with_the_reason() {
    let build = "b11669-debian";
    let text = |text: &str| FlagValue::Text(text.to_owned());
    let cases = [
        ("ctx-siez", FlagValue::Integer(1), "did you mean `ctx-size`?"),
        ("quantum", FlagValue::Integer(1), "no llama-server is known"),
        ("ssl-pinning", text("x"), "it protects"),
        ("api-key-rotation", text("x"), "it protects"),
        ("ctx-size", FlagValue::Switch(true), "it takes a number"),
        ("model-draft", FlagValue::Switch(true), "it takes a value"),
        ("metrics", text("yes"), "write `metrics = true`"),
        ("port", FlagValue::Integer(1), "set the key `port` of the server"),
        ("hf-repo", text("a/b"), "set the key `model` of the server"),
        ("fim-qwen-1.5b-default", FlagValue::Switch(true), "a port of its own"),
        ("n-gpu-layer", FlagValue::Integer(1), "did you mean `n-gpu-layers`?"),
        ("ctx_size", FlagValue::Integer(1), "did you mean `ctx-size`?"),
        ("draft-model", text("/d"), "did you mean `model-draft`?"),
        ("ngl", FlagValue::Integer(1), "write `n-gpu-layers`"),
        ("c", FlagValue::Integer(1), "write `ctx-size`"),
        ("fa", FlagValue::Switch(true), "write `flash-attn`"),
        ("ctx-size", FlagValue::Switch(false), "it takes a number"),
        ("ctx-size", text("8k"), "its value is no number"),
        ("n-gpu-layers", text("alle"), "its value is no number"),
        ("metrics", text("true"), "write `metrics = true`"),
        ("metrics", FlagValue::Many(vec!["a".into(), "b".into()]), "write `metrics = true`"),
        ("chat-template-file", FlagValue::Many(vec!["a".into(), "b".into()]), "one value"),
        ("alias", text("--host"), "would read as an option"),
        ("alias", text("a\nb"), "line end"),
        ("lora", FlagValue::Many(vec!["ok".into(), "a\0b".into()]), "NUL"),
    ];
    for (name, value, expected) in cases {
        let detail = spell(build, name, value).expect_err(name);
        assert!(detail.contains(expected), "{name}: {detail}");
    }
}

#[test]
fn mmap_and_mlock_become_one_load_mode() {
    let dialect = fixtures::dialect();
    let listed = OptionList::parse(&help("b11669-debian"));
    let cases: [(&[(&str, FlagValue)], &str); 4] = [
        (&[("mmap", FlagValue::Switch(false)), ("mlock", FlagValue::Switch(true))], "--load-mode mlock"),
        (&[("mmap", FlagValue::Switch(true)), ("mlock", FlagValue::Switch(true))], "--load-mode mmap+mlock"),
        (&[("mmap", FlagValue::Switch(false)), ("mlock", FlagValue::Switch(false))], "--load-mode none"),
        (&[("mmap", FlagValue::Switch(false)), ("load-mode", FlagValue::Text("dio".into()))], "--load-mode dio"),
    ];
    for (given, expected) in cases {
        let flags = given.iter().map(|(name, value)| ((*name).to_owned(), user_flag(value.clone()))).collect();
        let translator =
            Translator { dialect: &dialect, listed: &listed, flags: &flags, directory: Path::new("/etc/lw") };
        let spelled: Vec<String> = flags
            .iter()
            .flat_map(|(name, flag)| translator.spell(name, &flag.value).expect("is spelled").into_arguments())
            .collect();
        assert_eq!(spelled.join(" "), expected, "{given:?}");
    }
}

#[test]
fn a_default_gives_way_to_the_users_other_name_for_it() {
    let dialect = fixtures::dialect();
    let default = |value| Flag { value, origin: FlagOrigin::BuiltIn };
    let flags = Flags::from([
        ("n-gpu-layers".to_owned(), default(FlagValue::Integer(99))),
        ("gpu-layers".to_owned(), user_flag(FlagValue::Integer(7))),
        ("mmap".to_owned(), default(FlagValue::Switch(false))),
        ("no-mmap".to_owned(), user_flag(FlagValue::Switch(false))),
    ]);
    let expected = Flags::from([
        ("gpu-layers".to_owned(), user_flag(FlagValue::Integer(7))),
        ("mmap".to_owned(), user_flag(FlagValue::Switch(true))),
    ]);
    assert_eq!(merge_names(&flags, &dialect), expected);
    let unset = user_flag(FlagValue::Text("default".into()));
    for (default, written) in [("n-gpu-layers", "n-gpu-layers"), ("n-gpu-layers", "gpu-layers"), ("mmap", "no-mmap")] {
        let mut flags = Flags::from([(default.to_owned(), flags[default].clone())]);
        flags.insert(written.to_owned(), unset.clone());
        assert_eq!(merge_names(&flags, &dialect), Flags::new(), "{written} is left to the build");
    }
}
