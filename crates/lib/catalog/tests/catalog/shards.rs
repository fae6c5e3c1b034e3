//! Split models.

use llama_warden_catalog::ProblemReason;

use super::Models;
use crate::support::{Gguf, GgufValue};

fn shard(number: u16, count: u16) -> Gguf {
    let shard = match number {
        0 => Gguf::model("llama").with("llama.block_count", 80),
        _ => Gguf::new().tensor(&[1_000_000], 0),
    };
    shard.with("split.no", GgufValue::U16(number)).with("split.count", GgufValue::U16(count))
}

fn name(number: u16, count: u16) -> String {
    format!("Llama-70B-Q4_K_M-{number:05}-of-{count:05}.gguf")
}

#[test]
fn shards_become_one_model_of_the_first_ones_path() {
    let models = Models::new();
    let paths: Vec<_> = (0..3).map(|number| models.put(&name(number + 1, 3), &shard(number, 3))).collect();
    let model = models.only();
    assert_eq!(model.id.as_str(), "llama_70b_q4km");
    assert_eq!(model.path, paths[0]);
    assert_eq!(model.shards, paths);
    assert_eq!(model.parameters, 8_000_000_000 + 2_000_000);
    assert_eq!(model.file_bytes, (0..3).map(|number| shard(number, 3).file_bytes()).sum::<u64>());
}

#[test]
fn a_first_shard_without_tensors_is_no_vocabulary() {
    let models = Models::new();
    let split = |number| Gguf::new().with("split.no", GgufValue::U16(number)).with("split.count", GgufValue::U16(2));
    models.put(&name(1, 2), &split(0).with("general.architecture", "llama"));
    models.put(&name(2, 2), &split(1).tensor(&[1_000_000], 1));
    assert_eq!(models.only().parameters, 1_000_000);
}

#[test]
fn a_missing_shard_is_named_and_the_rest_is_no_model() {
    let models = Models::new();
    models.put(&name(2, 3), &shard(1, 3));
    models.put(&name(3, 3), &shard(2, 3));
    let report = models.discover();
    assert_eq!(report.models, []);
    assert_eq!(models.problems(), [(name(2, 3), ProblemReason::ShardMissing)]);
    assert_eq!(report.problems[0].detail, "shard 1 of 3 is missing");
}

#[test]
fn a_lonely_shard_of_many_makes_one_problem() {
    let models = Models::new();
    models.put("x-00007-of-99999.gguf", &shard(6, 9));
    let report = models.discover();
    assert_eq!(report.problems.len(), 1);
    assert_eq!(report.problems[0].detail, "99998 of 99999 shards are missing, the first is 1");
}

#[test]
fn a_broken_shard_is_the_one_problem_of_its_split() {
    let models = Models::new();
    models.put(&name(1, 2), &shard(0, 2));
    models.put(&name(2, 2), &shard(1, 2).version(99));
    assert!(models.discover().models.is_empty());
    assert_eq!(models.problems(), [(name(2, 2), ProblemReason::VersionUnsupported)]);
}

#[test]
fn a_shard_whose_name_and_header_differ_is_a_problem() {
    for (file, gguf) in [
        ("renamed.gguf".to_owned(), shard(0, 3)),
        (name(1, 2), shard(0, 3)),
        (name(1, 2), shard(1, 2)),
        (name(1, 2), Gguf::model("llama")),
    ] {
        let models = Models::new();
        models.put(&name(2, 2), &shard(1, 2));
        if file == "renamed.gguf" {
            models.put(&name(1, 2), &shard(0, 2));
        }
        models.put(&file, &gguf);
        assert_eq!(models.problems(), [(file, ProblemReason::ShardMismatched)]);
    }
}

#[test]
fn a_split_of_one_is_a_plain_model() {
    let models = Models::new();
    models.put(&name(1, 1), &shard(0, 1));
    let model = models.only();
    assert_eq!((model.id.as_str(), model.shards), ("llama_70b_q4km", vec![]));
}

#[test]
fn equal_names_in_two_directories_are_two_splits() {
    let models = Models::new();
    for directory in ["a", "b"] {
        for number in 0..2 {
            models.put(&format!("{directory}/{}", name(number + 1, 2)), &shard(number, 2));
        }
    }
    assert_eq!(models.discover().models.len(), 2);
}
