//! Which projector goes to which model.

use llama_warden_catalog::{CatalogReport, ProblemReason};

use super::Models;
use crate::support::Gguf;

fn model(width: u32) -> Gguf {
    Gguf::model("qwen3vl").with("qwen3vl.embedding_length", width)
}

fn projector(width: u32) -> Gguf {
    Gguf::new()
        .with("general.architecture", "clip")
        .with("general.file_type", 1)
        .with("clip.vision.projection_dim", width)
        .tensor(&[64], 1)
}

/// Pairs as file names, `-` for none.
fn pairs(report: &CatalogReport) -> Vec<(String, String)> {
    let name = |path: &std::path::Path| path.file_name().and_then(|name| name.to_str()).unwrap_or("-").to_owned();
    let pair = |projector: &Option<std::path::PathBuf>| projector.as_deref().map_or("-".to_owned(), name);
    let mut pairs: Vec<_> = report.models.iter().map(|model| (name(&model.path), pair(&model.projector))).collect();
    pairs.sort();
    pairs
}

fn expect(models: &Models, expected: &[(&str, &str)]) {
    let report = models.discover();
    assert_eq!(report.problems, []);
    let expected: Vec<_> = expected.iter().map(|(model, with)| ((*model).to_owned(), (*with).to_owned())).collect();
    assert_eq!(pairs(&report), expected);
}

#[test]
fn all_quantisations_of_the_only_model_get_the_only_projector() {
    let models = Models::new();
    models.put("VL-8B-Q4_K_M.gguf", &model(4096));
    models.put("VL-8B-Q8_0.gguf", &model(4096));
    // The projectors of LLaVA's own scripts state another width than their model's.
    models.put("mmproj-model-f16.gguf", &projector(768).with("clip.has_llava_projector", 1));
    let with = "mmproj-model-f16.gguf";
    expect(&models, &[("VL-8B-Q4_K_M.gguf", with), ("VL-8B-Q8_0.gguf", with)]);
}

#[test]
fn among_many_models_the_name_decides() {
    let models = Models::new();
    models.put("gemma-3-4b-it-Q4_K_M.gguf", &model(2560));
    models.put("gemma-3-12b-it-Q4_K_M.gguf", &model(3840));
    models.put("Qwen3-8B.gguf", &model(3840));
    models.put("mmproj-gemma-3-4b-it-f16.gguf", &projector(2560));
    models.put("gemma-3-12b-it-mmproj-f16.gguf", &projector(3840));
    expect(
        &models,
        &[
            ("Qwen3-8B.gguf", "-"),
            ("gemma-3-12b-it-Q4_K_M.gguf", "gemma-3-12b-it-mmproj-f16.gguf"),
            ("gemma-3-4b-it-Q4_K_M.gguf", "mmproj-gemma-3-4b-it-f16.gguf"),
        ],
    );
}

#[test]
fn a_nameless_projector_goes_to_the_one_model_of_its_width() {
    let models = Models::new();
    models.put("a-4B.gguf", &model(2560));
    models.put("b-8B.gguf", &model(4096));
    models.put("mmproj.gguf", &projector(4096));
    expect(&models, &[("a-4B.gguf", "-"), ("b-8B.gguf", "mmproj.gguf")]);
}

#[test]
fn a_projector_of_another_model_is_given_to_none() {
    let models = Models::new();
    models.put("a-4B.gguf", &model(2560));
    models.put("mmproj-other-8B-f16.gguf", &projector(4096));
    let report = models.discover();
    assert_eq!(report.models[0].projector, None);
    assert_eq!(models.problems(), [("mmproj-other-8B-f16.gguf".to_owned(), ProblemReason::ProjectorUnpaired)]);
}

#[test]
fn a_projector_of_another_width_is_given_to_none_whatever_the_names_say() {
    for name in ["mmproj-F16.gguf", "mmproj-VL-8B-F16.gguf", "mmproj.gguf"] {
        let models = Models::new();
        models.put("VL-8B-Q4_K_M.gguf", &model(4096));
        models.put("VL-8B-Q8_0.gguf", &model(4096));
        models.put(name, &projector(2560));
        let report = models.discover();
        assert!(report.models.iter().all(|model| model.projector.is_none()), "{name}");
        assert_eq!(models.problems(), [(name.to_owned(), ProblemReason::ProjectorUnpaired)]);
        assert!(report.problems[0].detail.starts_with("a projector of width 2560 "), "{}", report.problems[0].detail);
    }
    // A width that is not known is no other width.
    for projector in [projector(0), Gguf::new().with("general.type", "mmproj").tensor(&[64], 1)] {
        let models = Models::new();
        models.put("VL-8B.gguf", &model(4096));
        models.put("mmproj-F16.gguf", &projector);
        expect(&models, &[("VL-8B.gguf", "mmproj-F16.gguf")]);
    }
}

#[test]
fn a_projector_stays_in_its_directory() {
    let models = Models::new();
    models.put("a/VL.gguf", &model(4096));
    models.put("b/mmproj.gguf", &projector(4096));
    assert_eq!(models.problems(), [("b/mmproj.gguf".to_owned(), ProblemReason::ProjectorUnpaired)]);
}

#[test]
fn of_several_precisions_the_common_one_is_taken() {
    let models = Models::new();
    models.put("VL-8B.gguf", &model(4096));
    for (name, file_type, tensor) in [("BF16", 32, 30), ("F16", 1, 1), ("F32", 0, 0)] {
        let projector = Gguf::new().with("general.type", "mmproj").with("general.file_type", file_type);
        models.put(&format!("mmproj-{name}.gguf"), &projector.tensor(&[64], tensor));
    }
    expect(&models, &[("VL-8B.gguf", "mmproj-F16.gguf")]);
}
