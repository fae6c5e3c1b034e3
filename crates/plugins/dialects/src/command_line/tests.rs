//! Command lines for recorded builds, and for one whose help cannot be read.

use std::sync::Arc;

use llama_warden_config::FlagValue;

use super::*;
use crate::fixtures::{self, user_flag};
use crate::load::DialectSet;
use crate::profile::BuildVersion;

fn profile(build: &str) -> BinaryProfile {
    let options = Some(OptionList::parse(&fixtures::help(build)));
    BinaryProfile::new("/opt/llama-server".into(), BuildVersion::default(), options)
}

fn planned(server: &ServerSpec, binary: &BinaryProfile) -> Result<CommandLine, OptionErrors> {
    build_command_line(server, binary, &fixtures::dialect())
}

/// The flags of the `seed-flags` recordings in `tests/fixtures/transcripts`.
fn seed(log_disable: bool) -> ServerSpec {
    let mut server = fixtures::server("tiny");
    let flag = |value| Flag { value, origin: FlagOrigin::BuiltIn };
    let numbers =
        [("ctx-size", 32768), ("n-gpu-layers", 99), ("threads", 8), ("batch-size", 512), ("ubatch-size", 256)];
    let switches = [("flash-attn", true), ("mmap", false), ("log-disable", log_disable)];
    Arc::make_mut(&mut server.flags)
        .extend(numbers.map(|(name, number)| (name.to_owned(), flag(FlagValue::Integer(number)))));
    Arc::make_mut(&mut server.flags).extend(switches.map(|(name, on)| (name.to_owned(), flag(FlagValue::Switch(on)))));
    server
}

#[test]
fn the_seed_flags_are_spelled_for_every_recorded_build() {
    let (start, end) = ("/opt/llama-server", "--model /models/tiny.gguf --host 127.0.0.1 --port 8001");
    let cases = [
        (
            "2024-07-py0.2.80",
            "--batch-size 512 --ctx-size 32768 --flash-attn --log-disable --no-mmap --threads 8 --ubatch-size 256",
        ),
        (
            "2024-11-py0.3.2",
            "--alias tiny --batch-size 512 --ctx-size 32768 --flash-attn --log-disable --no-mmap --n-gpu-layers 99 \
             --threads 8 --ubatch-size 256",
        ),
        (
            "2025-08-py0.3.16",
            "--alias tiny --batch-size 512 --ctx-size 32768 --flash-attn --log-disable --no-mmap --n-gpu-layers 99 \
             --threads 8 --ubatch-size 256",
        ),
        (
            "b11669-debian",
            "--alias tiny --sse-ping-interval 1 --batch-size 512 --ctx-size 32768 --flash-attn on --log-disable \
             --load-mode none --n-gpu-layers 99 --threads 8 --ubatch-size 256",
        ),
    ];
    for (build, expected) in cases {
        let line = planned(&seed(true), &profile(build)).expect(build);
        assert_eq!(line.redacted().join(" "), format!("{start} {expected} {end}"), "{build}");
        assert_eq!(line.warnings, [""; 0], "{build}: defaults are dropped quietly");
        let silent = planned(&seed(false), &profile(build)).expect(build);
        assert!(!silent.redacted().contains(&"--log-disable".to_owned()), "{build}");
    }
}

#[test]
fn a_model_of_hugging_face_goes_to_builds_that_list_the_option() {
    let mut server = fixtures::server("tiny");
    server.model = "hf:org/repo:Q4_K_M".into();
    let end = "--hf-repo org/repo:Q4_K_M --host 127.0.0.1 --port 8001";
    for build in ["2024-11-py0.3.2", "b11669-debian"] {
        let line = planned(&server, &profile(build)).expect(build).redacted().join(" ");
        assert!(line.ends_with(end) && !line.contains("--model"), "{build}: {line}");
    }
    let line = planned(&server, &BinaryProfile::unknown("/opt/llama-server".into())).expect("as written");
    assert!(line.redacted().join(" ").ends_with(end));
    let options = Some(OptionList::parse("--model FNAME  x\n--port N  x\n--host H  x\n"));
    let old = BinaryProfile::new("/opt/llama-server".into(), BuildVersion::default(), options);
    let error = planned(&server, &old).expect_err("must be refused");
    assert!(error.to_string().contains("does not list --hf-repo"), "{error}");
}

