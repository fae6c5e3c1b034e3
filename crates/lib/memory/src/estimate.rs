//! Estimates the memory that a server needs from its model's header and its options.
//!
//! The estimate is an upper bound of what llama-server allocates before it is ready, by the rules of llama.cpp:
//!
//! * **weights**: the files of the model, its projector, adapters and draft model. A mapped file (`mmap`) counts in full. The
//!   kernel may drop its pages, but the server then reads them again for each token; and builds that repack weights for the
//!   CPU copy the mapped file.
//! * **kv**: cells × key-value heads × (key width × bytes of `cache-type-k` + value width × bytes of `cache-type-v`). The
//!   cells are `ctx-size`, rounded up to a multiple of 256. If the number of slots is given, the slots share them in equal
//!   parts, and `ctx-size = 0` means the model's context for each slot. Layers with a sliding window keep one window per
//!   slot; four slots are assumed if the build chooses their number.
//! * **compute**: the largest buffer in the course of one `ubatch`, plus 32 MiB for the process. The buffer is that of a
//!   hidden layer, of an attention (without flash attention: all heads times all cells), or of the output (builds until 2025
//!   keep one for every token).
//!
//! If the machine has GPUs, the build is assumed to use them, except for a server with `device = "none"` or with an environment of its
//! own that hides all of them (`CUDA_VISIBLE_DEVICES = ""`). `n-gpu-layers` layers and the output then take their share of
//! the weights and of the cache to the GPU, and the computation runs there. Weights that the user places tensor by tensor
//! (`override-tensor`, `cpu-moe`) count as memory of the machine.
//!
//! On one H100 (build b11669 with Vulkan; 28 layers of 4096 as `f16`, ctx 32768, ubatch 256) the driver reported 15 371 MiB in use, and the
//! estimate was 15 316 MiB on the GPU: 11 654 of weights, 3 584 of cache, 78 of computation. The context of the driver is in the difference.
//!
//! Not included: what grows with use (the prompt cache of today's builds takes up to `cache-ram` = 8 GiB of RAM), the
//! context of a GPU's driver, and the state of recurrent layers. A part whose measure the header lacks counts as 0.
//!
//! Compared with the build's own lines (`model`, `KV`, `compute buffer size`) and its resident anonymous memory when ready.
//! Random models, CPU only, build b11669 unless named; in MiB, estimate / real. The estimate of compute includes the process.
//! The first long prompt fills the buffers of the computation.
//!
//! | model and options | weights | kv | compute | resident |
//! |---|---|---|---|---|
//! | 16 layers of 2048, 32k words; ctx 8192, ubatch 256 | 1627 / 1626 | 256 / 256 | 66 / 31 | 1949 / 1915 |
//! | the same; ctx 32768, ubatch 512 | 1627 / 1626 | 1024 / 1024 | 156 / 85 | 2807 / 2684 |
//! | the same, caches of `q8_0` | 1627 / 1626 | 544 / 544 | 156 / 85 | 2327 / 2204 |
//! | the same; ctx 0 of 8192, 3 slots, ubatch 256 | 1627 / 1626 | 768 / 768 | 66 / 31 | 2461 / 2428 |
//! | the same; ctx 10000, 3 slots, ubatch 256 | 1627 / 1626 | 336 / 336 | 66 / 28 | 2029 / 1996 |
//! | the same without flash attention; ctx 8192, ubatch 512 | 1627 / 1626 | 256 / 256 | 613 / 554 | 2496 / 1916 |
//! | gemma3 of 12 layers, window 1024; ctx 32768, ubatch 256 | 486 / 485 | 213 / 213 | 87 / 35 | 786 / 718 |
//! | 2 layers of 1024, 128k words, 0.3.16; ctx 8192, ubatch 256 | 549 / 546 | 16 / 16 | 158 / 126 | 723 / 584 |

use std::fs;
use std::path::Path;

use llama_warden_catalog::{DiscoveredModel, Inspections};
use llama_warden_config::ServerSpec;

use crate::options::{CacheType, MemoryOptions};
use crate::requirement::{MemoryRequirement, Parts};

/// Memory of a process besides its buffers; 8 to 33 MiB were measured.
const PROCESS: u64 = 32 << 20;

/// The number of cells is a multiple of this.
const CELLS_STEP: u64 = 256;

/// The most slots that a build chooses by itself.
const SLOTS: u64 = 4;

/// Bytes of a number of the computation.
const F32: u64 = 4;

