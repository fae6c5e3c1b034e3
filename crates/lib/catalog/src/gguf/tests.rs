//! Headers in memory: the values that are read, the bytes that are read, and invalid headers.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};

use super::error::HEADER_LIMIT;
use super::prefix::CHUNK;
use super::*;
use crate::testing::{Gguf, GgufByteOrder, GgufValue};

/// Counts the bytes that are read of a file whose bytes after `head` are all zero.
struct Counting {
    head: Vec<u8>,
    length: u64,
    at: u64,
    read: u64,
}

impl Counting {
    fn new(head: Vec<u8>, length: u64) -> Self {
        Self { head, length, at: 0, read: 0 }
    }

    fn header(&mut self) -> Result<GgufHeader, HeaderError> {
        let length = self.length;
        GgufHeader::read(self, length)
    }
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = (self.length.saturating_sub(self.at)).min(buffer.len() as u64) as usize;
        let buffer = &mut buffer[..wanted];
        buffer.fill(0);
        let rest = self.head.get(self.at as usize..).unwrap_or_default();
        let copied = rest.len().min(wanted);
        buffer[..copied].copy_from_slice(&rest[..copied]);
        self.at += wanted as u64;
        self.read += wanted as u64;
        Ok(wanted)
    }
}

impl Seek for Counting {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Start(at) = to else { return Err(io::ErrorKind::Unsupported.into()) };
        self.at = at;
        Ok(at)
    }
}

fn read(gguf: &Gguf) -> Result<GgufHeader, HeaderError> {
    Counting::new(gguf.header(), gguf.file_bytes()).header()
}

fn refusal(gguf: &Gguf) -> HeaderError {
    read(gguf).expect_err("must be refused")
}

fn rich() -> Gguf {
    Gguf::new()
        .with("general.alignment", 32)
        .with("qwen3moe.context_length", 40_960)
        .with("general.architecture", "qwen3moe")
        .with("general.name", "Qwen3 \u{1b}[31m30B\nA3B")
        .with("general.file_type", 15)
        .with("qwen3moe.block_count", 48)
        .with("qwen3moe.embedding_length", 2048)
        .with("qwen3moe.attention.head_count", 32)
        .with("qwen3moe.attention.head_count_kv", 4)
        .with("qwen3moe.attention.key_length", 128)
        .with("qwen3moe.attention.value_length", 128)
        .with("qwen3moe.rope.freq_base", GgufValue::F32(1e6))
        .with("qwen3moe.expert_count", 128)
        .with("qwen3moe.expert_used_count", 8)
        .with("tokenizer.ggml.tokens", GgufValue::Texts(vec!["a".into(), String::new(), "ccc".into()]))
        .with("tokenizer.ggml.scores", GgufValue::F32s(vec![0.5; 3]))
        .with("tokenizer.chat_template", "{% if enable_thinking %}<think>{% endif %}")
        .with("split.count", GgufValue::U16(2))
        .tensor(&[2048, 1000], 12)
        .tensor(&[2048], 0)
}

fn assert_rich(header: &GgufHeader) {
    assert_eq!(header.architecture.as_deref(), Some("qwen3moe"));
    assert_eq!(header.name.as_deref(), Some("Qwen3 [31m30B A3B"));
    assert_eq!(header.file_type, Some(15));
    assert_eq!(header.context_length, Some(40_960));
    assert_eq!((header.experts, header.experts_used), (Some(128), Some(8)));
    assert_eq!(header.shape.kv_heads, Some(4 * 48));
    assert_eq!((header.shape.kv_heads, header.shape.head_widths()), (Some(4 * 48), Some((128, 128))));
    assert_eq!(header.split_count, Some(2));
    assert!(header.chat_template.as_deref().is_some_and(|template| template.ends_with("endif %}")));
    assert_eq!((header.tensors.count, header.tensors.elements), (2, 2048 * 1001));
    assert_eq!(header.tensors.dominating_type(), Some("Q4_K"));
}

#[test]
fn versions_2_and_3_of_either_byte_order_are_read_alike() {
    for version in [2, 3] {
        for (order, expected) in [(GgufByteOrder::Little, ByteOrder::Little), (GgufByteOrder::Big, ByteOrder::Big)] {
            let header = read(&rich().version(version).order(order)).expect("sound");
            assert_eq!(header.byte_order, expected);
            assert_rich(&header);
        }
    }
}

#[test]
fn other_versions_are_refused_by_their_number() {
    for version in [0, 1, 4, 99] {
        for order in [GgufByteOrder::Little, GgufByteOrder::Big] {
            let error = refusal(&rich().version(version).order(order));
            assert!(matches!(error, HeaderError::Version(found) if found == version), "{version}: {error}");
        }
    }
}

