//! The options of all eras as one table, from which arguments are parsed and `--help` is printed.
//!
//! It contains the options that llama-warden translates, and enough others to look like the help of llama-server.

use std::ops::RangeInclusive;

use crate::eras::{
    ALL, Era, MID_2024_TO_2025, SINCE_2025, SINCE_LATE_2024, SINCE_MID_2024, TODAY, UNTIL_2025, UNTIL_LATE_2024,
};

/// The value that an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionArgument {
    /// No value.
    Nothing,
    /// Any text. The name is printed in the help.
    Text(&'static str),
    /// A number, parsed as C++'s `stoi` does. The name is printed in the help.
    Number(&'static str),
    /// `on`, `off` or `auto`.
    Switch,
}

impl OptionArgument {
    /// The name of the value in the help.
    pub fn metavariable(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Text(name) | Self::Number(name) => Some(name),
            Self::Switch => Some("[on|off|auto]"),
        }
    }
}

/// An option, with the eras that have it.
#[derive(Debug)]
pub struct CliOption {
    /// The builds that have it.
    pub eras: RangeInclusive<Era>,
    /// All names: the short one first, and last the one that the stand-in's settings use as key.
    pub names: &'static [&'static str],
    /// The value that it takes.
    pub argument: OptionArgument,
    /// The environment variable that the help names. The stand-in does not read it.
    pub variable: Option<&'static str>,
    /// What the help says of it.
    pub help: &'static str,
}

impl CliOption {
    const fn variable(self, name: &'static str) -> Self {
        Self { variable: Some(name), ..self }
    }

    /// The name that the stand-in's settings use.
    pub fn key(&self) -> &'static str {
        self.names.last().copied().unwrap_or_default()
    }

    /// Its short name.
    pub fn short(&self) -> Option<&'static str> {
        self.names.iter().copied().find(|name| !name.starts_with("--"))
    }

    /// Its long names.
    pub fn long(&self) -> impl Iterator<Item = &'static str> {
        self.names.iter().copied().filter(|name| name.starts_with("--"))
    }
}

/// The options of `era`.
pub fn of(era: Era) -> impl Iterator<Item = &'static CliOption> {
    OPTIONS.iter().filter(move |option| option.eras.contains(&era))
}

/// The option of `era` with this name, short or long.
pub fn named(era: Era, name: &str) -> Option<&'static CliOption> {
    of(era).find(|option| option.names.contains(&name))
}

const fn option(
    eras: RangeInclusive<Era>,
    names: &'static [&'static str],
    argument: OptionArgument,
    help: &'static str,
) -> CliOption {
    CliOption { eras, names, argument, variable: None, help }
}

use OptionArgument::{Nothing, Number, Switch, Text};