/// Reads the header of the server's model and estimates what the server needs, on a machine with or without GPUs that take
/// layers. Blocks while it reads files. `None` if the model cannot be read: the launch reports that with more detail.
pub fn estimate(spec: &ServerSpec, has_gpus: bool) -> Option<MemoryRequirement> {
    estimate_inspected(spec, has_gpus, &Inspections::default())
}

/// As [`estimate()`], with models that are inspected already.
pub fn estimate_inspected(spec: &ServerSpec, has_gpus: bool, models: &Inspections) -> Option<MemoryRequirement> {
    // What is not downloaded yet has no header to read.
    if spec.model_repository().is_some() {
        return None;
    }
    let options = MemoryOptions::of(spec);
    let has_gpus = has_gpus && !options.avoids_gpus;
    let inspected = models.of(&spec.model);
    let mut demand = of_model(inspected.as_ref().as_ref().ok()?, &options, has_gpus);
    let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    demand.host.weights += options.extras.iter().map(|path| size(path)).sum::<u64>();
    let draft = options.draft.as_deref().map(|path| models.of(path));
    if let Some(Ok(draft)) = draft.as_deref() {
        let plain = MemoryOptions { keys: CacheType::F16, values: CacheType::F16, ..options.clone() };
        let MemoryRequirement { host, gpus, .. } = of_model(draft, &plain, has_gpus);
        demand.host = sum(demand.host, host);
        demand.gpus = sum(demand.gpus, gpus);
    }
    demand.mapping = options.maps_weights.then(|| fs::canonicalize(&spec.model).unwrap_or_else(|_| spec.model.clone()));
    Some(demand)
}

fn of_model(model: &DiscoveredModel, options: &MemoryOptions, has_gpus: bool) -> MemoryRequirement {
    let cells = Cells::of(model, options);
    let whole =
        Parts { weights: model.file_bytes, kv: kv(model, options, cells), compute: compute(model, options, cells) };
    let blocks = model.shape.block_count.unwrap_or(1).max(1);
    // The output counts as one more layer.
    let offloaded = if has_gpus { options.gpu_layers.min(blocks.saturating_add(1)) } else { 0 };
    let gpus = Parts {
        weights: if options.is_placed_by_hand { 0 } else { share(whole.weights, offloaded, blocks.saturating_add(1)) },
        kv: if options.offloads_kv { share(whole.kv, offloaded.min(blocks), blocks) } else { 0 },
        compute: if offloaded > 0 { whole.compute } else { 0 },
    };
    let host = Parts {
        weights: whole.weights - gpus.weights,
        kv: whole.kv - gpus.kv,
        compute: (whole.compute - gpus.compute).saturating_add(PROCESS),
    };
    MemoryRequirement { host, gpus, mapping: None }
}

/// How many tokens the cache holds.
#[derive(Debug, Clone, Copy)]
struct Cells {
    /// In layers that attend to the whole context.
    all: u64,
    /// In layers with a sliding window.
    windowed: u64,
    /// Those that one token attends to.
    attended: u64,
}

impl Cells {
    fn of(model: &DiscoveredModel, options: &MemoryOptions) -> Self {
        let trained = model.context_length.unwrap_or(0);
        let stepped = |tokens: u64| tokens.checked_next_multiple_of(CELLS_STEP).unwrap_or(tokens);
        // If the number of slots is given, each has a cache of its own; else they share one.
        let (caches, slots) = match options.slots {
            Some(slots) if !options.is_unified => (slots, 1),
            slots => (1, slots.unwrap_or(SLOTS)),
        };
        let each = stepped(if options.context == 0 { trained } else { options.context.div_ceil(caches) });
        let window = model.shape.sliding_window.unwrap_or(0).saturating_mul(slots).saturating_add(options.ubatch);
        let windowed = if options.keeps_windows_full { each } else { stepped(each.min(window)) };
        Self { all: each.saturating_mul(caches), windowed: windowed.saturating_mul(caches), attended: each }
    }
}

fn kv(model: &DiscoveredModel, options: &MemoryOptions, cells: Cells) -> u64 {
    let (Some(heads), Some((key, value))) = (model.shape.kv_heads, model.shape.head_widths()) else { return 0 };
    let windowed = model.shape.windowed_kv_heads.unwrap_or(0).min(heads);
    let in_cache = windowed.saturating_mul(cells.windowed).saturating_add((heads - windowed).saturating_mul(cells.all));
    let bytes = |cache: CacheType, width: u64| cache.bytes(in_cache.saturating_mul(width));
    bytes(options.keys, key).saturating_add(bytes(options.values, value))
}

