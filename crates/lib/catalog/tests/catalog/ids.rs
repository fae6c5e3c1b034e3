//! Ids: readable, unique, and tied to the file.

use super::{Models, ids};
use crate::support::Gguf;

fn id_of(file: &str, gguf: &Gguf) -> String {
    let models = Models::new();
    models.put(file, gguf);
    models.only().id.to_string()
}

#[test]
fn an_id_is_name_size_and_quantisation() {
    let plain = Gguf::model("qwen3");
    for (file, expected) in [
        ("Qwen3-8B-Q4_K_M.gguf", "qwen3_8b_q4km"),
        ("Qwen3-0.6B-Q4_K_M.gguf", "qwen3_0p6b_q4km"),
        ("mistral-7b-instruct-v0.2.Q4_K_M.gguf", "mistral_7b_instruct_v0p2_q4km"),
        ("Qwen3-30B-A3B-UD-Q4_K_XL.gguf", "qwen3_30b_a3b_udq4kxl"),
        ("Phi-4.GGUF", "phi_4_8b_q4km"),
        ("--host.gguf", "host_8b_q4km"),
        ("-m; rm -rf $HOME `x`.gguf", "m_rm_rf_home_x_8b_q4km"),
    ] {
        assert_eq!(id_of(file, &plain), expected, "{file}");
    }
}

#[test]
fn an_empty_name_is_filled_from_header_or_directory() {
    let named = Gguf::model("llama").with("general.name", "Nice Model").with("general.size_label", "7.2B");
    assert_eq!(id_of("ggml-model-Q4_K_M.gguf", &named), "nice_model_7p2b_q4km");
    assert_eq!(id_of("Mistral/model.gguf", &Gguf::model("llama")), "mistral_8b_q4km");
    assert_eq!(id_of("模型/模型.gguf", &Gguf::model("llama")), "model_8b_q4km");
}

#[test]
fn a_long_name_is_cut_before_size_and_quantisation() {
    let id = id_of(&format!("{}-Q4_K_M.gguf", "long".repeat(50)), &Gguf::model("llama"));
    assert_eq!(id.len(), 64);
    assert!(id.starts_with("longlong") && id.ends_with("_8b_q4km"), "{id}");
}

#[test]
fn models_that_would_share_an_id_are_told_apart_by_their_directories() {
    let models = Models::new();
    for directory in ["mirror/old", "mirror/new", "other"] {
        models.put(&format!("{directory}/Qwen3-8B-Q4_K_M.gguf"), &Gguf::model("qwen3"));
    }
    models.put("Solo-8B-Q4_K_M.gguf", &Gguf::model("qwen3"));
    let report = models.discover();
    assert_eq!(ids(&report), ["qwen3_8b_q4km_new", "qwen3_8b_q4km_old", "qwen3_8b_q4km_other", "solo_8b_q4km"]);
}

#[test]
fn models_of_one_directory_that_would_share_an_id_are_told_apart_by_their_paths() {
    let models = Models::new();
    for file in ["Qwen3-8B-Q4_K_M.gguf", "qwen3_8b_q4_k_m.gguf"] {
        models.put(file, &Gguf::model("qwen3"));
    }
    let first = models.discover();
    let expected = ids(&first);
    assert_eq!(expected.len(), 2);
    assert!(expected.iter().all(|id| id.len() == "qwen3_8b_q4km_01234567".len()), "{expected:?}");
    // A third one changes neither.
    models.put("QWEN3-8B-Q4-K-M.gguf", &Gguf::model("qwen3"));
    let second = models.discover();
    assert_eq!(second.models.len(), 3);
    for model in &first.models {
        assert!(second.models.iter().any(|other| (&other.id, &other.path) == (&model.id, &model.path)));
    }
}