#[rustfmt::skip]
static OPTIONS: &[CliOption] = &[
    option(ALL, &["-h", "--usage", "--help"], Nothing, "print usage and exit"),
    option(SINCE_MID_2024, &["--version"], Nothing, "show version and build info"),
    option(TODAY, &["-cl", "--cache-list"], Nothing, "show list of models in cache"),
    option(ALL, &["-t", "--threads"], Number("N"), "number of threads to use during generation").variable("LLAMA_ARG_THREADS"),
    option(ALL, &["-tb", "--threads-batch"], Number("N"), "number of threads to use during prompt processing"),
    option(ALL, &["-c", "--ctx-size"], Number("N"), "size of the prompt context (0 = loaded from model)").variable("LLAMA_ARG_CTX_SIZE"),
    option(SINCE_MID_2024, &["-n", "--n-predict", "--predict"], Number("N"), "number of tokens to predict (-1 = infinity)").variable("LLAMA_ARG_N_PREDICT"),
    option(ALL, &["-b", "--batch-size"], Number("N"), "logical maximum batch size").variable("LLAMA_ARG_BATCH"),
    option(SINCE_MID_2024, &["-ub", "--ubatch-size"], Number("N"), "physical maximum batch size").variable("LLAMA_ARG_UBATCH"),
    option(SINCE_MID_2024, &["--keep"], Number("N"), "number of tokens to keep from the initial prompt"),
    option(TODAY, &["-fa", "--flash-attn"], Switch, "set Flash Attention use (default: 'auto')").variable("LLAMA_ARG_FLASH_ATTN"),
    option(MID_2024_TO_2025, &["-fa", "--flash-attn"], Nothing, "enable Flash Attention (default: disabled)").variable("LLAMA_ARG_FLASH_ATTN"),
    option(SINCE_MID_2024, &["-s", "--seed"], Number("SEED"), "RNG seed"),
    option(SINCE_MID_2024, &["--temp"], Number("N"), "temperature"),
    option(ALL, &["--rope-scaling"], Text("{none,linear,yarn}"), "RoPE frequency scaling method").variable("LLAMA_ARG_ROPE_SCALING_TYPE"),
    option(ALL, &["--rope-freq-base"], Number("N"), "RoPE base frequency, used by NTK-aware scaling").variable("LLAMA_ARG_ROPE_FREQ_BASE"),
    option(SINCE_MID_2024, &["-ctk", "--cache-type-k"], Text("TYPE"), "KV cache data type for K").variable("LLAMA_ARG_CACHE_TYPE_K"),
    option(SINCE_MID_2024, &["-ctv", "--cache-type-v"], Text("TYPE"), "KV cache data type for V").variable("LLAMA_ARG_CACHE_TYPE_V"),
    option(ALL, &["-np", "--parallel"], Number("N"), "number of server slots").variable("LLAMA_ARG_N_PARALLEL"),
    option(ALL, &["-cb", "--cont-batching"], Nothing, "enable continuous batching").variable("LLAMA_ARG_CONT_BATCHING"),
    option(UNTIL_2025, &["--mlock"], Nothing, "force system to keep model in RAM").variable("LLAMA_ARG_MLOCK"),
    option(UNTIL_2025, &["--no-mmap"], Nothing, "do not memory-map model").variable("LLAMA_ARG_NO_MMAP"),
    option(TODAY, &["-lm", "--load-mode"], Text("MODE"), "model loading mode: auto, none, mmap, mlock, mmap+mlock or dio").variable("LLAMA_ARG_LOAD_MODE"),
    option(ALL, &["--numa"], Text("TYPE"), "attempt optimizations that help on some NUMA systems").variable("LLAMA_ARG_NUMA"),
    option(SINCE_2025, &["-dev", "--device"], Text("<dev1,dev2,..>"), "comma-separated list of devices to use for offloading").variable("LLAMA_ARG_DEVICE"),
    option(SINCE_2025, &["-ot", "--override-tensor"], Text("PATTERN=TYPE,..."), "override tensor buffer type"),
    option(ALL, &["-ngl", "--gpu-layers", "--n-gpu-layers"], Text("N"), "number of layers to store in VRAM").variable("LLAMA_ARG_N_GPU_LAYERS"),
    option(ALL, &["-sm", "--split-mode"], Text("{none,layer,row}"), "how to split the model across multiple GPUs").variable("LLAMA_ARG_SPLIT_MODE"),
    option(ALL, &["-ts", "--tensor-split"], Text("N0,N1,N2,..."), "fraction of the model to offload to each GPU").variable("LLAMA_ARG_TENSOR_SPLIT"),
    option(ALL, &["-mg", "--main-gpu"], Number("INDEX"), "the GPU to use for the model").variable("LLAMA_ARG_MAIN_GPU"),
    option(ALL, &["--lora"], Text("FNAME"), "path to LoRA adapter"),
    option(ALL, &["-m", "--model"], Text("FNAME"), "model path to load").variable("LLAMA_ARG_MODEL"),
    option(SINCE_LATE_2024, &["-hf", "--hf-repo"], Text("<user>/<model>[:quant]"), "Hugging Face model repository").variable("LLAMA_ARG_HF_REPO"),
    option(SINCE_MID_2024, &["--log-disable"], Nothing, "Log disable"),
    option(SINCE_LATE_2024, &["--log-file"], Text("FNAME"), "Log to file"),
    option(TODAY, &["--log-jsonl"], Nothing, "Log as JSONL (one JSON object per line) to stdout"),
    option(TODAY, &["--log-colors"], Switch, "Set colored logging").variable("LLAMA_LOG_COLORS"),
    option(SINCE_LATE_2024, &["-v", "--log-verbose", "--verbose"], Nothing, "Set verbosity level to infinity"),
    option(SINCE_LATE_2024, &["-lv", "--verbosity", "--log-verbosity"], Number("N"), "Set the verbosity threshold").variable("LLAMA_LOG_VERBOSITY"),
    option(TODAY, &["--no-log-prefix"], Nothing, "Disable prefix in log messages"),
    option(TODAY, &["--no-log-timestamps"], Nothing, "Disable timestamps in log messages"),
    option(SINCE_2025, &["--no-warmup"], Nothing, "skip warming up the model with an empty run"),
    option(SINCE_2025, &["--mmproj"], Text("FILE"), "path to a multimodal projector file").variable("LLAMA_ARG_MMPROJ"),
    option(ALL, &["-a", "--alias"], Text("STRING"), "set model name (to be used by API)").variable("LLAMA_ARG_ALIAS"),
    option(UNTIL_LATE_2024, &["--host"], Text("HOST"), "ip address to listen").variable("LLAMA_ARG_HOST"),
    option(SINCE_2025, &["--host"], Text("HOST"), "IP address to listen on, or UNIX socket path ending in .sock").variable("LLAMA_ARG_HOST"),
    option(ALL, &["--port"], Number("PORT"), "port to listen").variable("LLAMA_ARG_PORT"),
    option(TODAY, &["--reuse-port"], Nothing, "allow multiple sockets to bind to the same port").variable("LLAMA_ARG_REUSE_PORT"),
    option(ALL, &["--path"], Text("PATH"), "path to serve static files from").variable("LLAMA_ARG_STATIC_PATH"),
    option(ALL, &["--embeddings", "--embedding"], Nothing, "restrict to only support embedding use case").variable("LLAMA_ARG_EMBEDDINGS"),
    option(ALL, &["--api-key"], Text("KEY"), "API key to use for authentication").variable("LLAMA_API_KEY"),
    option(SINCE_MID_2024, &["--api-key-file"], Text("FNAME"), "path to file containing API keys"),
    option(SINCE_MID_2024, &["--ssl-key-file"], Text("FNAME"), "path to file a PEM-encoded SSL private key").variable("LLAMA_ARG_SSL_KEY_FILE"),
    option(SINCE_MID_2024, &["--ssl-cert-file"], Text("FNAME"), "path to file a PEM-encoded SSL certificate").variable("LLAMA_ARG_SSL_CERT_FILE"),
    option(ALL, &["-to", "--timeout"], Number("N"), "server read/write timeout in seconds").variable("LLAMA_ARG_TIMEOUT"),
    option(TODAY, &["--sse-ping-interval"], Number("N"), "server SSE ping interval in seconds (-1 = disabled, default: 30)").variable("LLAMA_ARG_SSE_PING_INTERVAL"),
    option(SINCE_MID_2024, &["--threads-http"], Number("N"), "number of threads used to process HTTP requests").variable("LLAMA_ARG_THREADS_HTTP"),
    option(SINCE_2025, &["--cache-reuse"], Number("N"), "min chunk size to attempt reusing from the cache").variable("LLAMA_ARG_CACHE_REUSE"),
    option(SINCE_MID_2024, &["--metrics"], Nothing, "enable prometheus compatible metrics endpoint").variable("LLAMA_ARG_ENDPOINT_METRICS"),
    option(SINCE_LATE_2024, &["--props"], Nothing, "enable changing global properties via POST /props").variable("LLAMA_ARG_ENDPOINT_PROPS"),
    option(SINCE_LATE_2024, &["--slots"], Nothing, "expose slots monitoring endpoint").variable("LLAMA_ARG_ENDPOINT_SLOTS"),
    option(SINCE_LATE_2024, &["--no-slots"], Nothing, "disables slots monitoring endpoint").variable("LLAMA_ARG_NO_ENDPOINT_SLOTS"),
    option(TODAY, &["--models-dir"], Text("PATH"), "directory containing models for the router server").variable("LLAMA_ARG_MODELS_DIR"),
    option(SINCE_2025, &["--jinja"], Nothing, "use jinja template for chat").variable("LLAMA_ARG_JINJA"),
    option(TODAY, &["--no-jinja"], Nothing, "do not use jinja template for chat"),
    option(SINCE_2025, &["--reasoning-format"], Text("FORMAT"), "how thought tags are extracted from the response").variable("LLAMA_ARG_THINK"),
    option(SINCE_2025, &["--reasoning-budget"], Number("N"), "controls the amount of thinking allowed").variable("LLAMA_ARG_THINK_BUDGET"),
    option(SINCE_MID_2024, &["--chat-template"], Text("JINJA_TEMPLATE"), "set custom jinja chat template").variable("LLAMA_ARG_CHAT_TEMPLATE"),
    option(SINCE_2025, &["--swa-full"], Nothing, "use full-size SWA cache").variable("LLAMA_ARG_SWA_FULL"),
    option(SINCE_MID_2024, &["--slot-save-path"], Text("PATH"), "path to save slot kv cache"),
    option(SINCE_2025, &["-md", "--model-draft"], Text("FNAME"), "draft model for speculative decoding").variable("LLAMA_ARG_MODEL_DRAFT"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_build_lists_a_name_twice() {
        for era in [Era::December2023, Era::July2024, Era::November2024, Era::August2025, Era::B11669] {
            let mut seen = BTreeSet::new();
            for name in of(era).flat_map(|option| option.names) {
                assert!(seen.insert(name), "{name} twice in {era:?}");
            }
        }
    }

    #[test]
    fn the_options_that_a_supervisor_translates_change_with_the_builds() {
        let argument = |era, name| named(era, name).map(|option| option.argument);
        assert_eq!(argument(Era::August2025, "--flash-attn"), Some(Nothing));
        assert_eq!(argument(Era::B11669, "--flash-attn"), Some(Switch));
        assert_eq!(argument(Era::August2025, "--no-mmap"), Some(Nothing));
        assert_eq!(argument(Era::B11669, "--no-mmap"), None);
        assert_eq!(argument(Era::August2025, "--load-mode"), None);
        assert_eq!(argument(Era::August2025, "--sse-ping-interval"), None);
        assert_eq!(argument(Era::December2023, "--ubatch-size"), None);
    }
}