#[test]
fn what_changed_is_noted_and_what_a_user_loses_is_warned_about() {
    let mut server = seed(false);
    Arc::make_mut(&mut server.flags).insert("sse-ping-interval".into(), user_flag(FlagValue::Integer(5)));
    let line = planned(&server, &profile("2024-07-py0.2.80")).expect("planned");
    let notes: Vec<(&str, OptionTreatment)> = line.notes.iter().map(|note| (&*note.option, note.treatment)).collect();
    let expected = [
        ("log-disable", OptionTreatment::Translated),
        ("n-gpu-layers", OptionTreatment::Dropped),
        ("sse-ping-interval", OptionTreatment::Dropped),
    ];
    assert_eq!(notes, expected);
    assert_eq!(line.warnings, ["option `sse-ping-interval` is not passed: this build does not list it"]);
}

#[test]
fn what_the_user_sets_is_not_added() {
    let mut server = seed(false);
    Arc::make_mut(&mut server.flags).insert("alias".into(), user_flag(FlagValue::Text("mine".into())));
    server.args = vec!["--sse-ping-interval".into(), "-1".into(), "--verbose".into()];
    let line = planned(&server, &profile("b11669-debian")).expect("planned").redacted().join(" ");
    assert_eq!(line.matches("--alias").count(), 1, "{line}");
    assert!(line.contains("--alias mine"), "{line}");
    assert!(line.contains(" --sse-ping-interval -1 --verbose --model"), "{line}");
    assert_eq!(line.matches("--sse-ping-interval").count(), 1, "{line}");
}

#[test]
fn a_build_without_readable_help_gets_what_the_user_wrote_and_no_default() {
    let mut server = seed(false);
    let flags = Arc::make_mut(&mut server.flags);
    flags.insert("no-such-option".into(), user_flag(FlagValue::Switch(true)));
    flags.insert("log-prefix".into(), user_flag(FlagValue::Switch(false)));
    flags.insert("metrics".into(), user_flag(FlagValue::Switch(false)));
    flags.insert("threads".into(), user_flag(FlagValue::Integer(2)));
    flags.insert("tensor-split".into(), user_flag(FlagValue::Many(vec!["3".into(), "1".into()])));
    flags.insert("mmproj".into(), user_flag(FlagValue::Text("eye.gguf".into())));
    server.api_key_file = Some("/keys".into());
    let unread = BinaryProfile::unknown("/opt/llama-server".into());
    let line = planned(&server, &unread).expect("planned");
    assert_eq!(
        line.redacted().join(" "),
        "/opt/llama-server --api-key-file /keys --no-log-prefix --mmproj /eye.gguf --no-such-option \
         --tensor-split 3,1 --threads 2 --model /models/tiny.gguf --host 127.0.0.1 --port 8001"
    );
    let left_out: Vec<_> = line.notes.iter().filter(|note| note.treatment == OptionTreatment::Dropped).collect();
    assert_eq!(left_out.len(), 7, "each default is noted: {left_out:?}");
    let doubts: Vec<_> = line.doubts.iter().map(|doubt| doubt.option.as_str()).collect();
    assert_eq!(doubts, ["no-such-option"]);
    assert_eq!(line.warnings, [""; 0]);

    let text = r#"
        name = "mine"
        help-lists = ["--context-length"]
        synonyms = [["ctx-size", "context-length"]]
        [[option]]
        name = "flash-attn"
        rule = [{ value = true, spell = ["--flash-attn", "on"], because = "takes a value" }]
    "#;
    let dialect = DialectSet::built_in().parse("/d.toml".as_ref(), text).expect("valid");
    let mut server = fixtures::server("tiny");
    let flags = [
        ("ctx-size", FlagValue::Integer(512)),
        ("flash-attn", FlagValue::Switch(true)),
        ("keep", FlagValue::Integer(1)),
    ];
    server.flags = Arc::new(flags.map(|(name, value)| (name.to_owned(), user_flag(value))).into());
    for (named, expected) in [
        (None, "--ctx-size 512 --flash-attn --keep 1"),
        (Some("mine"), "--context-length 512 --flash-attn on --keep 1"),
    ] {
        server.dialect = named.map(Into::into);
        let line = build_command_line(&server, &unread, &dialect).expect("planned").redacted().join(" ");
        assert!(line.starts_with(&format!("/opt/llama-server {expected} --model")), "{named:?}: {line}");
    }
}

