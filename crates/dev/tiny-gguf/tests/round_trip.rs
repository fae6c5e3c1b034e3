//! Models are read back by a reader that shares no code with the writer.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails is a failed test")]

use std::{
    collections::BTreeMap,
    io::{Cursor, Read},
};

use llama_warden_tiny_gguf::{Damage, ModelShape, TinyModel, WeightFormat};

#[test]
fn the_header_says_what_the_model_was_told() {
    let shape = ModelShape { layers: 3, embedding: 96, heads: 6, feed_forward: 160 };
    let file = parse(&bytes(&TinyModel::new("A name").shape(shape).context_length(777)));
    assert_eq!(file.version, 3);
    assert_eq!(file.pairs["general.architecture"], Item::Text("llama".into()));
    assert_eq!(file.pairs["general.name"], Item::Text("A name".into()));
    assert_eq!(file.pairs["llama.context_length"], Item::Number(777));
    assert_eq!(file.pairs["llama.block_count"], Item::Number(3));
    assert_eq!(file.pairs["llama.embedding_length"], Item::Number(96));
    assert_eq!(file.pairs["llama.attention.head_count"], Item::Number(6));
    assert_eq!(file.pairs["llama.feed_forward_length"], Item::Number(160));
}

#[test]
fn the_vocabulary_is_complete_and_falls_back_to_bytes() {
    let file = parse(&bytes(&TinyModel::new("words")));
    let Item::Texts(tokens) = &file.pairs["tokenizer.ggml.tokens"] else { panic!("tokens are texts") };
    assert_eq!(tokens[..4], ["<unk>", "<s>", "</s>", "<0x00>"]);
    assert_eq!(tokens[3 + 255], "<0xFF>");
    assert_eq!(file.pairs["llama.vocab_size"], Item::Number(tokens.len() as u64));
    assert_eq!(file.pairs["tokenizer.ggml.scores"], Item::Count(tokens.len()));
    assert_eq!(file.pairs["tokenizer.ggml.token_type"], Item::Count(tokens.len()));
}

#[test]
fn tensors_are_aligned_touch_each_other_and_end_with_the_file() {
    for weights in [WeightFormat::F32, WeightFormat::F16, WeightFormat::Q8_0] {
        let bytes = bytes(&TinyModel::new("tensors").weights(weights));
        let file = parse(&bytes);
        let mut expected = 0;
        for tensor in &file.tensors {
            assert_eq!(tensor.offset, expected, "{} in {weights:?}", tensor.name);
            expected += tensor.bytes().next_multiple_of(32);
        }
        assert_eq!(file.data_at + expected, bytes.len() as u64, "{weights:?}");
        assert_eq!(file.tensors.len(), 3 + 2 * 9);
    }
}

#[test]
fn weights_are_finite_and_small() {
    let bytes = bytes(&TinyModel::new("weights"));
    let file = parse(&bytes);
    let embedding = file.tensors.iter().find(|tensor| tensor.name == "token_embd.weight").unwrap();
    let from = (file.data_at + embedding.offset) as usize;
    let mut numbers = bytes[from..from + embedding.bytes() as usize]
        .as_chunks::<4>()
        .0
        .iter()
        .map(|chunk| f32::from_le_bytes(*chunk));
    assert!(numbers.all(|number| number.abs() <= 0.0625));
}

#[test]
fn equal_seeds_give_equal_files_and_other_seeds_others() {
    let model = TinyModel::new("seeds");
    assert_eq!(bytes(&model.clone().seed(7)), bytes(&model.clone().seed(7)));
    assert_ne!(bytes(&model.clone().seed(7)), bytes(&model.seed(8)));
}

#[test]
fn the_default_model_is_under_a_megabyte() {
    assert!(bytes(&TinyModel::new("small")).len() < 1 << 20);
}

#[test]
fn damage_is_where_its_name_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.gguf");
    let good = bytes(&TinyModel::new("good"));
    for damage in Damage::ALL {
        TinyModel::new("good").write_damaged(&path, damage).unwrap();
        let bad = std::fs::read(&path).unwrap();
        let data_at = parse(&good).data_at as usize;
        match damage {
            Damage::WrongMagic => assert!(bad.starts_with(b"GGML") && bad[4..] == good[4..]),
            Damage::FutureVersion => assert!(bad[4..8] == 99_u32.to_le_bytes() && bad[8..] == good[8..]),
            Damage::HeaderCut => assert!(bad.len() > 24 && bad.len() < 24 + 8 + "general.architecture".len()),
            Damage::WeightsCut => assert!(bad.len() > data_at && bad.len() < good.len()),
            Damage::Empty => assert!(bad.is_empty()),
        }
    }
}

fn bytes(model: &TinyModel) -> Vec<u8> {
    let mut out = Vec::new();
    model.write_to(&mut out).unwrap();
    out
}

struct Parsed {
    version: u64,
    pairs: BTreeMap<String, Item>,
    tensors: Vec<Tensor>,
    data_at: u64,
}

#[derive(Debug, PartialEq)]
enum Item {
    Number(u64),
    Text(String),
    Texts(Vec<String>),
    Count(usize),
}

struct Tensor {
    name: String,
    elements: u64,
    type_code: u64,
    offset: u64,
}

impl Tensor {
    fn bytes(&self) -> u64 {
        match self.type_code {
            0 => self.elements * 4,
            1 => self.elements * 2,
            8 => self.elements / 32 * 34,
            other => panic!("unknown tensor type {other}"),
        }
    }
}

fn parse(bytes: &[u8]) -> Parsed {
    let mut input = Cursor::new(bytes);
    assert_eq!(take::<4>(&mut input), *b"GGUF");
    let version = u32_of(&mut input);
    let (tensor_count, pair_count) = (u64_of(&mut input), u64_of(&mut input));
    let pairs = (0..pair_count).map(|_| (text_of(&mut input), item_of(&mut input))).collect();
    let tensors = (0..tensor_count).map(|_| tensor_of(&mut input)).collect();
    Parsed { version, pairs, tensors, data_at: input.position().next_multiple_of(32) }
}

fn tensor_of(input: &mut Cursor<&[u8]>) -> Tensor {
    let name = text_of(input);
    let dimensions = u32_of(input);
    let elements = (0..dimensions).map(|_| u64_of(input)).product();
    Tensor { name, elements, type_code: u32_of(input), offset: u64_of(input) }
}

fn item_of(input: &mut Cursor<&[u8]>) -> Item {
    match u32_of(input) {
        4 | 6 => Item::Number(u32_of(input)),
        7 => Item::Number(u64::from(take::<1>(input)[0])),
        8 => Item::Text(text_of(input)),
        9 => match (u32_of(input), u64_of(input)) {
            (8, length) => Item::Texts((0..length).map(|_| text_of(input)).collect()),
            (5 | 6, length) => Item::Count((0..length).map(|_| u32_of(input)).count()),
            (other, _) => panic!("unknown item type {other}"),
        },
        other => panic!("unknown value type {other}"),
    }
}

fn text_of(input: &mut Cursor<&[u8]>) -> String {
    let length = u64_of(input) as usize;
    let mut text = vec![0; length];
    input.read_exact(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

fn u32_of(input: &mut Cursor<&[u8]>) -> u64 {
    u64::from(u32::from_le_bytes(take(input)))
}

fn u64_of(input: &mut Cursor<&[u8]>) -> u64 {
    u64::from_le_bytes(take(input))
}

fn take<const N: usize>(input: &mut Cursor<&[u8]>) -> [u8; N] {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes).unwrap();
    bytes
}