#[test]
fn keys_of_another_architecture_are_not_taken_for_the_models_own() {
    let gguf = Gguf::new().with("clip.context_length", 77).with("general.architecture", "llama");
    assert_eq!(read(&gguf).expect("sound").context_length, None);
}

#[test]
fn head_counts_that_differ_by_layer_are_added_up() {
    let gguf = Gguf::new()
        .with("general.architecture", "openelm")
        .with("openelm.block_count", 3)
        .with("openelm.embedding_length", 1024)
        .with("openelm.attention.head_count", GgufValue::I32s(vec![12, 16, 16]))
        .with("openelm.attention.head_count_kv", GgufValue::I32s(vec![3, 0, 4]));
    let shape = read(&gguf).expect("sound").shape;
    assert_eq!((shape.head_count, shape.kv_heads), (Some(16), Some(7)));
    assert_eq!((shape.kv_heads, shape.head_widths()), (Some(7), Some((64, 64))));
}

#[test]
fn the_norms_of_a_quantised_model_do_not_name_its_type() {
    let quantised = Gguf::new().tensor(&[64, 64], 0).tensor(&[32, 32], 8);
    assert_eq!(read(&quantised).expect("sound").tensors.dominating_type(), Some("Q8_0"));
    let plain = Gguf::new().tensor(&[64, 64], 0);
    assert_eq!(read(&plain).expect("sound").tensors.dominating_type(), Some("F32"));
}

#[test]
fn a_file_is_as_long_as_its_last_tensor_demands() {
    let gguf = rich();
    // The last tensor ends on the alignment, so no padding may be missing.
    let whole = gguf.file_bytes();
    assert!(GgufHeader::read(Counting::new(gguf.header(), whole), whole).is_ok());
    let error = GgufHeader::read(Counting::new(gguf.header(), whole - 1), whole - 1).expect_err("cut");
    assert!(matches!(error, HeaderError::TensorsCut { needed, .. } if needed == whole), "{error}");
}