#[test]
fn a_second_road_to_model_host_port_and_key_file_is_refused_and_ours_stand_last() {
    let roads: [&[&str]; 10] = [
        &["--port", "8099"],
        &["--port=8099"],
        &["--host", "0.0.0.0"],
        &["-m", "/other.gguf"],
        &["--model_url", "http://x"],
        &["-hf", "a/b"],
        &["--hf_repo", "a/b"],
        &["--models-dir", "/models"],
        &["--api-key-file", "/k"],
        &["--fim-qwen-1.5b-default"],
    ];
    for binary in [profile("b11669-debian"), BinaryProfile::unknown("/opt/llama-server".into())] {
        for road in roads {
            let mut server = fixtures::server("tiny");
            server.args = [&["--verbose"], road].concat().into_iter().map(str::to_owned).collect();
            let OptionErrors(errors) = planned(&server, &binary).expect_err("refused");
            assert_eq!((errors.len(), &errors[0].at), (1, &WrittenAt::Argument(1)), "{road:?}: {errors:?}");
            assert!(errors[0].detail.starts_with("in `args`, "), "{errors:?}");
        }
        for variable in ["LLAMA_ARG_PORT", "LLAMA_ARG_HOST", "LLAMA_ARG_MODEL", "LLAMA_ARG_HF_REPO"] {
            let mut server = fixtures::server("tiny");
            server.env = Arc::new([(variable.to_owned(), "1".to_owned())].into());
            let OptionErrors(errors) = planned(&server, &binary).expect_err("refused");
            assert_eq!(errors[0].at, WrittenAt::Variable(variable.to_owned()), "{errors:?}");
        }
        let mut server = fixtures::server("tiny");
        server.args = ["-a", "x,y", "--verbose"].map(str::to_owned).to_vec();
        server.env = Arc::new([("LLAMA_ARG_N_PARALLEL".to_owned(), "4".to_owned())].into());
        let line = planned(&server, &binary).expect("planned");
        assert!(
            line.redacted()
                .join(" ")
                .ends_with("-a x,y --verbose --model /models/tiny.gguf --host 127.0.0.1 --port 8001")
        );
        assert!(!line.redacted().contains(&"--alias".to_owned()), "the user's own stands: {:?}", line.redacted());
        assert!(line.doubts.len() == 1 && line.doubts[0].option == "LLAMA_ARG_N_PARALLEL", "{:?}", line.doubts);
    }
}

#[test]
fn every_mistake_is_reported_at_once_with_its_place() {
    let mut server = fixtures::server("tiny");
    let flags = [
        ("ngl", FlagValue::Integer(1)),
        ("ctx-size", FlagValue::Text("8k".into())),
        ("metrics", FlagValue::Text("true".into())),
    ];
    server.flags = Arc::new(flags.map(|(name, value)| (name.to_owned(), user_flag(value))).into());
    server.args = ["--port", "1", "-m", "x"].map(str::to_owned).to_vec();
    let OptionErrors(errors) = planned(&server, &profile("b11669-debian")).expect_err("refused");
    let places: Vec<_> = errors.into_iter().map(|error| error.at).collect();
    let flag = |name: &str| WrittenAt::Flag(name.to_owned());
    assert_eq!(
        places,
        [WrittenAt::Argument(0), WrittenAt::Argument(2), flag("ctx-size"), flag("metrics"), flag("ngl")]
    );
}

#[test]
fn an_empty_list_of_keys_is_refused_wherever_it_is_written() {
    for value in [FlagValue::Text(String::new()), FlagValue::Text(" , ".into()), FlagValue::Many(Vec::new())] {
        let mut server = fixtures::server("tiny");
        Arc::make_mut(&mut server.flags).insert("api-key".into(), user_flag(value));
        let error = planned(&server, &profile("b11669-debian")).expect_err("refused");
        assert!(error.to_string().contains("would answer everybody"), "{error}");
    }
    let mut in_args = fixtures::server("tiny");
    in_args.args = vec!["--api-key".into(), String::new()];
    let mut in_env = fixtures::server("tiny");
    in_env.env = Arc::new([("LLAMA_API_KEY".to_owned(), String::new())].into());
    for server in [in_args, in_env] {
        planned(&server, &profile("b11669-debian")).expect_err("refused");
    }
}

