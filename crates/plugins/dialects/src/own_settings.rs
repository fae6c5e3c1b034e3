//! Settings that llama-warden passes itself: model, host and port. A second road to one of them makes a server listen, or
//! serve, where nobody looks for it.
//!
//! llama-server takes the last of equal options, a preset changes the port, and builds until 2025 download a preset's model
//! over the file of `--model` (measured). So each other road is refused, whatever its spelling, and ours stand last.

use llama_warden_config::{ServerSpec, WrittenAt, written_options};

use crate::option_error::OptionError;

/// The keys of a server, each with the other options that decide the same; short names too.
const OWN: [(&str, &[&str]); 4] = [
    ("port", &["port"]),
    ("host", &["host"]),
    (
        "model",
        &["model", "m", "hf-repo", "hfr", "hf", "docker-repo", "dr", "model-url", "mu", "models-dir", "models-preset"],
    ),
    ("api-key-file", &["api-key-file"]),
];

/// Variables that set the same.
const VARIABLES: [(&str, &[&str]); 3] = [
    ("port", &["LLAMA_ARG_PORT"]),
    ("host", &["LLAMA_ARG_HOST"]),
    (
        "model",
        &[
            "LLAMA_ARG_MODEL",
            "LLAMA_ARG_MODEL_URL",
            "LLAMA_ARG_HF_REPO",
            "LLAMA_ARG_DOCKER_REPO",
            "LLAMA_ARG_MODELS_DIR",
            "LLAMA_ARG_MODELS_PRESET",
        ],
    ),
];

/// Options that choose a model, and a port, of their own: `--fim-qwen-1.5b-default`.
const PRESET_PREFIXES: [&str; 4] = ["fim-", "gpt-oss-", "embd-", "vision-"];

/// Why an option must not stand among the flags.
pub(crate) fn flag_problem(name: &str) -> Option<String> {
    if is_preset(name) {
        return Some("a preset chooses a model and a port of its own; write the options that are meant".to_owned());
    }
    let (key, _) = OWN.iter().find(|(_, names)| names.contains(&name))?;
    Some(format!("llama-warden passes the {key} itself; set the key `{key}` of the server"))
}

/// Each second road among the verbatim arguments and the variables.
pub(crate) fn problems(server: &ServerSpec) -> Vec<OptionError> {
    let among_args = written_options(&server.args).filter_map(|option| {
        let detail = flag_problem(&option.name)?;
        Some(OptionError::new(&option.name, format!("in `args`, {detail}")).at(WrittenAt::Argument(option.index)))
    });
    let among_variables = server.env.keys().filter_map(|name| {
        let (key, _) = VARIABLES.iter().find(|(_, names)| names.contains(&name.as_str()))?;
        let detail = format!("in `env`, llama-warden passes the {key} itself; set the key `{key}` of the server");
        Some(OptionError::new(name, detail).at(WrittenAt::Variable(name.clone())))
    });
    among_args.chain(among_variables).collect()
}

/// The variables that set an option unseen: it belongs among the flags, where it is translated and checked.
pub(crate) fn doubtful_variables(server: &ServerSpec) -> impl Iterator<Item = OptionError> {
    let is_refused = |name: &str| VARIABLES.iter().any(|(_, names)| names.contains(&name));
    let names = server.env.keys().filter(move |name| name.starts_with("LLAMA_ARG_") && !is_refused(name));
    names.map(|name| {
        let detail = "in `env`, it sets an option unseen; set it in `flags`, where it is translated and checked";
        OptionError::new(name, detail).at(WrittenAt::Variable(name.clone()))
    })
}

fn is_preset(name: &str) -> bool {
    PRESET_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        && (name.ends_with("-default") || name.ends_with("-spec"))
}
