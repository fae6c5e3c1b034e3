//! The log lines of each era at each step of a server's life, as in the recordings (`tests/fixtures/transcripts`).

use std::{ops::RangeInclusive, time::SystemTime};

use crate::{
    eras::{
        ALL, Era, LATE_2024, LATE_2024_TO_2025, MID_2024, OF_2023, OF_2025, SINCE_2025, SINCE_LATE_2024, TODAY,
        UNTIL_2025, UNTIL_MID_2024,
    },
    log::LineKind::{self, Error, Info, Out, Warn},
    model_file::{self, ModelFault},
    script::LineStyle,
    state::Server,
};

/// A step of a server's life at which it prints lines. Values that only one step has are named with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Opening,
    BeforeBind,
    /// No API key is set.
    OpenToAll,
    BindFailed,
    LoadBegan,
    /// The script asks for `{percent}` in lines.
    LoadProgress,
    /// The header with `{pairs}` and `{tensors}` was read.
    HeaderRead,
    /// The header contains the `{name}` of the model.
    NameRead,
    /// The model cannot be loaded: `{cause}` and `{from}`.
    LoadFailed,
    Loaded,
    Ready,
    /// After the ready line and after each completion.
    Idle,
    /// A request with `{method}` and `{path}` was answered with `{status}`.
    Answered,
    Unauthorized,
    TaskBegan,
    /// A completion of `{tokens}` tokens in `{ms}` milliseconds has ended.
    TaskEnded,
    /// The beginning of a graceful stop.
    CleaningUp,
}

const CLEANING_UP: &str = "srv    operator(): operator(): cleaning up before exit...";
const IDLE_OF_MID_2024: &str = r#"INFO [            update_slots] all slots are idle | tid="1" timestamp={time}"#;