#[test]
fn protection_is_never_dropped() {
    let bare = BinaryProfile::new(
        "/opt/llama-server".into(),
        BuildVersion::default(),
        Some(OptionList::parse("--model FNAME  x")),
    );
    let mut with_file = fixtures::server("tiny");
    with_file.api_key_file = Some("/keys".into());
    let mut with_key = fixtures::server("tiny");
    Arc::make_mut(&mut with_key.flags).insert("api-key".into(), user_flag(FlagValue::Text("sk-secret".into())));
    let mut with_certificate = fixtures::server("tiny");
    Arc::make_mut(&mut with_certificate.flags)
        .insert("ssl-cert-file".into(), user_flag(FlagValue::Text("/cert".into())));
    for server in [with_file, with_key, with_certificate] {
        let error = planned(&server, &bare).expect_err("must be refused");
        assert!(error.to_string().contains("protects") && !error.to_string().contains("sk-secret"), "{error}");
        planned(&server, &profile("b11669-debian")).expect("listed there");
    }
}

#[test]
fn a_dialect_renames_what_llama_warden_passes_itself_and_a_secret_stays_one() {
    let text = r#"
        name = "renamed"
        synonyms = [["port", "listen-port"]]
        [[option]]
        name = "api-key-file"
        rule = [{ spell = ["--keys=@{value}"], because = "renamed" }]
        [[option]]
        name = "api-key"
        rule = [{ spell = ["--open={value}"], because = "renamed" }]
    "#;
    let dialect = DialectSet::built_in().parse("/d.toml".as_ref(), text).expect("valid");
    let options = Some(OptionList::parse("--model F  x\n--host H  x\n--listen-port N  x\n--alias S  x\n"));
    let binary = BinaryProfile::new("/bin/x".into(), BuildVersion::default(), options);
    let mut server = fixtures::server("tiny");
    server.api_key_file = Some("/keys".into());
    Arc::make_mut(&mut server.flags).insert("api-key".into(), user_flag(FlagValue::Text("sk-one,sk-two".into())));
    let line = build_command_line(&server, &binary, &dialect).expect("planned");
    assert_eq!(
        line.redacted().join(" "),
        "/bin/x --keys=@/keys --alias tiny [redacted] --model /models/tiny.gguf --host 127.0.0.1 --listen-port 8001"
    );
    assert!(line.arguments.iter().any(|argument| argument == "--open=sk-one,sk-two"));
    assert!(!format!("{:?}", line.notes).contains("sk-one"), "{:?}", line.notes);
    assert_eq!(line.secrets(), ["sk-one,sk-two", "sk-one", "sk-two"]);
    let dialects: Vec<_> = line.notes.iter().map(|note| (&*note.option, note.dialect.as_deref())).collect();
    let renamed = Some("renamed");
    let expected = [("api-key-file", renamed), ("alias", None), ("api-key", renamed), ("port", renamed)];
    assert_eq!(dialects, expected);
}

#[test]
fn a_secret_shows_nowhere() {
    let mut server = fixtures::server("tiny");
    Arc::make_mut(&mut server.flags).insert("api-key".into(), user_flag(FlagValue::Text("sk-one,sk-two".into())));
    server.args = vec!["--hf-token".into(), "hf_three".into()];
    let line = planned(&server, &profile("b11669-debian")).expect("planned");
    let shown = format!("{:?} {:?} {:?}", line.redacted(), line.notes, line.warnings);
    for secret in ["sk-one", "sk-two", "hf_three"] {
        assert!(!shown.contains(secret), "{shown}");
        assert!(line.secrets().iter().any(|known| known == secret), "{:?}", line.secrets());
    }
}

#[test]
fn a_unix_socket_is_refused_for_a_build_that_has_none() {
    let mut server = fixtures::server("tiny");
    server.host = "/run/a.sock".into();
    for build in ["2024-07-py0.2.80", "2024-11-py0.3.2"] {
        let error = planned(&server, &profile(build)).expect_err("must be refused");
        assert!(error.to_string().contains("this build cannot listen on a unix socket"), "{error}");
    }
    for build in ["2025-08-py0.3.16", "b11669-debian"] {
        planned(&server, &profile(build)).expect("newer builds have them");
    }
    planned(&server, &BinaryProfile::unknown("/bin/x".into())).expect("nobody knows");
}

#[test]
fn texts_that_are_no_single_argument_are_refused() {
    let change = |change: fn(&mut ServerSpec)| {
        let mut server = fixtures::server("tiny");
        change(&mut server);
        planned(&server, &profile("b11669-debian")).expect_err("must be refused").0[0].option.clone()
    };
    assert_eq!(change(|server| server.model = "/a\nb.gguf".into()), "model");
    assert_eq!(change(|server| server.model = "--host".into()), "model");
    assert_eq!(change(|server| server.host = "--port".into()), "host");
    assert_eq!(change(|server| server.host = "".into()), "host");
    assert_eq!(change(|server| server.args = vec!["a\0b".into()]), "args");
}
