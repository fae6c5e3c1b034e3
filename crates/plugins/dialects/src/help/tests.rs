//! What the recorded help texts say.

use super::*;
use crate::fixtures;

#[test]
fn every_recorded_help_text_is_read_in_full() {
    for (build, count) in fixtures::HELP_OPTION_COUNTS {
        let list = OptionList::parse(&fixtures::help(build));
        assert_eq!(list.names().count(), count, "{build}");
        for name in ["model", "host", "port", "api-key"] {
            assert_eq!(list.value_kind(name), Some(ValueKind::Value), "{build} --{name}");
        }
        for name in ["ctx-size", "threads"] {
            assert_eq!(list.value_kind(name), Some(ValueKind::Number), "{build} --{name}");
        }
        for name in ["help", "version", "metrics", "log-disable"] {
            assert_eq!(list.value_kind(name), Some(ValueKind::Nothing), "{build} --{name}");
        }
    }
}

#[test]
fn an_option_takes_what_its_build_says() {
    let cases = [
        ("2024-07-py0.2.80", "flash-attn", Some(ValueKind::Nothing)),
        ("2025-08-py0.3.16", "flash-attn", Some(ValueKind::Nothing)),
        ("b11669-debian", "flash-attn", Some(ValueKind::OnOff)),
        ("b11669-debian", "cpu-strict", Some(ValueKind::ZeroOne)),
        ("b11669-debian", "poll", Some(ValueKind::Value)),
        ("b11669-debian", "no-perf", Some(ValueKind::Nothing)),
        ("2024-07-py0.2.80", "lookup-cache-static", Some(ValueKind::Value)),
        ("2024-07-py0.2.80", "in-file", Some(ValueKind::Value)),
        ("2025-08-py0.3.16", "no-mmap", Some(ValueKind::Nothing)),
        ("b11669-debian", "no-mmap", None),
        ("b11669-debian", "load-mode", Some(ValueKind::Value)),
        ("2025-08-py0.3.16", "load-mode", None),
        ("b11669-debian", "n-gpu-layers", Some(ValueKind::Number)),
        ("b11669-debian", "gpu-layers", Some(ValueKind::Number)),
    ];
    for (build, name, takes) in cases {
        assert_eq!(OptionList::parse(&fixtures::help(build)).value_kind(name), takes, "{build} --{name}");
    }
}

#[test]
fn the_help_says_whether_a_build_listens_on_unix_sockets() {
    for (build, hosts) in [
        ("2023-12-py0.2.26", HostForms::Addresses),
        ("2024-07-py0.2.80", HostForms::Addresses),
        ("2024-11-py0.3.2", HostForms::Addresses),
        ("2025-08-py0.3.16", HostForms::AddressesAndSockets),
        ("b11669-debian", HostForms::AddressesAndSockets),
    ] {
        assert_eq!(OptionList::parse(&fixtures::help(build)).hosts(), hosts, "{build}");
    }
    assert_eq!(OptionList::parse("  --port N   x\n").hosts(), HostForms::Unknown);
}

#[test]
fn a_build_tells_in_its_help_that_a_comment_is_no_key() {
    for (build, takes) in [("2024-11-py0.3.2", true), ("2025-08-py0.3.16", true), ("b11669-debian", false)] {
        assert_eq!(OptionList::parse(&fixtures::help(build)).takes_comments_for_keys(), takes, "{build}");
    }
}

#[test]
fn a_value_may_stand_behind_each_name() {
    let of_2023 = OptionList::parse(&fixtures::help("2023-12-py0.2.26"));
    assert_eq!(of_2023.names().count(), 32);
    for name in ["threads", "ctx-size", "batch-size", "timeout"] {
        assert_eq!(of_2023.value_kind(name), Some(ValueKind::Number), "{name}");
    }
    assert_eq!(of_2023.value_kind("no-mmap"), Some(ValueKind::Nothing));
    let list = OptionList::parse(
        "  -t N, --threads N         number of threads\n  -ts SPLIT --tensor-split SPLIT\n  -cb, --cont-batching      x\n\
         --numa          -1 is no option\n",
    );
    assert_eq!(list.names().collect::<Vec<_>>(), ["cont-batching", "numa", "tensor-split", "threads"]);
    assert_eq!(list.value_kind("threads"), Some(ValueKind::Number));
    assert_eq!(list.value_kind("cont-batching"), Some(ValueKind::Nothing));
}

