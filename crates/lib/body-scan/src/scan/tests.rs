//! What is found in bodies, and where they break.

use serde_json::Value as Json;

use super::*;
use crate::LONGEST;

fn scan<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Option<String>, Option<BodyFault>) {
    let mut scanner = Scanner::default();
    chunks.into_iter().for_each(|chunk| scanner.feed(chunk));
    (scanner.model().map(str::to_owned), scanner.fault())
}

const BODIES: &[&str] = &[
    r#"{"model":"a"}"#,
    r#" { "messages" : [ {"role":"user","content":"say \"model\": \\"} ] , "model" : "b" , "stream":true }"#,
    r#"{"x":{"model":"inner"},"y":[{"model":"inner"}],"model":"outer"}"#,
    r#"{"mod\u0065l":"esc\u0061ped \"q\" \ud83d\ude00"}"#,
    r#"{"n":-1.5e3,"t":true,"z":null ,"model":"after scalars"}"#,
    r#"{"model":5,"other":"x"}"#,
    r#"{"model":null}"#,
    r#"{"model":["x"],"other":"x"}"#,
    r#"{"model":{"x":"y"},"other":"x"}"#,
    r#"{"a":"\\","model":"behind a backslash"}"#,
    r#"{"a":["]","}","\"]"],"model":"behind brackets in strings"}"#,
    r#"{"a":[[],{},[{}],{"b":[1,2 , 3]}],"model":"behind nesting"}"#,
    r#"{"a":[0,-0,10,0.5,1E9,1e-9,2e+0,false],"b":{"c":null},"model":"behind numbers"}"#,
    r#"{}"#,
    r#"["model","x"]"#,
    r#"[{"model":"x"}]"#,
    r#""model""#,
    "17",
    " true ",
    "{\"model\":\"tab\",\r\n\t\"a\":1}",
    r#"{"model":"ünïcode 😀","a":"…\u00e9\b\f\n\r\t\/"}"#,
];

#[test]
fn the_scanner_finds_what_a_parser_finds_at_every_split() {
    for body in BODIES {
        let parsed: Json = serde_json::from_str(body).expect("valid");
        let expected = (parsed.get("model").and_then(Json::as_str).map(str::to_owned), None);
        for split in 0..=body.len() {
            let (first, second) = body.as_bytes().split_at(split);
            assert_eq!(scan([first, second]), expected, "{body} at {split}");
        }
        assert_eq!(scan(body.as_bytes().chunks(1)), expected, "{body} byte by byte");
    }
}

/// A parser refuses every beginning of an object, and nearly every change of one byte.
#[test]
fn the_scanner_refuses_what_a_parser_refuses() {
    let agrees = |bytes: &[u8]| {
        let parsed = serde_json::from_slice::<Json>(bytes);
        let found = scan([bytes]).1;
        assert_eq!(found.is_none(), parsed.is_ok(), "{:?}: {found:?}, {parsed:?}", String::from_utf8_lossy(bytes));
        assert_eq!(found, scan(bytes.chunks(1)).1.map(|fault| same_place(fault, found)), "{bytes:?}");
    };
    for body in BODIES {
        for length in 0..body.len() {
            agrees(&body.as_bytes()[..length]);
        }
        for (at, with) in
            (0..body.len()).flat_map(|at| b"\"\\{}[],:0-.e x\t\x07\x7f\xff\xc3\xed\xa0".map(|with| (at, with)))
        {
            let mut changed = body.as_bytes().to_vec();
            changed[at] = with;
            agrees(&changed);
            changed[at] = body.as_bytes()[at];
            changed.insert(at, with);
            agrees(&changed);
        }
    }
}

/// Of bytes that come one by one, the place is known more exactly.
fn same_place(fault: BodyFault, found: Option<BodyFault>) -> BodyFault {
    match (fault, found) {
        (
            BodyFault::NotUtf8(_) | BodyFault::NotJson(_),
            Some(known @ (BodyFault::NotUtf8(_) | BodyFault::NotJson(_))),
        ) => known,
        (fault, _) => fault,
    }
}

