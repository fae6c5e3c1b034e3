//! The log lines of each era at each step of a server's life, as in the recordings (`tests/fixtures/transcripts`).

use std::time::SystemTime;

use crate::{
    eras::Era,
    log::{ServerLogLine, error, info, warn},
    model_file::{self, ModelFault, ModelFileHeader},
    output::Stream,
    settings::Settings,
};

/// Generates the log lines of one server.
#[derive(Debug)]
pub(crate) struct ServerLines {
    era: Era,
    model: String,
    host: String,
    context_size: u64,
    slots: u64,
    open_to_all: bool,
}

impl ServerLines {
    pub(crate) fn new(era: Era, settings: &Settings) -> Self {
        Self {
            era,
            model: settings.model.clone(),
            host: settings.host.clone(),
            context_size: if settings.context_size == 0 { 2048 } else { settings.context_size },
            slots: settings.slots,
            open_to_all: settings.api_keys.is_empty(),
        }
    }

    /// The first lines of the log.
    pub(crate) fn opening(&self) -> Vec<ServerLogLine> {
        match self.era {
            Era::December2023 => vec![
                json("main", 2802, "build info", r#","build":1,"commit":"stand-in""#),
                json("main", 2809, "system info", r#","n_threads":2,"total_threads":2"#),
            ],
            Era::July2024 => vec![
                columns("INFO", "main", "build info", r#" build=1 commit="stand-in""#),
                columns("INFO", "main", "system info", " n_threads=2 n_threads_batch=-1 total_threads=2"),
            ],
            Era::November2024 | Era::August2025 => vec![
                info("build: 1 (stand-in) with rustc for x86_64-linux-gnu"),
                info("system info: n_threads = 2, n_threads_batch = 2, total_threads = 2"),
                info(""),
                info("system_info: n_threads = 2 (n_threads_batch = 2) / 2 | "),
                info(""),
            ],
            Era::B11669 => vec![info("srv  llama_server: initializing ...")],
        }
    }

    /// The lines after the opening, before the socket is bound.
    pub(crate) fn before_bind(&self) -> Vec<ServerLogLine> {
        match self.era {
            Era::December2023 | Era::July2024 | Era::November2024 => Vec::new(),
            Era::August2025 => vec![info("main: binding port with default address family")],
            Era::B11669 => {
                let mut lines = vec![info(
                    "cmn  common_param: common_params_print_info: verbosity = 3 (adjust with the `-lv N` CLI arg)",
                )];
                if self.open_to_all {
                    lines.push(warn(
                        "srv  llama_server: security: no API key is set and CORS allows all origins \
                         (see https://github.com/ggml-org/llama.cpp/pull/25655)",
                    ));
                }
                lines
            }
        }
    }

    /// The lines of a socket that could not be bound.
    pub(crate) fn bind_failure(&self, port: u16) -> Vec<ServerLogLine> {
        let host = &self.host;
        let classic = format!("couldn't bind to server socket: hostname={host} port={port}");
        match self.era {
            Era::December2023 | Era::July2024 => {
                vec![error(""), error(classic), error("")]
            }
            Era::November2024 => {
                vec![error(format!("main: couldn't bind HTTP server socket, hostname: {host}, port: {port}"))]
            }
            Era::August2025 => {
                let text = format!("main: couldn't bind HTTP server socket, hostname: {host}, port: {port}");
                let mut lines = vec![error(text)];
                lines.extend(self.cleaning_up());
                lines
            }
            Era::B11669 => {
                let text =
                    format!("srv         start: couldn't bind HTTP server socket, hostname: {host}, port: {port}");
                let mut lines = vec![error(text)];
                lines.extend(self.cleaning_up());
                lines.push(error("srv  llama_server: exiting due to HTTP server error"));
                lines
            }
        }
    }

    /// The lines at the beginning of the load. Two eras print "listening" here, long before they are ready.
    pub(crate) fn load_began(&self, port: u16) -> Vec<ServerLogLine> {
        let (host, model) = (&self.host, &self.model);
        let listening = format!("main: HTTP server is listening, hostname: {host}, port: {port}, http threads: 3");
        let loading = format!("srv    load_model: loading model '{model}'");
        match self.era {
            Era::December2023 | Era::July2024 => Vec::new(),
            Era::November2024 => vec![info(listening), info("main: loading model")],
            Era::August2025 => vec![info(listening), info("main: loading model"), info(loading)],
            Era::B11669 => vec![info(loading)],
        }
    }

    /// The lines after the header was read, which contain the path and the name of the model.
    pub(crate) fn header_read(&self, header: &ModelFileHeader) -> Vec<ServerLogLine> {
        if self.era == Era::B11669 {
            return vec![info("cmn          init: llama threadpool init, n_threads = 2")];
        }
        let ModelFileHeader { tensors, pairs, name } = header;
        let mut lines = vec![info(format!(
            "llama_model_loader: loaded meta data with {pairs} key-value pairs and {tensors} tensors from {} (version GGUF V3 (latest))",
            self.model
        ))];
        if let Some(name) = name {
            let key = "general.name str";
            lines.push(info(format!("llama_model_loader: - kv   1: {key:>42}              = {name}")));
        }
        lines
    }

    /// The lines of a model that could not be loaded; b11669 tries twice.
    pub(crate) fn load_failure(&self, fault: &ModelFault) -> Vec<ServerLogLine> {
        let model = &self.model;
        let cause = self.causes(fault);
        let from = match fault {
            ModelFault::WeightsCut(tensor) => {
                format!("tensor '{tensor}' data is not within the file bounds, model is corrupted or incomplete")
            }
            _ => format!("llama_model_loader: failed to load model from {model}"),
        };
        let load = format!("llama_model_load: error loading model: {from}");
        let mut lines: Vec<ServerLogLine> = cause.iter().map(error).collect();
        lines.push(error(load.as_str()));
        match self.era {
            Era::December2023 | Era::July2024 => {
                lines.push(error("llama_load_model_from_file: failed to load model"));
                lines.push(error(format!("llama_init_from_gpt_params: error: failed to load model '{model}'")));
                lines.push(columns(" ERR", "load_model", "unable to load model", &format!(" model=\"{model}\"")));
            }
            Era::November2024 | Era::August2025 => {
                lines.push(error("llama_model_load_from_file_impl: failed to load model"));
                lines.push(error(format!("common_init_from_params: failed to load model '{model}'")));
                lines.push(error(format!("srv    load_model: failed to load model, '{model}'")));
                lines.extend(self.cleaning_up());
                lines.push(error("main: exiting due to model loading error"));
            }
            Era::B11669 => {
                let attempt = [load.as_str(), "llama_model_load_from_file_impl: failed to load model"];
                lines.push(error(attempt[1]));
                lines.push(error(
                    "common_fit_params: encountered an error while trying to fit params to free device memory: \
                     failed to load model",
                ));
                lines.extend(cause.iter().map(error));
                lines.extend(attempt.map(error));
                lines.push(error(format!("cmn  common_init_: failed to load model '{model}'")));
                lines.push(error(format!("srv    load_model: failed to load model, '{model}'")));
                lines.extend(self.cleaning_up());
                lines.push(error("srv  llama_server: exiting due to model loading error"));
            }
        }
        lines
    }

    /// The lines at the end of the load, before the ready line.
    pub(crate) fn loaded(&self) -> Vec<ServerLogLine> {
        let (context_size, slots) = (self.context_size, self.slots);
        match self.era {
            Era::December2023 => vec![json("main", 3057, "model loaded", "")],
            Era::July2024 => vec![
                columns("INFO", "init", "initializing slots", &format!(" n_slots={slots}")),
                columns("INFO", "init", "new slot", &format!(" id_slot=0 n_ctx_slot={context_size}")),
                columns("INFO", "main", "model loaded", ""),
            ],
            Era::November2024 | Era::August2025 => vec![
                info(format!("srv          init: initializing slots, n_slots = {slots}")),
                info(format!("slot         init: id  0 | task -1 | new slot n_ctx_slot = {context_size}")),
                info("main: model loaded"),
            ],
            Era::B11669 => vec![
                info(format!(
                    "srv    load_model: initializing, n_slots = {slots}, n_ctx_slot = {context_size}, kv_unified = 'true'"
                )),
                info("srv  llama_server: model loaded"),
            ],
        }
    }

    /// The ready line; builds of 2023 print one on each stream.
    pub(crate) fn ready(&self, port: u16) -> Vec<ServerLogLine> {
        let host = &self.host;
        match self.era {
            Era::December2023 => vec![
                info(format!("llama server listening at http://{host}:{port}")),
                json("main", 3141, "HTTP server listening", &format!(r#","port":"{port}","hostname":"{host}""#)),
            ],
            Era::July2024 => vec![columns(
                "INFO",
                "main",
                "HTTP server listening",
                &format!(r#" n_threads_http="3" port="{port}" hostname="{host}""#),
            )],
            Era::November2024 | Era::August2025 => {
                vec![info(format!("main: server is listening on http://{host}:{port} - starting the main loop"))]
            }
            Era::B11669 if host.ends_with(".sock") => {
                vec![info(format!("srv  llama_server: listening on unix://{host}"))]
            }
            Era::B11669 => vec![info(format!("srv  llama_server: listening on http://{host}:{port}"))],
        }
    }

    /// The line of older builds after the ready line and after each completion.
    pub(crate) fn idle(&self) -> Option<ServerLogLine> {
        match self.era {
            Era::December2023 => Some(info("all slots are idle and system prompt is empty, clear the KV cache")),
            Era::July2024 => Some(columns("INFO", "update_slots", "all slots are idle", "")),
            Era::November2024 | Era::August2025 => Some(info("srv  update_slots: all slots are idle")),
            Era::B11669 => None,
        }
    }

    /// The line about an answered request, which b11669 does not print.
    pub(crate) fn answered(&self, method: &str, path: &str, status: u16) -> Option<ServerLogLine> {
        let request = format!("request: {method} {path} 127.0.0.1 {status}");
        match self.era {
            Era::December2023 | Era::B11669 => None,
            Era::July2024 => {
                let values = format!(
                    " remote_addr=\"127.0.0.1\" status={status} method=\"{method}\" path=\"{path}\" params={{}}"
                );
                Some(columns("INFO", "log_server_request", "request", &values))
            }
            Era::November2024 => Some(info(request)),
            Era::August2025 => Some(info(format!("srv  log_server_r: {request}"))),
        }
    }

    /// The line about a request without a valid API key.
    pub(crate) fn unauthorized(&self) -> Option<ServerLogLine> {
        (self.era == Era::B11669).then(|| warn("srv    operator(): unauthorized: Invalid API Key"))
    }

    /// The lines at the beginning of a completion.
    pub(crate) fn task_began(&self) -> Vec<ServerLogLine> {
        match self.era {
            Era::December2023 | Era::July2024 => Vec::new(),
            Era::November2024 | Era::August2025 => {
                vec![info("slot launch_slot_: id  0 | task 0 | processing task")]
            }
            Era::B11669 => vec![
                info("slot get_availabl: id  0 | task -1 | selected slot by LRU, n_tokens = 0, t_last = -1"),
                info("slot launch_slot_: id  0 | task 0 | processing task, is_child = 0"),
            ],
        }
    }

    /// The line at the beginning of a graceful stop.
    pub(crate) fn cleaning_up(&self) -> Option<ServerLogLine> {
        match self.era {
            Era::December2023 | Era::November2024 => None,
            Era::July2024 => self.idle(),
            Era::August2025 | Era::B11669 => Some(info("srv    operator(): operator(): cleaning up before exit...")),
        }
    }

    fn causes(&self, fault: &ModelFault) -> Vec<String> {
        let reader = match self.era {
            Era::December2023 | Era::July2024 | Era::November2024 => "gguf_init_from_file",
            Era::August2025 => "gguf_init_from_file_impl",
            Era::B11669 => "gguf_init_from_reader",
        };
        let model = &self.model;
        match fault {
            ModelFault::Missing => match self.era {
                Era::December2023 | Era::July2024 => Vec::new(),
                Era::November2024 => {
                    vec![format!("{reader}: failed to open '{model}': '{}'", model_file::missing_text(model))]
                }
                Era::August2025 => vec![format!("gguf_init_from_file: failed to open GGUF file '{model}'")],
                Era::B11669 => vec![format!(
                    "gguf_init_from_file: failed to open GGUF file '{model}' ({})",
                    model_file::missing_text(model)
                )],
            },
            ModelFault::NoMagic => vec![format!("{reader}: failed to read magic")],
            ModelFault::WrongMagic(magic) if self.era <= Era::November2024 => {
                vec![format!("{reader}: invalid magic characters '{magic}'")]
            }
            ModelFault::WrongMagic(magic) => {
                vec![format!("{reader}: invalid magic characters: '{magic}', expected 'GGUF'")]
            }
            ModelFault::FutureVersion(version) => vec![
                format!(
                    "{reader}: this GGUF file is version {version} but this software only supports up to version 3"
                ),
                format!("{reader}: failed to read header"),
            ],
            ModelFault::HeaderCut => vec![format!("{reader}: failed to read key-value pairs")],
            ModelFault::WeightsCut(_) => Vec::new(),
        }
    }
}

/// A line in the format of mid 2024: level and function in columns, then `key=value`.
fn columns(level: &str, function: &str, message: &str, values: &str) -> ServerLogLine {
    on_stdout(format!("{level} [{function:>24}] {message} | tid=\"1\" timestamp={}{values}", unix_time()))
}

/// A line in the JSON format of 2023; `values` begins with a comma.
fn json(function: &str, line: u32, message: &str, values: &str) -> ServerLogLine {
    on_stdout(format!(
        r#"{{"timestamp":{},"level":"INFO","function":"{function}","line":{line},"message":"{message}"{values}}}"#,
        unix_time()
    ))
}

fn on_stdout(text: String) -> ServerLogLine {
    ServerLogLine { stream: Stream::Stdout, ..info(text) }
}

pub(crate) fn unix_time() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map(|elapsed| elapsed.as_secs()).unwrap_or_default()
}