#[test]
fn text_that_is_no_help_lists_nothing() {
    for text in ["", "error: unknown argument: --help\n", "- none: one\n-- two\n--- three", "\u{fffd}\0"] {
        assert_eq!(OptionList::parse(text), OptionList::default(), "{text:?}");
    }
}

#[test]
fn colours_change_nothing_about_a_help_text() {
    for (build, _) in fixtures::HELP_OPTION_COUNTS {
        let plain = fixtures::help(build);
        let coloured = plain.replace("--", "\x1b[1;32m--").replace("  ", "\x1b[0m  ");
        assert_eq!(OptionList::parse(&coloured), OptionList::parse(&plain), "{build}");
    }
}

#[test]
fn a_short_name_leads_to_the_long_one_beside_it() {
    let cases = [
        ("b11669-debian", "c", "ctx-size"),
        ("b11669-debian", "ngl", "n-gpu-layers"),
        ("b11669-debian", "fa", "flash-attn"),
        ("b11669-debian", "kvo", "kv-offload"),
        ("b11669-debian", "nkvo", "no-kv-offload"),
        ("b11669-debian", "e", "escape"),
        ("b11669-debian", "md", "model-draft"),
        ("2025-08-py0.3.16", "ot", "override-tensor"),
        ("2024-07-py0.2.80", "lcs", "lookup-cache-static"),
        ("2023-12-py0.2.26", "t", "threads"),
    ];
    for (build, short, long) in cases {
        assert_eq!(OptionList::parse(&fixtures::help(build)).long_name(short), Some(long), "{build} -{short}");
    }
}

#[test]
fn the_help_says_which_values_are_lists_paths_and_numbers() {
    use ListForm::{Described, Joined, Repeated, Single};
    let (old, new) =
        (OptionList::parse(&fixtures::help("2025-08-py0.3.16")), OptionList::parse(&fixtures::help("b11669-debian")));
    for name in ["tensor-split", "device", "device-draft", "override-tensor"] {
        assert_eq!((old.list_form(name), new.list_form(name)), (Some(Joined(',')), Some(Joined(','))), "{name}");
    }
    let forms = [
        ("lora", Some(Repeated), Some(Described(','))),
        ("samplers", Some(Described(';')), Some(Described(';'))),
        ("rope-scaling", Some(Single), Some(Single)),
        ("ctx-size", Some(Single), Some(Single)),
        ("tags", None, Some(Described(','))),
    ];
    for (name, in_old, in_new) in forms {
        assert_eq!((old.list_form(name), new.list_form(name)), (in_old, in_new), "{name}");
    }
    for name in ["lora", "lora-scaled", "mmproj", "chat-template-file", "slot-save-path", "log-file", "model-draft"] {
        assert!(old.takes_path(name) && new.takes_path(name), "{name}");
    }
    for name in ["alias", "ctx-size", "chat-template", "api-prefix", "device"] {
        assert!(!old.takes_path(name) && !new.takes_path(name), "{name}");
    }
    assert!(new.takes_number("n-gpu-layers", "all") && !old.takes_number("n-gpu-layers", "all"));
    for (text, is_number) in [
        ("8192", true),
        ("-1", true),
        ("0.5", true),
        ("8k", false),
        ("1e5", false),
        ("", false),
        ("1.2.3", false),
        ("inf", false),
    ] {
        assert_eq!(new.takes_number("ctx-size", text), is_number, "{text}");
    }
}