/// The lines of each step in their order. A text that is empty with its values is no line.
#[rustfmt::skip]
static LINES: &[(RangeInclusive<Era>, Step, LineKind, &str)] = &[
    (OF_2023, Step::Opening, Out, r#"{"timestamp":{time},"level":"INFO","function":"main","line":2802,"message":"build info","build":1,"commit":"stand-in"}"#),
    (OF_2023, Step::Opening, Out, r#"{"timestamp":{time},"level":"INFO","function":"main","line":2809,"message":"system info","n_threads":2,"total_threads":2}"#),
    (MID_2024, Step::Opening, Out, r#"INFO [                    main] build info | tid="1" timestamp={time} build=1 commit="stand-in""#),
    (MID_2024, Step::Opening, Out, r#"INFO [                    main] system info | tid="1" timestamp={time} n_threads=2 n_threads_batch=-1 total_threads=2"#),
    (LATE_2024_TO_2025, Step::Opening, Info, "build: 1 (stand-in) with rustc for x86_64-linux-gnu"),
    (LATE_2024_TO_2025, Step::Opening, Info, "system info: n_threads = 2, n_threads_batch = 2, total_threads = 2\n\n"),
    (LATE_2024_TO_2025, Step::Opening, Info, "system_info: n_threads = 2 (n_threads_batch = 2) / 2 | \n\n"),
    (TODAY, Step::Opening, Info, "srv  llama_server: initializing ..."),
    (OF_2025, Step::BeforeBind, Info, "main: binding port with default address family"),
    (TODAY, Step::BeforeBind, Info, "cmn  common_param: common_params_print_info: verbosity = 3 (adjust with the `-lv N` CLI arg)"),
    (TODAY, Step::OpenToAll, Warn, "srv  llama_server: security: no API key is set and CORS allows all origins (see https://github.com/ggml-org/llama.cpp/pull/25655)"),
    (UNTIL_MID_2024, Step::BindFailed, Error, "\ncouldn't bind to server socket: hostname={host} port={port}\n\n"),
    (LATE_2024_TO_2025, Step::BindFailed, Error, "main: couldn't bind HTTP server socket, hostname: {host}, port: {port}"),
    (TODAY, Step::BindFailed, Error, "srv         start: couldn't bind HTTP server socket, hostname: {host}, port: {port}"),
    (SINCE_2025, Step::BindFailed, Info, CLEANING_UP),
    (TODAY, Step::BindFailed, Error, "srv  llama_server: exiting due to HTTP server error"),
    (LATE_2024_TO_2025, Step::LoadBegan, Info, "main: HTTP server is listening, hostname: {host}, port: {port}, http threads: 3"),
    (LATE_2024_TO_2025, Step::LoadBegan, Info, "main: loading model"),
    (SINCE_2025, Step::LoadBegan, Info, "srv    load_model: loading model '{model}'"),
    (ALL, Step::LoadProgress, Info, "loading {percent} %"),
    (UNTIL_2025, Step::HeaderRead, Info, "llama_model_loader: loaded meta data with {pairs} key-value pairs and {tensors} tensors from {model} (version GGUF V3 (latest))"),
    (UNTIL_2025, Step::NameRead, Info, "llama_model_loader: - kv   1:                           general.name str              = {name}"),
    (TODAY, Step::HeaderRead, Info, "cmn          init: llama threadpool init, n_threads = 2"),
    (ALL, Step::LoadFailed, Error, "{cause}"),
    (ALL, Step::LoadFailed, Error, "llama_model_load: error loading model: {from}"),
    (UNTIL_MID_2024, Step::LoadFailed, Error, "llama_load_model_from_file: failed to load model"),
    (UNTIL_MID_2024, Step::LoadFailed, Error, "llama_init_from_gpt_params: error: failed to load model '{model}'"),
    (UNTIL_MID_2024, Step::LoadFailed, Out, r#" ERR [              load_model] unable to load model | tid="1" timestamp={time} model="{model}""#),
    (LATE_2024_TO_2025, Step::LoadFailed, Error, "llama_model_load_from_file_impl: failed to load model"),
    (LATE_2024_TO_2025, Step::LoadFailed, Error, "common_init_from_params: failed to load model '{model}'"),
    // A build of today tries twice.
    (TODAY, Step::LoadFailed, Error, "llama_model_load_from_file_impl: failed to load model"),
    (TODAY, Step::LoadFailed, Error, "common_fit_params: encountered an error while trying to fit params to free device memory: failed to load model"),
    (TODAY, Step::LoadFailed, Error, "{cause}"),
    (TODAY, Step::LoadFailed, Error, "llama_model_load: error loading model: {from}"),
    (TODAY, Step::LoadFailed, Error, "llama_model_load_from_file_impl: failed to load model"),
    (TODAY, Step::LoadFailed, Error, "cmn  common_init_: failed to load model '{model}'"),
    (SINCE_LATE_2024, Step::LoadFailed, Error, "srv    load_model: failed to load model, '{model}'"),
    (SINCE_2025, Step::LoadFailed, Info, CLEANING_UP),
    (LATE_2024_TO_2025, Step::LoadFailed, Error, "main: exiting due to model loading error"),
    (TODAY, Step::LoadFailed, Error, "srv  llama_server: exiting due to model loading error"),
    (OF_2023, Step::Loaded, Out, r#"{"timestamp":{time},"level":"INFO","function":"main","line":3057,"message":"model loaded"}"#),
    (MID_2024, Step::Loaded, Out, r#"INFO [                    init] initializing slots | tid="1" timestamp={time} n_slots={slots}"#),
    (MID_2024, Step::Loaded, Out, r#"INFO [                    init] new slot | tid="1" timestamp={time} id_slot=0 n_ctx_slot={context_size}"#),
    (MID_2024, Step::Loaded, Out, r#"INFO [                    main] model loaded | tid="1" timestamp={time}"#),
    (LATE_2024_TO_2025, Step::Loaded, Info, "srv          init: initializing slots, n_slots = {slots}"),
    (LATE_2024_TO_2025, Step::Loaded, Info, "slot         init: id  0 | task -1 | new slot n_ctx_slot = {context_size}"),
    (LATE_2024_TO_2025, Step::Loaded, Info, "main: model loaded"),
    (TODAY, Step::Loaded, Info, "srv    load_model: initializing, n_slots = {slots}, n_ctx_slot = {context_size}, kv_unified = 'true'"),
    (TODAY, Step::Loaded, Info, "srv  llama_server: model loaded"),
    // Builds of 2023 print a ready line on each stream.
    (OF_2023, Step::Ready, Info, "llama server listening at http://{host}:{port}"),
    (OF_2023, Step::Ready, Out, r#"{"timestamp":{time},"level":"INFO","function":"main","line":3141,"message":"HTTP server listening","port":"{port}","hostname":"{host}"}"#),
    (MID_2024, Step::Ready, Out, r#"INFO [                    main] HTTP server listening | tid="1" timestamp={time} n_threads_http="3" port="{port}" hostname="{host}""#),
    (LATE_2024_TO_2025, Step::Ready, Info, "main: server is listening on http://{host}:{port} - starting the main loop"),
    (TODAY, Step::Ready, Info, "srv  llama_server: listening on {address}"),
    (OF_2023, Step::Idle, Info, "all slots are idle and system prompt is empty, clear the KV cache"),
    (MID_2024, Step::Idle, Out, IDLE_OF_MID_2024),
    (LATE_2024_TO_2025, Step::Idle, Info, "srv  update_slots: all slots are idle"),
    (MID_2024, Step::Answered, Out, r#"INFO [      log_server_request] request | tid="1" timestamp={time} remote_addr="127.0.0.1" status={status} method="{method}" path="{path}" params={}"#),
    (LATE_2024, Step::Answered, Info, "request: {method} {path} 127.0.0.1 {status}"),
    (OF_2025, Step::Answered, Info, "srv  log_server_r: request: {method} {path} 127.0.0.1 {status}"),
    (TODAY, Step::Unauthorized, Warn, "srv    operator(): unauthorized: Invalid API Key"),
    (LATE_2024_TO_2025, Step::TaskBegan, Info, "slot launch_slot_: id  0 | task 0 | processing task"),
    (TODAY, Step::TaskBegan, Info, "slot get_availabl: id  0 | task -1 | selected slot by LRU, n_tokens = 0, t_last = -1"),
    (TODAY, Step::TaskBegan, Info, "slot launch_slot_: id  0 | task 0 | processing task, is_child = 0"),
    (TODAY, Step::TaskEnded, Info, "slot print_timing: id  0 | task 0 | prompt eval time =       0.50 ms /     4 tokens (    0.12 ms per token,  8000.00 tokens per second)"),
    (TODAY, Step::TaskEnded, Info, "slot print_timing: id  0 | task 0 |        eval time = {ms} ms / {tokens} tokens (    1.00 ms per token,  1000.00 tokens per second)"),
    (TODAY, Step::TaskEnded, Info, "slot      release: id  0 | task 0 | stop processing: n_tokens = {tokens}, truncated = 0"),
    (MID_2024, Step::CleaningUp, Out, IDLE_OF_MID_2024),
    (SINCE_2025, Step::CleaningUp, Info, CLEANING_UP),
];

/// Prints the lines of `step` that need no values of their own.
pub(crate) fn print(server: &Server, step: Step) {
    print_with(server, step, &[]);
}

/// Prints the lines of `step` with the values of the server and `values`.
pub(crate) fn print_with(server: &Server, step: Step, values: &[(&str, &str)]) {
    let settings = &server.settings;
    let (host, port) = (&settings.host, server.port().to_string());
    let context_size = if settings.context_size == 0 { 2048 } else { settings.context_size };
    let address = if host.ends_with(".sock") { format!("unix://{host}") } else { format!("http://{host}:{port}") };
    let common = [
        ("time", &*unix_time().to_string()),
        ("model", &settings.model),
        ("host", host),
        ("port", &port),
        ("address", &address),
        ("slots", &settings.slots.to_string()),
        ("context_size", &context_size.to_string()),
    ];
    let style = if step == Step::Ready { server.script.ready_style } else { LineStyle::Plain };
    for (eras, at, kind, text) in LINES {
        if *at == step && eras.contains(&server.script.era) {
            let text = common
                .iter()
                .chain(values)
                .fold((*text).to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value));
            text.lines().for_each(|line| server.log.line(*kind, line, style));
        }
    }
}

/// Prints the lines of a model that could not be loaded.
pub(crate) fn print_load_failure(server: &Server, fault: &ModelFault) {
    let model = &server.settings.model;
    let from = match fault {
        ModelFault::WeightsCut(tensor) => {
            format!("tensor '{tensor}' data is not within the file bounds, model is corrupted or incomplete")
        }
        _ => format!("llama_model_loader: failed to load model from {model}"),
    };
    let cause = cause(server.script.era, model, fault);
    print_with(server, Step::LoadFailed, &[("cause", &cause), ("from", &from)]);
}

/// The lines about a fault that come before the failure of the load, if any.
fn cause(era: Era, model: &str, fault: &ModelFault) -> String {
    let reader = match era {
        Era::December2023 | Era::July2024 | Era::November2024 => "gguf_init_from_file",
        Era::August2025 => "gguf_init_from_file_impl",
        Era::B11669 => "gguf_init_from_reader",
    };
    match fault {
        ModelFault::Missing => match era {
            Era::December2023 | Era::July2024 => String::new(),
            Era::November2024 => {
                format!("{reader}: failed to open '{model}': '{}'", model_file::missing_text(model))
            }
            Era::August2025 => format!("gguf_init_from_file: failed to open GGUF file '{model}'"),
            Era::B11669 => {
                let problem = model_file::missing_text(model);
                format!("gguf_init_from_file: failed to open GGUF file '{model}' ({problem})")
            }
        },
        ModelFault::NoMagic => format!("{reader}: failed to read magic"),
        ModelFault::WrongMagic(magic) if era <= Era::November2024 => {
            format!("{reader}: invalid magic characters '{magic}'")
        }
        ModelFault::WrongMagic(magic) => format!("{reader}: invalid magic characters: '{magic}', expected 'GGUF'"),
        ModelFault::FutureVersion(version) => format!(
            "{reader}: this GGUF file is version {version} but this software only supports up to version 3\n\
             {reader}: failed to read header"
        ),
        ModelFault::HeaderCut => format!("{reader}: failed to read key-value pairs"),
        ModelFault::WeightsCut(_) => String::new(),
    }
}

pub(crate) fn unix_time() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map(|elapsed| elapsed.as_secs()).unwrap_or_default()
}