/// The coefficients are fitted to the measured buffers of seven models and option sets on two builds.
fn compute(model: &DiscoveredModel, options: &MemoryOptions, cells: Cells) -> u64 {
    let shape = &model.shape;
    let width = shape.embedding_length.unwrap_or(0);
    let numbers = |per_token: u64| per_token.saturating_mul(options.ubatch).saturating_mul(F32);
    let hidden = shape.feed_forward_length.unwrap_or(0).saturating_mul(3).saturating_add(width.saturating_mul(5));
    let mask = cells.attended.saturating_mul(options.ubatch);
    let output = numbers(shape.vocabulary.unwrap_or(0).saturating_add(width));
    if options.flash_attention {
        let layer = numbers(hidden).saturating_add(mask.saturating_mul(2));
        // Builds until 2025 keep the mask as `f32` beside its copy as `f16`.
        let attention = numbers(width.saturating_mul(7)).saturating_add(mask.saturating_mul(6));
        layer.max(attention).max(output)
    } else {
        let heads = shape.head_count.unwrap_or(0).saturating_add(1);
        numbers(hidden).saturating_add(mask.saturating_mul(F32).saturating_mul(heads)).max(output)
    }
}

/// `part` of `of` equal parts.
fn share(bytes: u64, part: u64, of: u64) -> u64 {
    let share = u128::from(bytes) * u128::from(part) / u128::from(of.max(1));
    u64::try_from(share).unwrap_or(bytes).min(bytes)
}

const fn sum(a: Parts, b: Parts) -> Parts {
    Parts {
        weights: a.weights.saturating_add(b.weights),
        kv: a.kv.saturating_add(b.kv),
        compute: a.compute.saturating_add(b.compute),
    }
}

#[cfg(test)]
mod tests {
    use llama_warden_catalog::{ModelKind, NetworkShape};
    use llama_warden_events::ServerId;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// The model of most measurements.
    fn model() -> DiscoveredModel {
        DiscoveredModel {
            id: ServerId::new("m").expect("valid"),
            path: "/m.gguf".into(),
            port: None,
            enabled: true,
            tier: None,
            thinking: false,
            name: "m".into(),
            kind: ModelKind::Generative,
            architecture: "llama".into(),
            parameters: 0,
            file_bytes: 1627 * MIB,
            context_length: Some(8192),
            chat_template: false,
            experts: None,
            experts_used: None,
            shape: NetworkShape {
                block_count: Some(16),
                embedding_length: Some(2048),
                feed_forward_length: Some(5632),
                vocabulary: Some(32000),
                head_count: Some(32),
                kv_heads: Some(16 * 8),
                ..NetworkShape::default()
            },
            shards: vec![],
            projector: None,
        }
    }

    fn gemma() -> DiscoveredModel {
        let shape = NetworkShape {
            block_count: Some(12),
            embedding_length: Some(1024),
            feed_forward_length: Some(4096),
            vocabulary: Some(32000),
            head_count: Some(8),
            kv_heads: Some(12 * 4),
            windowed_kv_heads: Some(10 * 4),
            sliding_window: Some(1024),
            key_length: Some(128),
            value_length: Some(128),
        };
        DiscoveredModel { file_bytes: 486 * MIB, shape, ..model() }
    }

    fn options(context: u64, ubatch: u64) -> MemoryOptions {
        MemoryOptions { context, ubatch, maps_weights: false, ..MemoryOptions::default() }
    }

    /// In whole MiB, rounded up.
    fn host(model: &DiscoveredModel, options: &MemoryOptions) -> (u64, u64, u64) {
        let Parts { weights, kv, compute } = of_model(model, options, false).host;
        (weights.div_ceil(MIB), kv.div_ceil(MIB), compute.div_ceil(MIB))
    }

