//! Files that are not what they should be.

use std::fs;

use llama_warden_catalog::ProblemReason;
use llama_warden_tiny_gguf::{Damage, TinyModel};

use super::{Models, ids};
use crate::support::{Gguf, GgufByteOrder};

#[test]
fn each_damage_has_its_reason() {
    for damage in Damage::ALL {
        let expected = match damage {
            Damage::WrongMagic | Damage::Empty => ProblemReason::NotGguf,
            Damage::FutureVersion => ProblemReason::VersionUnsupported,
            Damage::HeaderCut | Damage::WeightsCut => ProblemReason::Truncated,
        };
        let models = Models::new();
        TinyModel::new("x").write_damaged(&models.path("x.gguf"), damage).expect("written");
        assert_eq!(models.problems(), [("x.gguf".to_owned(), expected)], "{damage:?}");
    }
}

#[test]
fn damaged_files_disturb_no_other() {
    let models = Models::new();
    for index in 0..8 {
        let path = models.path(&format!("good-{index}.gguf"));
        TinyModel::new("good").seed(index).write(&path).expect("written");
    }
    for (index, damage) in Damage::ALL.into_iter().enumerate() {
        TinyModel::new("bad").write_damaged(&models.path(&format!("bad-{index}.gguf")), damage).expect("written");
    }
    let report = models.discover();
    assert_eq!(report.models.len(), 8);
    assert_eq!(ids(&report)[0], "good_0_123k_f32");
    assert_eq!(report.problems.len(), Damage::ALL.len());
    for problem in &report.problems {
        assert!(!problem.detail.is_empty() && !problem.help.is_empty(), "{problem:?}");
    }
}

#[test]
fn a_file_of_the_other_byte_order_is_named_as_such() {
    let foreign = if cfg!(target_endian = "big") { GgufByteOrder::Little } else { GgufByteOrder::Big };
    let models = Models::new();
    models.put("m.gguf", &Gguf::model("llama").order(foreign));
    assert_eq!(models.problems(), [("m.gguf".to_owned(), ProblemReason::ByteOrderForeign)]);
}

#[test]
fn a_web_page_with_a_models_name_is_no_gguf() {
    let models = Models::new();
    fs::write(models.path("m.gguf"), "<!DOCTYPE html><html>Access denied</html>").expect("written");
    let report = models.discover();
    assert_eq!(report.problems[0].reason, ProblemReason::NotGguf);
    assert_eq!(report.problems[0].detail, "the file begins with `<!DO`, not with `GGUF`");
}

#[test]
fn a_huge_file_of_zeros_costs_nothing() {
    let models = Models::new();
    fs::File::create(models.path("m.gguf")).and_then(|file| file.set_len(1 << 40)).expect("a hole");
    assert_eq!(models.problems(), [("m.gguf".to_owned(), ProblemReason::NotGguf)]);
}
