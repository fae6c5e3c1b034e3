//! The options of a server that decide what it needs, as llama-server will understand them.
//!
//! Built-in defaults come first, then the user's flags, then the verbatim arguments: of a repeated option the last one
//! wins in llama-server too. An invalid value leaves the one before it; the launch reports the mistake.

use std::path::PathBuf;

use llama_warden_config::{FlagOrigin, FlagValue, ServerSpec, written_options};

/// Variables that choose among the GPUs of a maker. A machine has GPUs of one maker, as a rule.
const VISIBLE: [&str; 4] =
    ["CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES"];

/// Whether a list of GPUs is one of none.
fn hides_all(gpus: &str) -> bool {
    matches!(gpus.trim(), "" | "-1")
}

/// The options that decide how much memory a server needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemoryOptions {
    /// Tokens of all slots together; 0 is what the model is trained for.
    pub(crate) context: u64,
    /// Slots, where the user says how many.
    pub(crate) slots: Option<u64>,
    /// Whether slots share one cache although their number is given.
    pub(crate) is_unified: bool,
    pub(crate) keys: CacheType,
    pub(crate) values: CacheType,
    /// Layers that are meant for GPUs; more than there are is all.
    pub(crate) gpu_layers: u64,
    /// Whether the server is to use no GPU at all.
    pub(crate) avoids_gpus: bool,
    /// Tokens that are computed at once.
    pub(crate) ubatch: u64,
    pub(crate) flash_attention: bool,
    /// Whether the cache goes where the layers go.
    pub(crate) offloads_kv: bool,
    pub(crate) maps_weights: bool,
    /// Whether layers with a sliding window keep the whole context all the same.
    pub(crate) keeps_windows_full: bool,
    /// Whether the user says tensor by tensor what goes to a GPU.
    pub(crate) is_placed_by_hand: bool,
    /// Files that are loaded beside the model.
    pub(crate) extras: Vec<PathBuf>,
    /// The model that drafts.
    pub(crate) draft: Option<PathBuf>,
}

impl Default for MemoryOptions {
    /// The defaults of llama-server.
    fn default() -> Self {
        Self {
            context: 0,
            slots: None,
            is_unified: false,
            keys: CacheType::F16,
            values: CacheType::F16,
            gpu_layers: u64::MAX,
            avoids_gpus: false,
            ubatch: 512,
            flash_attention: true,
            offloads_kv: true,
            maps_weights: true,
            keeps_windows_full: false,
            is_placed_by_hand: false,
            extras: Vec::new(),
            draft: None,
        }
    }
}

impl MemoryOptions {
    pub(crate) fn of(spec: &ServerSpec) -> Self {
        let mut options = Self::default();
        for origin in [FlagOrigin::BuiltIn, FlagOrigin::User] {
            let flags = spec.flags.iter().filter(|(_, flag)| flag.origin == origin && !flag.value.is_default());
            for (name, flag) in flags {
                match &flag.value {
                    FlagValue::Switch(on) => options.set(name, Some(if *on { "on" } else { "off" })),
                    FlagValue::Integer(number) => options.set(name, Some(&number.to_string())),
                    FlagValue::Float(number) => options.set(name, Some(&number.to_string())),
                    FlagValue::Text(text) => options.set(name, Some(text)),
                    FlagValue::Many(texts) => texts.iter().for_each(|text| options.set(name, Some(text))),
                }
            }
        }
        // Paths among the flags are relative to the configuration; verbatim ones are not ours to read.
        let paths = options.extras.iter_mut().chain(&mut options.draft);
        paths.for_each(|path| *path = spec.directory.join(&*path));
        for option in written_options(&spec.args) {
            options.set(&option.name, option.value);
        }
        options.avoids_gpus |= VISIBLE.iter().any(|name| spec.env.get(*name).is_some_and(|gpus| hides_all(gpus)));
        options
    }

    fn set(&mut self, name: &str, value: Option<&str>) {
        let is_on = !matches!(value, Some("off" | "false" | "0"));
        let number = value.and_then(|value| value.parse::<u64>().ok());
        let text = value.unwrap_or_default();
        match name {
            "c" | "ctx-size" => self.context = number.unwrap_or(self.context),
            "np" | "parallel" => self.slots = number.filter(|slots| *slots > 0),
            "kvu" | "kv-unified" => self.is_unified = is_on,
            "no-kvu" | "no-kv-unified" => self.is_unified = !is_on,
            "ctk" | "cache-type-k" => self.keys = CacheType::named(text).unwrap_or(self.keys),
            "ctv" | "cache-type-v" => self.values = CacheType::named(text).unwrap_or(self.values),
            "ngl" | "gpu-layers" | "n-gpu-layers" => match text {
                "all" | "auto" | "-1" => self.gpu_layers = u64::MAX,
                _ => self.gpu_layers = number.unwrap_or(self.gpu_layers),
            },
            "dev" | "device" => self.avoids_gpus = text == "none",
            "ub" | "ubatch-size" => self.ubatch = number.unwrap_or(self.ubatch),
            "fa" | "flash-attn" => self.flash_attention = is_on,
            "kvo" | "kv-offload" => self.offloads_kv = is_on,
            "nkvo" | "no-kv-offload" => self.offloads_kv = !is_on,
            "mmap" => self.maps_weights = is_on,
            "no-mmap" => self.maps_weights = !is_on,
            "lm" | "load-mode" => self.maps_weights = text == "auto" || text.contains("mmap"),
            "swa-full" => self.keeps_windows_full = is_on,
            "cmoe" | "cpu-moe" | "ncmoe" | "n-cpu-moe" | "ot" | "override-tensor" => self.is_placed_by_hand = is_on,
            "mm" | "mmproj" | "lora" => self.extras.extend(value.map(PathBuf::from)),
            "md" | "model-draft" | "spec-draft-model" => self.draft = value.map(PathBuf::from),
            _ => {}
        }
    }
}