    /// The rows of the module's table: equal in weights and cache, never below in the rest.
    #[test]
    fn real_servers_need_what_was_estimated_and_no_more() {
        let q8 = CacheType::named("q8_0").expect("known");
        let eight = MemoryOptions { keys: q8, values: q8, ..options(32768, 512) };
        let slots = |context| MemoryOptions { slots: Some(3), ..options(context, 256) };
        let plain = MemoryOptions { flash_attention: false, ..options(8192, 512) };
        let cases = [
            (model(), options(8192, 256), 256, 31),
            (model(), options(32768, 512), 1024, 85),
            (model(), eight, 544, 85),
            (model(), slots(0), 768, 31),
            (model(), slots(10_000), 336, 29),
            (model(), plain, 256, 554),
            (gemma(), options(32768, 256), 213, 36),
        ];
        for (model, options, kv, compute) in cases {
            let (weights, estimated_kv, estimated) = host(&model, &options);
            assert_eq!((weights, estimated_kv), (model.file_bytes / MIB, kv), "{options:?}");
            assert!(estimated >= compute && estimated <= compute + 110, "{estimated} for {compute}: {options:?}");
        }
    }

    #[test]
    fn layers_on_gpus_take_their_weights_and_their_cache_there() {
        let on_gpus = |options: MemoryOptions| {
            let MemoryRequirement { host, gpus, .. } = of_model(&model(), &options, true);
            ((host.weights / MIB, host.kv / MIB), (gpus.weights / MIB, gpus.kv / MIB), gpus.compute > 0)
        };
        assert_eq!(on_gpus(options(8192, 256)), ((0, 0), (1627, 256), true));
        let half = MemoryOptions { gpu_layers: 8, ..options(8192, 256) };
        assert_eq!(on_gpus(half.clone()), ((861, 128), (765, 128), true));
        assert_eq!(on_gpus(MemoryOptions { offloads_kv: false, ..half.clone() }), ((861, 256), (765, 0), true));
        assert_eq!(on_gpus(MemoryOptions { is_placed_by_hand: true, ..half }), ((1627, 128), (0, 128), true));
        assert_eq!(on_gpus(MemoryOptions { gpu_layers: 0, ..options(8192, 256) }), ((1627, 256), (0, 0), false));
    }

    #[test]
    fn a_header_without_measures_and_one_with_absurd_ones_are_estimated_all_the_same() {
        let silent = DiscoveredModel { shape: NetworkShape::default(), context_length: None, ..model() };
        assert_eq!(host(&silent, &options(8192, 256)).1, 0);
        let shape = NetworkShape {
            block_count: Some(u64::MAX - 1),
            kv_heads: Some(u64::MAX),
            key_length: Some(u64::MAX),
            value_length: Some(u64::MAX),
            vocabulary: Some(u64::MAX),
            feed_forward_length: Some(u64::MAX),
            ..NetworkShape::default()
        };
        let absurd = DiscoveredModel { shape, ..model() };
        assert_eq!(of_model(&absurd, &options(u64::MAX, u64::MAX), false).host.kv, u64::MAX);
    }

    #[test]
    fn a_file_is_read_and_what_is_loaded_beside_it_counts() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let model = folder.path().join("m.gguf");
        llama_warden_tiny_gguf::TinyModel::new("m").context_length(4096).write(&model).expect("writable");
        let adapter = folder.path().join("lora.gguf");
        fs::write(&adapter, [0; 1000]).expect("writable");
        let text = |flags: &str| format!("[[servers]]\nid = \"a\"\nmodel = {:?}\nflags = {{ {flags} }}\n", model);
        let demand = |flags: &str| {
            let source = llama_warden_config::ConfigSource::text("/", text(flags));
            let environment = llama_warden_config::Environment::default();
            let configuration = llama_warden_config::Configuration::parse(&source, &environment).expect("valid");
            let fleet =
                configuration.resolve(None, &llama_warden_config::HostEnvironment { cpus: 1 }).expect("no profile");
            estimate(fleet.get("a").expect("configured"), false)
        };
        let plain = demand("ctx-size = 0").expect("readable");
        // Two layers of width 64, keys and values, `f16`.
        assert_eq!(plain.host.kv, 4096 * 2 * 64 * 2 * 2);
        let bytes = fs::metadata(&model).expect("there").len();
        assert_eq!((plain.host.weights, &plain.mapping), (bytes, &None));
        let more = demand(&format!("ctx-size = 0, mmap = true, lora = {adapter:?}")).expect("readable");
        assert_eq!((more.host.weights, more.mapped()), (bytes + 1000, bytes + 1000));
        let drafted = demand(&format!("ctx-size = 0, model-draft = {model:?}")).expect("readable");
        assert_eq!(drafted.host.kv, 2 * plain.host.kv);
        fs::write(&model, "no model").expect("writable");
        assert_eq!(demand(""), None);
    }
}