#[test]
fn every_cut_within_a_header_is_reported_as_one() {
    let gguf = rich();
    let header = gguf.header();
    // The padding at the end is at most 31 bytes.
    for length in 1..header.len() - 31 {
        let error = GgufHeader::read(Cursor::new(&header[..length]), length as u64).expect_err("cut");
        assert!(matches!(error, HeaderError::HeaderCut { .. }), "{length}: {error}");
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_cut() {
    let header = rich().header();
    let error = GgufHeader::read(Cursor::new(&header[..100]), rich().file_bytes()).expect_err("cut");
    assert!(matches!(error, HeaderError::HeaderCut { file_bytes: 100, .. }), "{error}");
}

#[test]
fn counts_that_no_header_can_hold_are_refused_at_once() {
    for at in [8, 16] {
        let mut head = rich().header();
        head[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        let mut file = Counting::new(head, 1 << 40);
        let error = file.header().expect_err("refused");
        assert!(matches!(error, HeaderError::Count { count: u64::MAX, .. }), "{error}");
        assert!(file.read <= CHUNK as u64);
    }
}

#[test]
fn lengths_that_lie_are_refused_after_one_chunk() {
    let huge = u64::MAX.to_le_bytes();
    let array = |item: u32| [&item.to_le_bytes()[..], &huge].concat();
    for (value, what) in [
        (GgufValue::Raw(8, huge.to_vec()), "a text"),
        (GgufValue::Raw(9, array(10)), "an array of numbers"),
        (GgufValue::Raw(9, array(0)), "an array of bytes"),
    ] {
        for key in ["general.name", "general.unwanted", "x.attention.head_count"] {
            let gguf = Gguf::new().with(key, value.clone());
            let mut file = Counting::new(gguf.header(), 1 << 40);
            let error = file.header().expect_err(what);
            assert!(matches!(error, HeaderError::HeaderCut { .. }), "{what}: {error}");
            assert!(file.read <= CHUNK as u64, "{what}: {} bytes were read", file.read);
        }
    }
}

#[test]
fn an_endless_array_of_texts_ends_at_the_limit() {
    let endless = [&8_u32.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat();
    let gguf = Gguf::new().with("tokenizer.ggml.tokens", GgufValue::Raw(9, endless));
    let mut file = Counting::new(gguf.header(), 1 << 40);
    let error = file.header().expect_err("endless");
    assert!(matches!(error, HeaderError::TooLong), "{error}");
    assert!(file.read <= HEADER_LIMIT, "{} bytes were read", file.read);
}

#[test]
fn what_llama_cpp_does_not_know_is_refused() {
    let nested = [&9_u32.to_le_bytes()[..], &1_u64.to_le_bytes(), &0_u32.to_le_bytes(), &0_u64.to_le_bytes()].concat();
    for (gguf, what) in [
        (Gguf::new().with("general.unwanted", GgufValue::Raw(9, nested.clone())), "the type of an item"),
        (Gguf::new().with("x.attention.head_count", GgufValue::Raw(9, nested)), "the type of an item"),
        (Gguf::new().with("general.name", GgufValue::Raw(13, vec![0; 64])), "the type of a value"),
        (Gguf::new().tensor(&[1; 5], 0), "the number of dimensions"),
        (Gguf::new().tensor(&[u64::MAX, 2], 12), "the length of a dimension"),
        (Gguf::new().tensor(&[1 << 62, 4], 99), "the length of a dimension"),
        (Gguf::new().with("general.alignment", 24), "the alignment"),
        (Gguf::new().with("general.alignment", 0), "the alignment"),
    ] {
        let error = Counting::new(gguf.header(), 1 << 62).header().expect_err(what);
        assert!(error.to_string().starts_with(what), "{what}: {error}");
    }
}

#[test]
fn tensors_and_arrays_of_numbers_are_passed_over_unread() {
    let scores = GgufValue::F32s(vec![0.0; 4 << 20]);
    let gguf = rich().with("tokenizer.ggml.extra", scores).tensor(&[1 << 30], 0);
    let mut file = Counting::new(gguf.header(), gguf.file_bytes());
    assert_rich_but_for_tensors(&file.header().expect("sound"));
    assert!(file.read <= 3 * CHUNK as u64, "{} bytes were read", file.read);
}

fn assert_rich_but_for_tensors(header: &GgufHeader) {
    assert_eq!(header.context_length, Some(40_960));
    assert_eq!(header.tensors.count, 3);
}

#[test]
fn texts_are_passed_over_wherever_a_chunk_ends() {
    for shift in 0..40 {
        let mut texts: Vec<String> = (0..30_000).map(|index| "x".repeat((index + shift) % 23)).collect();
        texts.insert(7, "y".repeat(3 * CHUNK));
        let gguf = Gguf::new().with("tokenizer.ggml.tokens", GgufValue::Texts(texts)).with("general.name", "after");
        assert_eq!(read(&gguf).expect("sound").name.as_deref(), Some("after"));
    }
}

#[test]
fn a_value_of_the_wrong_type_is_as_good_as_none() {
    let gguf = Gguf::new()
        .with("general.architecture", 7)
        .with("general.file_type", "Q4_K_M")
        .with("general.name", GgufValue::I32s(vec![1]))
        .with("split.count", GgufValue::I32(-1));
    let header = read(&gguf).expect("sound");
    assert_eq!((header.architecture, header.file_type, header.name), (None, None, None));
    assert_eq!(header.split_count, None);
}

/// A header with parts of it overwritten, cut out or doubled.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![
        any::<u64>(),
        Just(0),
        Just(u64::MAX),
        Just(i64::MAX as u64),
        Just(u64::from(u32::MAX)),
        Just(HEADER_LIMIT),
        0..64_u64,
    ];
    let change = (any::<prop::sample::Index>(), number, 1..=8_usize, 0..4_u8);
    prop::collection::vec(change, 1..6).prop_map(|changes| {
        let mut bytes = rich().header();
        for (place, number, width, kind) in changes {
            let at = place.index(bytes.len());
            let end = bytes.len().min(at + width);
            match kind {
                0 => drop(bytes.drain(at..end)),
                1 => bytes.splice(at..at, number.to_le_bytes()).for_each(drop),
                _ => bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]),
            }
            if bytes.is_empty() {
                bytes.push(0);
            }
        }
        bytes
    })
}

/// Reads a file of `length` bytes, of which no more may be read than it has and the limit allows.
fn read_within_bounds(head: Vec<u8>, length: u64) {
    let mut file = Counting::new(head, length);
    let outcome = file.header();
    assert!(file.read <= length.min(HEADER_LIMIT), "{} bytes were read", file.read);
    if let Ok(header) = outcome {
        let texts = [&header.name, &header.architecture, &header.chat_template, &header.size_label, &header.file_role];
        let kept: usize = texts.into_iter().flatten().map(String::len).sum();
        // A byte that is not UTF-8 becomes three.
        assert!(kept <= 3 * (CHUNK + 5 * 1024), "{kept} bytes were kept");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_within_bounds(bytes in prop::collection::vec(any::<u8>(), 0..512), begun in any::<bool>()) {
        let mut head = if begun { b"GGUF\x03\0\0\0".to_vec() } else { Vec::new() };
        head.extend(bytes);
        let length = head.len() as u64;
        read_within_bounds(head, length);
    }

    #[test]
    fn a_mutated_header_is_read_within_bounds(head in mutated(), tail in prop_oneof![Just(0), 0..4096_u64, Just(1 << 24)]) {
        let length = head.len() as u64 + tail;
        read_within_bounds(head, length);
    }
}
