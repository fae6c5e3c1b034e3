//! Reads from the standard environment variables what is exported, and to where.
//!
//! A signal (traces, metrics, logs) is exported once an endpoint is named for it, or its exporter is `otlp` in so many words. What a
//! variable says wrongly is a problem with its name and never an error: a signal that cannot be sent is off, and a bad number or
//! header is as if it were not set.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use llama_warden_support::mask;

use super::sampler::Sampler;

/// What is exported, to where, and under which name.
#[derive(Debug, Clone, Default)]
pub struct ExportSettings {
    pub(super) traces: Option<SignalSettings>,
    pub(super) metrics: Option<SignalSettings>,
    pub(super) logs: Option<SignalSettings>,
    pub(super) span_batches: BatchSettings,
    pub(super) log_batches: BatchSettings,
    /// Time between two exports of metrics.
    pub(super) metric_interval: Duration,
    /// The name of this service, where the user gives one.
    pub(super) service_name: Option<String>,
    /// What the user says of this service.
    pub(super) resource: Vec<(String, String)>,
    pub(super) sampler: Sampler,
    problems: Vec<VariableProblem>,
}

/// Where one signal goes, and how.
#[derive(Debug, Clone)]
pub(super) struct SignalSettings {
    /// The whole address, path included.
    pub(super) endpoint: http::Uri,
    pub(super) headers: HashMap<String, String>,
    /// Longest wait for an answer of the collector, and longest time for all tries of one batch.
    pub(super) timeout: Duration,
}

/// How what is to be sent is collected.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct BatchSettings {
    /// Time between two exports.
    pub(super) delay: Duration,
    /// How much waits at most; what comes then is lost, and counted.
    pub(super) queue: usize,
    /// How much is sent at once.
    pub(super) batch: usize,
}

/// What is wrong with a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariableProblem {
    /// Its name.
    pub variable: &'static str,
    /// Its value, secrets masked.
    pub value: String,
    /// What is wrong with it, and what follows.
    pub problem: &'static str,
}

impl fmt::Display for VariableProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=`{}`: {}", self.variable, self.value, self.problem)
    }
}

/// The variables of one signal.
struct SignalVariables {
    exporter: &'static str,
    endpoint: &'static str,
    headers: &'static str,
    timeout: &'static str,
    protocol: &'static str,
    compression: &'static str,
    /// What the general endpoint gets appended.
    path: &'static str,
}

macro_rules! signal_variables {
    ($signal:literal, $path:literal) => {
        SignalVariables {
            exporter: concat!("OTEL_", $signal, "_EXPORTER"),
            endpoint: concat!("OTEL_EXPORTER_OTLP_", $signal, "_ENDPOINT"),
            headers: concat!("OTEL_EXPORTER_OTLP_", $signal, "_HEADERS"),
            timeout: concat!("OTEL_EXPORTER_OTLP_", $signal, "_TIMEOUT"),
            protocol: concat!("OTEL_EXPORTER_OTLP_", $signal, "_PROTOCOL"),
            compression: concat!("OTEL_EXPORTER_OTLP_", $signal, "_COMPRESSION"),
            path: $path,
        }
    };
}

const TRACES: SignalVariables = signal_variables!("TRACES", "/v1/traces");
const METRICS: SignalVariables = signal_variables!("METRICS", "/v1/metrics");
const LOGS: SignalVariables = signal_variables!("LOGS", "/v1/logs");

/// Where a collector listens by the specification, for who asks for `otlp` and names no endpoint.
const USUAL_ENDPOINT: &str = "http://localhost:4318";