#[test]
fn the_first_of_two_models_counts_and_a_byte_order_mark_does_not() {
    assert_eq!(scan([br#"{"model":"a","model":"b"}"#.as_slice()]), (Some("a".to_owned()), None));
    let marked = [&BOM[..], br#" {"model":"a"}"#].concat();
    for split in 0..marked.len() {
        let (first, second) = marked.split_at(split);
        assert_eq!(scan([first, second]), (Some("a".to_owned()), None), "{split}");
    }
    let twice = [&BOM[..], &BOM[..], b"{}"].concat();
    assert_eq!(scan([&*twice]).1, Some(BodyFault::NotJson(3)));
}

/// Where b11434 and the builds before it agree, and serde_json does not.
#[test]
fn what_llama_server_takes_is_taken() {
    let deep = format!("{{\"x\":{}{},\"model\":\"a\"}}", "[".repeat(100_000), "]".repeat(100_000));
    for body in ["{\"model\":\"a\"}\0", "{\"model\":\"a\"} \0more", "{\"x\":1e999,\"model\":\"a\"}", &deep] {
        assert_eq!(scan([body.as_bytes()]), (Some("a".to_owned()), None), "{body:.40}");
    }
    for body in [r#"{"x":"\ud800","model":"a"}"#, r#"{"x":"\udc00"}"#, r#"{"x":"\ud800\ud800"}"#, r#"{"x":"\ud800\n"}"#]
    {
        assert!(matches!(scan([body.as_bytes()]).1, Some(BodyFault::NotJson(_))), "{body}");
    }
}

#[test]
fn what_is_no_json_names_no_model_and_says_where_it_breaks() {
    for (body, fault) in [
        ("", BodyFault::Empty),
        (" ", BodyFault::CutJson(1)),
        ("{", BodyFault::CutJson(1)),
        ("{\"model\"", BodyFault::CutJson(8)),
        ("{\"model\":\"cut", BodyFault::CutJson(13)),
        ("model=a", BodyFault::NotJson(0)),
        ("\u{feff}", BodyFault::CutJson(3)),
        ("{{{{", BodyFault::NotJson(1)),
        ("}", BodyFault::NotJson(0)),
        ("{\"a\" 1, \"model\":\"x\"}", BodyFault::NotJson(5)),
        ("{]", BodyFault::NotJson(1)),
        ("{/**/}", BodyFault::NotJson(1)),
    ] {
        assert_eq!(scan([body.as_bytes()]), (None, Some(fault)), "{body}");
    }
    assert_eq!(scan([b"{\"model\":\"\xff\"}".as_slice()]), (None, Some(BodyFault::NotUtf8(10))));
    let behind = scan([br#"{"model":"a"}{"#.as_slice()]);
    assert_eq!(behind, (Some("a".to_owned()), Some(BodyFault::NotJson(13))));
}

#[test]
fn a_name_that_is_too_long_is_cut_and_no_part_of_one_is_taken_for_it() {
    let long = format!("{{\"model\":\"{}\"}}", "x".repeat(LONGEST + 1));
    let cut = format!("{}…", "x".repeat(LONGEST));
    assert_eq!(scan([long.as_bytes()]), (Some(cut.clone()), None));
    assert_eq!(scan(long.as_bytes().chunks(7)), (Some(cut), None));
    let key = format!("{{\"mo{}\\u0064el\":\"x\"}}", "y".repeat(LONGEST));
    assert_eq!(scan([key.as_bytes()]), (None, None));
}

#[test]
fn objects_and_arrays_end_as_they_began_at_any_depth() {
    for depth in [1, 31, 32, 33, 64, 65, 200] {
        let (begin, end) = ("{\"a\":[".repeat(depth), "]}".repeat(depth));
        assert_eq!(scan([format!("{begin}{end}").as_bytes()]), (None, None), "{depth}");
        for place in 0..end.len() {
            let mut wrong = format!("{begin}{end}").into_bytes();
            let at = begin.len() + place;
            wrong[at] ^= b']' ^ b'}';
            assert_eq!(scan([&*wrong]).1, Some(BodyFault::NotJson(at)), "{depth}");
        }
    }
}
