//! The descriptions of valid models.

use llama_warden_catalog::{CatalogReport, FileRole, ModelKind, ProblemReason, inspect};
use llama_warden_tiny_gguf::{TinyModel, WeightFormat};

use super::Models;
use crate::support::{Gguf, GgufValue};

#[test]
fn a_tiny_model_is_described_in_full() {
    let models = Models::new();
    let path = models.path("tiny-one.gguf");
    TinyModel::new("Tiny one").weights(WeightFormat::Q8_0).context_length(4096).write(&path).expect("written");
    let model = models.only();
    assert_eq!(model.id.as_str(), "tiny_one_123k_q80");
    assert_eq!(model.path, path);
    assert_eq!((model.port, model.enabled), (None, true));
    assert_eq!(model.tier.as_deref(), Some("Q8_0"));
    assert_eq!((model.name.as_str(), model.architecture.as_str()), ("Tiny one", "llama"));
    assert_eq!((model.kind, model.thinking), (ModelKind::Generative, false));
    assert_eq!(model.parameters, 123_200);
    assert_eq!(model.file_bytes, path.metadata().expect("there").len());
    assert_eq!(model.context_length, Some(4096));
    assert!(model.chat_template);
    assert_eq!((model.experts, model.experts_used), (None, None));
    let shape = model.shape;
    assert_eq!((shape.block_count, shape.embedding_length, shape.head_count), (Some(2), Some(64), Some(4)));
    assert_eq!((shape.kv_heads, shape.head_widths()), (Some(8), Some((16, 16))));
    assert_eq!((model.shards, model.projector), (vec![], None));
}

#[test]
fn a_mixture_tells_its_experts() {
    let models = Models::new();
    let mixture = Gguf::model("qwen3moe").with("qwen3moe.expert_count", 128).with("qwen3moe.expert_used_count", 8);
    models.put("Qwen3-30B-A3B-Q4_K_M.gguf", &mixture);
    let model = models.only();
    assert_eq!((model.experts, model.experts_used), (Some(128), Some(8)));
    assert_eq!(model.id.as_str(), "qwen3_30b_a3b_q4km");
}

#[test]
fn a_tier_is_what_the_header_says_before_anything_else() {
    for (file_type, tensor, name, expected) in [
        (Some(15), 8, "m-Q8_0.gguf", "Q4_K_M"),
        (Some(15 + 1024), 8, "m.gguf", "Q4_K_M"),
        (Some(38), 39, "m.gguf", "MXFP4_MOE"),
        (Some(999), 12, "m-q4_k_s.gguf", "Q4_K_S"),
        (None, 12, "m-Q8_0.gguf", "Q4_K"),
        (None, 8, "m.gguf", "Q8_0"),
        (None, 77, "m-IQ4_XS.gguf", "IQ4_XS"),
    ] {
        let models = Models::new();
        let gguf = Gguf::new().with("general.architecture", "llama").tensor(&[256, 8], tensor);
        let gguf = match file_type {
            Some(code) => gguf.with("general.file_type", code),
            None => gguf,
        };
        models.put(name, &gguf);
        assert_eq!(models.only().tier.as_deref(), Some(expected), "{file_type:?} {tensor} {name}");
    }
}

#[test]
fn a_model_of_unknown_quantisation_has_no_tier() {
    let models = Models::new();
    models.put("m.gguf", &Gguf::new().with("general.architecture", "llama").tensor(&[256, 8], 77));
    assert_eq!(models.only().tier, None);
}

#[test]
fn a_model_is_for_what_its_pooling_architecture_or_name_says() {
    use ModelKind::{Embedding, Generative, Reranking};
    for (architecture, pooling, name, expected) in [
        ("llama", None, "plain", Generative),
        ("llama", Some(0), "plain", Generative),
        ("bert", None, "bge-m3", Embedding),
        ("bert", Some(2), "bge-m3", Embedding),
        ("bert", None, "bge-reranker-v2-m3", Reranking),
        ("nomic-bert-moe", None, "nomic-embed-text-v2", Embedding),
        ("qwen3", Some(3), "Qwen3-0.6B", Embedding),
        ("qwen3", Some(4), "Qwen3-0.6B", Reranking),
        ("qwen3", None, "Qwen3-Embedding-0.6B", Embedding),
        ("qwen3", None, "Qwen3-Reranker-0.6B", Reranking),
    ] {
        let models = Models::new();
        let gguf = Gguf::model(architecture).with("tokenizer.chat_template", "{% if enable_thinking %}");
        let gguf = match pooling {
            Some(code) => gguf.with(&format!("{architecture}.pooling_type"), code),
            None => gguf,
        };
        models.put(&format!("{name}.gguf"), &gguf);
        let model = models.only();
        assert_eq!(model.kind, expected, "{architecture} {pooling:?} {name}");
        assert_eq!(model.thinking, expected == Generative, "{name}");
    }
}