impl ExportSettings {
    /// Reads `OTEL_*` from the environment.
    pub fn from_env() -> Self {
        Self::from_lookup(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// Reads the variables through `variable` instead of the environment.
    pub fn from_lookup(variable: impl Fn(&str) -> Option<String>) -> Self {
        let mut reader = Reader { variable: &variable, problems: Vec::new() };
        let settings = reader.settings();
        Self { problems: reader.problems, ..settings }
    }

    /// Whether anything is exported.
    pub const fn is_on(&self) -> bool {
        self.exports_traces() || self.metrics.is_some() || self.logs.is_some()
    }

    /// Whether launches have traces.
    pub const fn exports_traces(&self) -> bool {
        self.traces.is_some()
    }

    /// What is wrong with variables: one for each of them.
    pub fn problems(&self) -> &[VariableProblem] {
        &self.problems
    }
}

struct Reader<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<VariableProblem>,
}

impl Reader<'_> {
    fn settings(&mut self) -> ExportSettings {
        if let Some(disabled) = self.get("OTEL_SDK_DISABLED") {
            match disabled.to_ascii_lowercase().as_str() {
                "true" => return ExportSettings::default(),
                "false" => {}
                _ => {
                    self.problem("OTEL_SDK_DISABLED", &disabled, "this is neither true nor false, and counts as false")
                }
            }
        }
        let [traces, metrics, logs] = [&TRACES, &METRICS, &LOGS].map(|variables| self.signal(variables));
        let mut settings = ExportSettings { traces, metrics, logs, ..ExportSettings::default() };
        if !settings.is_on() {
            return settings;
        }
        settings.span_batches = BatchSettings {
            delay: self.milliseconds("OTEL_BSP_SCHEDULE_DELAY", 5_000),
            queue: self.size("OTEL_BSP_MAX_QUEUE_SIZE", 2_048),
            batch: self.size("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512),
        };
        settings.log_batches = BatchSettings {
            delay: self.milliseconds("OTEL_BLRP_SCHEDULE_DELAY", 1_000),
            queue: self.size("OTEL_BLRP_MAX_QUEUE_SIZE", 2_048),
            batch: self.size("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", 512),
        };
        settings.metric_interval = self.milliseconds("OTEL_METRIC_EXPORT_INTERVAL", 60_000);
        self.temporality();
        settings.service_name = self.get("OTEL_SERVICE_NAME");
        settings.resource = self.resource();
        settings.sampler = self.sampler();
        settings
    }

    fn temporality(&mut self) {
        const PREFERENCE: &str = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
        if let Some(temporality) = self.get(PREFERENCE).filter(|value| !value.eq_ignore_ascii_case("cumulative")) {
            self.problem(PREFERENCE, &temporality, "this build sends cumulative sums");
        }
    }

    fn sampler(&mut self) -> Sampler {
        let Some(name) = self.get("OTEL_TRACES_SAMPLER") else { return Sampler::default() };
        let argument = self.get("OTEL_TRACES_SAMPLER_ARG").filter(|_| name.ends_with("traceidratio"));
        let ratio = argument.as_ref().and_then(|text| text.parse().ok()).filter(|ratio| (0.0..=1.0).contains(ratio));
        if let Some(argument) = argument.filter(|_| ratio.is_none()) {
            self.problem(
                "OTEL_TRACES_SAMPLER_ARG",
                &argument,
                "this is no number from 0 to 1; every trace is recorded",
            );
        }
        Sampler::named(&name, ratio).unwrap_or_else(|| {
            self.problem("OTEL_TRACES_SAMPLER", &name, "there is no such sampler; every trace is recorded");
            Sampler::default()
        })
    }

    fn resource(&mut self) -> Vec<(String, String)> {
        let Some(text) = self.get("OTEL_RESOURCE_ATTRIBUTES") else { return Vec::new() };
        let mut attributes = Vec::new();
        for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
            match pair.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
                Some((key, value)) if !key.is_empty() => attributes.push((unescaped(key), unescaped(value))),
                _ => {
                    let problem = "a part of this is not KEY=VALUE, and is left out";
                    self.problem("OTEL_RESOURCE_ATTRIBUTES", &text, problem);
                }
            }
        }
        attributes
    }

    fn signal(&mut self, variables: &SignalVariables) -> Option<SignalSettings> {
        let exporter = self.get(variables.exporter);
        let named = self.either(variables.endpoint, "OTEL_EXPORTER_OTLP_ENDPOINT");
        let usual = || Some(("OTEL_EXPORTER_OTLP_ENDPOINT", USUAL_ENDPOINT.to_owned()));
        let (name, endpoint) =
            named.or_else(|| exporter.as_deref().filter(|value| *value == "otlp").and_then(|_| usual()))?;
        match exporter.as_deref() {
            None | Some("otlp") => {}
            Some("none") => return None,
            Some(other) => {
                self.problem(
                    variables.exporter,
                    other,
                    "this build exports by otlp, or not at all (none); nothing is sent",
                );
                return None;
            }
        }
        if let Some((name, protocol)) = self.either(variables.protocol, "OTEL_EXPORTER_OTLP_PROTOCOL")
            && protocol != "http/protobuf"
        {
            self.problem(name, &protocol, "this build sends http/protobuf only; nothing is sent");
            return None;
        }
        let endpoint = self.address(name, &endpoint, variables)?;
        if let Some((name, compression)) = self.either(variables.compression, "OTEL_EXPORTER_OTLP_COMPRESSION")
            && compression != "none"
        {
            self.problem(name, &compression, "this build sends uncompressed");
        }
        let headers = self.headers(variables);
        let timeout = match self.either(variables.timeout, "OTEL_EXPORTER_OTLP_TIMEOUT") {
            Some((name, _)) => self.milliseconds(name, 10_000),
            None => Duration::from_secs(10),
        };
        Some(SignalSettings { endpoint, headers, timeout })
    }

    /// The address of the variable for one signal is used unchanged; the general one gets the signal's path appended.
    fn address(&mut self, name: &'static str, endpoint: &str, variables: &SignalVariables) -> Option<http::Uri> {
        let address = match name == variables.endpoint {
            true => endpoint.to_owned(),
            false => format!("{}{}", endpoint.trim_end_matches('/'), variables.path),
        };
        let parsed = address.parse::<http::Uri>().ok();
        match parsed.as_ref().and_then(http::Uri::scheme_str) {
            Some("http") => return parsed,
            Some("https") => self.problem(
                name,
                endpoint,
                "this build sends over plain http only, and so nothing; use the http endpoint of a collector nearby",
            ),
            _ => self.problem(
                name,
                endpoint,
                "this is not an http address such as http://127.0.0.1:4318; nothing is sent",
            ),
        }
        None
    }

    /// `KEY=VALUE,…`. Those of the signal are taken instead of the general ones.
    fn headers(&mut self, variables: &SignalVariables) -> HashMap<String, String> {
        let Some((name, text)) = self.either(variables.headers, "OTEL_EXPORTER_OTLP_HEADERS") else {
            return HashMap::new();
        };
        let mut headers = HashMap::new();
        for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
            let header = pair.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
            let is_valid = |(key, value): &(&str, &str)| {
                key.parse::<http::HeaderName>().is_ok() && value.parse::<http::HeaderValue>().is_ok()
            };
            match header.filter(is_valid) {
                Some((key, value)) => drop(headers.insert(key.to_owned(), value.to_owned())),
                // A header is often a key, so it is not shown.
                None => self.problem(name, "…", "a part of this is not KEY=VALUE, and is left out"),
            }
        }
        headers
    }

    fn milliseconds(&mut self, name: &'static str, default: u64) -> Duration {
        Duration::from_millis(self.positive(name).unwrap_or(default))
    }

    fn size(&mut self, name: &'static str, default: usize) -> usize {
        self.positive(name).and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
    }

    /// A zero would mean to export without a pause, or to keep nothing.
    fn positive(&mut self, name: &'static str) -> Option<u64> {
        let value = self.get(name)?;
        let number = value.trim().parse().ok().filter(|number| *number > 0);
        if number.is_none() {
            self.problem(name, &value, "this is not a whole number above 0; the default is used");
        }
        number
    }

    fn get(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    fn either(&self, special: &'static str, general: &'static str) -> Option<(&'static str, String)> {
        let named = |name: &'static str| self.get(name).map(|value| (name, value));
        named(special).or_else(|| named(general))
    }

    /// A general variable counts for three signals, and is told once.
    fn problem(&mut self, variable: &'static str, value: &str, problem: &'static str) {
        if self.problems.iter().all(|known| known.variable != variable) {
            self.problems.push(VariableProblem { variable, value: mask(value).into_owned(), problem });
        }
    }
}