/// The layout of numbers in the cache: a block of some numbers takes some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CacheType {
    bytes: u64,
    numbers: u64,
}

impl CacheType {
    pub(crate) const F16: Self = Self { bytes: 2, numbers: 1 };

    /// The types that `--cache-type-k` lists, with the block sizes of ggml.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let (bytes, numbers) = match name {
            "f32" => (4, 1),
            "f16" | "bf16" => (2, 1),
            "q8_0" => (34, 32),
            "q4_0" | "iq4_nl" => (18, 32),
            "q4_1" => (20, 32),
            "q5_0" => (22, 32),
            "q5_1" => (24, 32),
            _ => return None,
        };
        Some(Self { bytes, numbers })
    }

    /// The bytes of so many numbers.
    pub(crate) fn bytes(self, numbers: u64) -> u64 {
        numbers.div_ceil(self.numbers).saturating_mul(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use llama_warden_config::{ConfigSource, Configuration, Environment, HostEnvironment};

    use super::*;

    /// The options of a server in a configuration with these lines.
    fn options(server: &str) -> MemoryOptions {
        let text = format!("[[servers]]\nid = \"a\"\nmodel = \"a.gguf\"\n{server}\n");
        let source = ConfigSource::text("/", text);
        let configuration = Configuration::parse(&source, &Environment::default()).expect("valid");
        let fleet = configuration.resolve(None, &HostEnvironment { cpus: 1 }).expect("no profile");
        MemoryOptions::of(fleet.get("a").expect("configured"))
    }

    #[test]
    fn the_shipped_defaults_are_in_force() {
        let expected = MemoryOptions {
            context: 32768,
            ubatch: 256,
            gpu_layers: 99,
            maps_weights: false,
            ..MemoryOptions::default()
        };
        assert_eq!(options(""), expected);
    }

    #[test]
    fn what_the_user_says_wins_over_the_defaults_and_arguments_win_over_flags() {
        let told = options(
            "flags = { ctx-size = 8192, parallel = 3, cache-type-k = \"q8_0\", no-kv-offload = true, load-mode = \"mmap\", \
             flash-attn = \"off\", n-gpu-layers = \"all\", lora = [\"/x\", \"/y\"] }\n\
             args = [\"-c\", \"4096\", \"--swa-full\", \"--cache-type-v\", \"nonsense\", \"-ngl\", \"-1\"]",
        );
        assert_eq!((told.context, told.slots, told.gpu_layers), (4096, Some(3), u64::MAX));
        assert_eq!((told.keys.bytes(32), told.values), (34, CacheType::F16));
        assert_eq!(
            (told.offloads_kv, told.maps_weights, told.flash_attention, told.keeps_windows_full),
            (false, true, false, true)
        );
        assert_eq!(told.extras, [PathBuf::from("/x"), PathBuf::from("/y")]);
    }

    #[test]
    fn a_server_that_is_to_use_no_gpu_is_told_so_by_its_options_or_its_environment() {
        let avoids = |server| options(server).avoids_gpus;
        assert!(avoids("flags = { device = \"none\" }"));
        assert!(avoids("args = [\"-dev\", \"none\"]"));
        assert!(avoids("env = { CUDA_VISIBLE_DEVICES = \"\" }"));
        assert!(avoids("env = { HIP_VISIBLE_DEVICES = \"-1\" }"));
        assert!(!avoids("env = { CUDA_VISIBLE_DEVICES = \"0\" }\nflags = { device = \"CUDA0\" }"));
        assert!(!avoids("flags = { device = \"none\" }\nargs = [\"--device\", \"CUDA1\"]"));
    }

    #[test]
    fn a_block_that_is_begun_is_a_whole_one() {
        let q4 = CacheType::named("q4_0").expect("known");
        assert_eq!([0, 1, 32, 33].map(|numbers| q4.bytes(numbers)), [0, 18, 18, 36]);
    }
}