#[test]
fn a_thinking_model_is_known_by_its_template_or_its_name() {
    for (template, name, expected) in [
        ("{{ messages }}", "Qwen3-8B", false),
        ("{% if enable_thinking %}{% endif %}", "Qwen3-8B", true),
        ("{{ '<think>' }}", "x", true),
        ("{{ message.reasoning_content }}", "x", true),
        ("", "DeepSeek-R1-Distill", true),
        ("", "QwQ-32B", true),
        ("", "Kimi-K2-Thinking", true),
        ("", "Rethinking-7B", false),
    ] {
        let models = Models::new();
        models.put(&format!("{name}.gguf"), &Gguf::model("qwen3").with("tokenizer.chat_template", template));
        let model = models.only();
        assert_eq!(model.thinking, expected, "{template} {name}");
        assert_eq!(model.chat_template, !template.is_empty(), "{template}");
    }
}

#[test]
fn files_that_are_sound_but_no_models_are_passed_over_by_role() {
    let models = Models::new();
    let tokens = GgufValue::Texts(vec!["a".to_owned(); 1000]);
    models.put("vocab.gguf", &Gguf::new().with("general.architecture", "llama").with("tokenizer.ggml.tokens", tokens));
    models.put("ggml-vocab-phi.gguf", &Gguf::model("phi3"));
    models.put("lora.gguf", &Gguf::model("llama").with("general.type", "adapter"));
    models.put("imatrix.gguf", &Gguf::new().with("general.type", "imatrix").tensor(&[8], 0));
    models.put("steer.gguf", &Gguf::model("controlvector"));
    let report = models.discover();
    assert_eq!((report.models, report.problems), (vec![], vec![]));
    let roles: Vec<FileRole> = report.skipped.iter().map(|skipped| skipped.role).collect();
    use FileRole::{Adapter, ControlVector, ImportanceMatrix, Vocabulary};
    assert_eq!(roles, [Vocabulary, ImportanceMatrix, Adapter, ControlVector, Vocabulary]);
}

#[test]
fn a_model_without_architecture_is_a_problem() {
    let models = Models::new();
    models.put("m.gguf", &Gguf::new().with("general.name", "nobody").tensor(&[8], 0));
    assert_eq!(models.problems(), [("m.gguf".to_owned(), ProblemReason::HeaderMalformed)]);
}

#[test]
fn a_report_survives_json() {
    let models = Models::new();
    models.put("a/Qwen3-8B-Q4_K_M.gguf", &Gguf::model("qwen3"));
    models.put("b/empty.gguf", &Gguf::new().version(9));
    let report = models.discover();
    let json = serde_json::to_value(&report).expect("serializes");
    assert_eq!(json["models"][0]["id"], "qwen3_8b_q4km");
    assert_eq!(json["models"][0]["kind"], "generative");
    assert_eq!(json["problems"][0]["reason"], "version-unsupported");
    assert_eq!(serde_json::from_value::<CatalogReport>(json).expect("reads back"), report);
}

#[test]
fn one_model_is_inspected_by_its_path() {
    let models = Models::new();
    let path = models.put("Qwen3-8B-Q4_K_M.bin", &Gguf::model("qwen3"));
    assert_eq!(inspect(&path).expect("a model").id.as_str(), "qwen3_8b_q4km");

    let first = models.put("big-00001-of-00002.gguf", &Gguf::model("llama").with("split.count", GgufValue::U16(2)));
    assert_eq!(inspect(&first).expect_err("half a model").reason, ProblemReason::ShardMissing);
    models.put("big-00002-of-00002.gguf", &Gguf::new().with("split.count", GgufValue::U16(2)));
    assert_eq!(inspect(&first).expect("a model").shards.len(), 2);
    let second = inspect(&models.path("big-00002-of-00002.gguf")).expect_err("not the first");
    assert_eq!((second.reason, second.detail.contains("shard 2 of 2")), (ProblemReason::ShardNotFirst, true));
    assert_eq!(second.help, format!("name {}", first.display()));

    let vocabulary = models.put("ggml-vocab-x.gguf", &Gguf::model("llama"));
    let projector = models.put("x.gguf", &Gguf::model("clip"));
    for (path, what) in [(vocabulary, "a vocabulary"), (projector, "a projector, ")] {
        let problem = inspect(&path).expect_err("no model");
        assert_eq!(problem.reason, ProblemReason::NotAModel);
        assert!(problem.detail.starts_with(what), "{problem}");
    }
    assert_eq!(inspect(models.root()).expect_err("a directory").reason, ProblemReason::NotAFile);
    assert_eq!(inspect(&models.path("none.gguf")).expect_err("nothing").reason, ProblemReason::FileUnreadable);
}