/// The text with the bytes that `%2C` and the like stand for, as the specification writes a comma or an equals sign. What is no such text
/// stays.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = after.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> ExportSettings {
        ExportSettings::from_lookup(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");

    #[test]
    fn without_an_endpoint_nothing_is_exported_and_nothing_is_said() {
        let off: [&[(&str, &str)]; 6] = [
            &[],
            &[("OTEL_SERVICE_NAME", "mine")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
            &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
            &[ENDPOINT, ("OTEL_SDK_DISABLED", "True")],
            &[
                ENDPOINT,
                ("OTEL_TRACES_EXPORTER", "none"),
                ("OTEL_METRICS_EXPORTER", "none"),
                ("OTEL_LOGS_EXPORTER", "none"),
            ],
        ];
        for variables in off {
            let settings = settings(variables);
            assert!(!settings.is_on() && settings.problems().is_empty(), "{variables:?}: {settings:?}");
        }
    }

    #[test]
    fn each_signal_has_a_switch_of_its_own() {
        let on = |variables: &[_]| {
            let settings = settings(variables);
            [&settings.traces, &settings.metrics, &settings.logs].map(Option::is_some)
        };
        assert_eq!(on(&[ENDPOINT]), [true; 3]);
        assert_eq!(on(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]), [false, true, true]);
        assert_eq!(on(&[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://c:1/x")]), [false, false, true]);
        assert_eq!(on(&[("OTEL_METRICS_EXPORTER", "otlp")]), [false, true, false]);
    }

    #[test]
    fn the_general_endpoint_gets_the_path_and_the_special_one_wins() {
        let endpoints = |variables: &[_]| {
            let settings = settings(variables);
            [settings.traces, settings.metrics, settings.logs]
                .map(|signal| signal.map(|signal| signal.endpoint.to_string()).unwrap_or_default())
        };
        let general = ["traces", "metrics", "logs"].map(|signal| format!("http://127.0.0.1:4318/v1/{signal}"));
        assert_eq!(endpoints(&[ENDPOINT]), general);
        let special = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://c:2/own");
        assert_eq!(endpoints(&[ENDPOINT, special])[1], "http://c:2/own");
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1/base/");
        assert_eq!(endpoints(&[base])[0], "http://c:1/base/v1/traces");
        assert_eq!(endpoints(&[("OTEL_LOGS_EXPORTER", "otlp")])[2], "http://localhost:4318/v1/logs");
    }

    /// Fault S31.
    #[test]
    fn what_a_variable_says_wrongly_is_told_once_with_its_name() {
        // What it says, and whether traces are sent all the same.
        let told = [
            (vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c:4318")], "plain http only", false),
            (vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4318")], "not an http address", false),
            (vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "no address")], "not an http address", false),
            (vec![ENDPOINT, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "http/protobuf only", false),
            (vec![ENDPOINT, ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json")], "http/protobuf only", false),
            (vec![ENDPOINT, ("OTEL_TRACES_EXPORTER", "zipkin")], "by otlp", false),
            (vec![ENDPOINT, ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")], "uncompressed", true),
            (vec![ENDPOINT, ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s")], "not a whole number", true),
            (vec![ENDPOINT, ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2")], "not KEY=VALUE", true),
            (vec![ENDPOINT, ("OTEL_EXPORTER_OTLP_HEADERS", "a b=hunter2")], "not KEY=VALUE", true),
            (vec![ENDPOINT, ("OTEL_BSP_SCHEDULE_DELAY", "0")], "not a whole number", true),
            (vec![ENDPOINT, ("OTEL_BLRP_MAX_QUEUE_SIZE", "-1")], "not a whole number", true),
            (vec![ENDPOINT, ("OTEL_METRIC_EXPORT_INTERVAL", "soon")], "not a whole number", true),
            (vec![ENDPOINT, ("OTEL_SDK_DISABLED", "1")], "neither true nor false", true),
            (vec![ENDPOINT, ("OTEL_TRACES_SAMPLER", "some")], "no such sampler", true),
            (vec![ENDPOINT, ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")], "cumulative sums", true),
            (vec![ENDPOINT, ("OTEL_RESOURCE_ATTRIBUTES", "a=b,c")], "not KEY=VALUE", true),
        ];
        for (variables, message, sends) in told {
            let settings = settings(&variables);
            let named = variables.last().expect("there is one").0;
            let [problem] = settings.problems() else { panic!("{variables:?}: {:?}", settings.problems()) };
            let text = problem.to_string();
            assert!(text.contains(message) && text.starts_with(named), "{variables:?}: {text}");
            assert!(!text.contains("hunter2"), "{text}");
            assert_eq!(settings.exports_traces(), sends, "{variables:?}");
        }
        let ratio = [ENDPOINT, ("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "2")];
        assert!(settings(&ratio).problems()[0].to_string().contains("no number from 0 to 1"));
        let secret = settings(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://me:hunter2@c:4318")]);
        assert!(!format!("{:?}", secret.problems()).contains("hunter2"), "{secret:?}");
    }

    #[test]
    fn headers_and_the_time_limit_of_a_signal_win_over_the_general_ones() {
        let of = |variables: &[_]| settings(variables).logs.expect("on");
        assert_eq!(of(&[ENDPOINT]).timeout, Duration::from_secs(10));
        let general = [ENDPOINT, ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"), ("OTEL_EXPORTER_OTLP_HEADERS", "a=1, b = 2")];
        let logs = of(&general);
        assert_eq!(
            (logs.timeout, logs.headers.len(), logs.headers["b"].as_str()),
            (Duration::from_millis(250), 2, "2")
        );
        let special = [("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "c=3"), ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "9")];
        let logs = of(&[&general[..], &special].concat());
        assert_eq!((logs.timeout, logs.headers.len(), logs.headers["c"].as_str()), (Duration::from_millis(9), 1, "3"));
    }
}
