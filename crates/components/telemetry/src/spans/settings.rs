//! Reads from the standard environment variables where spans are sent.

use std::time::Duration;

use llama_warden_support::mask;

use super::TracingError;

/// Where spans are sent, and under which name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracingSettings {
    /// The whole address, path included.
    pub(super) endpoint: http::Uri,
    /// Longest wait for an answer of the collector, and longest time for all tries of one batch.
    pub(super) timeout: Duration,
    /// The name of this service, where the user gives one.
    pub(super) service_name: Option<String>,
}

/// Numbers that the SDK reads by itself. It takes a zero as it is, and then exports without a pause or keeps no span.
const NUMBERS: [&str; 4] =
    ["OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_EXPORT_TIMEOUT"];

impl TracingSettings {
    /// The time limit of the specification.
    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Reads `OTEL_*`. `None` if no endpoint is set, which is the normal case, or if tracing is switched off.
    ///
    /// # Errors
    /// A variable asks for something that this build cannot do, or has no value that it could have.
    pub fn from_env() -> Result<Option<Self>, TracingError> {
        Self::from_lookup(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// Reads the variables through `variable` instead of the environment.
    ///
    /// # Errors
    /// As [`Self::from_env`].
    pub fn from_lookup(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, TracingError> {
        let variable = |name: &'static str| variable(name).filter(|value| !value.is_empty());
        let either = |special, general| {
            variable(special).map(|value| (special, value)).or_else(|| variable(general).map(|value| (general, value)))
        };
        let disabled = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let exporter = variable("OTEL_TRACES_EXPORTER").filter(|exporter| exporter != "otlp");
        let not_exported = exporter.as_ref().is_some_and(|value| value == "none");
        let named = either("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT");
        let Some((name, endpoint)) = named.filter(|_| !disabled && !not_exported) else { return Ok(None) };
        if let Some(exporter) = exporter {
            return Err(bad("OTEL_TRACES_EXPORTER", &exporter, "this build exports by otlp, or not at all (none)"));
        }
        if let Some((name, protocol)) = either("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
            && protocol != "http/protobuf"
        {
            return Err(bad(name, &protocol, "this build sends http/protobuf only"));
        }
        let compression = either("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION");
        if let Some((name, compression)) = compression.filter(|(_, compression)| compression != "none") {
            return Err(bad(name, &compression, "this build sends uncompressed spans only"));
        }
        for name in NUMBERS {
            if let Some(value) = variable(name) {
                positive(name, &value)?;
            }
        }
        let timeout = either("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
            .map(|(name, value)| positive(name, &value))
            .transpose()?
            .map_or(Self::TIMEOUT, Duration::from_millis);
        Ok(Some(Self { endpoint: address(name, &endpoint)?, timeout, service_name: variable("OTEL_SERVICE_NAME") }))
    }
}

/// The address of the variable for traces is used unchanged; the general one gets the path of traces appended.
fn address(variable: &'static str, endpoint: &str) -> Result<http::Uri, TracingError> {
    let address = match variable {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" => endpoint.to_owned(),
        _ => format!("{}/v1/traces", endpoint.trim_end_matches('/')),
    };
    let parsed = address.parse::<http::Uri>().ok();
    let is_tls = parsed.as_ref().is_some_and(|parsed| parsed.scheme_str() == Some("https"));
    let problem = match is_tls {
        true => "this build sends spans over plain http only; use the http endpoint of a collector nearby",
        false => "this is not an http address such as http://127.0.0.1:4318",
    };
    let http = parsed.filter(|parsed| parsed.scheme_str() == Some("http"));
    http.ok_or_else(|| bad(variable, endpoint, problem))
}

fn positive(variable: &'static str, value: &str) -> Result<u64, TracingError> {
    let number = value.trim().parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| bad(variable, value, "this is not a whole number above 0"))
}

fn bad(variable: &'static str, value: &str, problem: &'static str) -> TracingError {
    TracingError::Variable { variable, value: mask(value).into_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Option<TracingSettings>, TracingError> {
        TracingSettings::from_lookup(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");

    #[test]
    fn without_an_endpoint_there_is_no_tracing() {
        let off: [&[(&str, &str)]; 5] = [
            &[],
            &[("OTEL_SERVICE_NAME", "mine")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
            &[ENDPOINT, ("OTEL_SDK_DISABLED", "True")],
            &[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")],
        ];
        for variables in off {
            assert!(matches!(settings(variables), Ok(None)), "{variables:?}");
        }
    }

    #[test]
    fn the_general_endpoint_gets_the_path_and_the_special_one_wins() {
        let endpoint = |variables| settings(variables).expect("valid").expect("on").endpoint.to_string();
        assert_eq!(endpoint(&[ENDPOINT]), "http://127.0.0.1:4318/v1/traces");
        assert_eq!(endpoint(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1/base/")]), "http://c:1/base/v1/traces");
        let special = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:2/own");
        assert_eq!(endpoint(&[ENDPOINT, special]), "http://c:2/own");
    }

    /// Fault S31.
    #[test]
    fn what_this_build_cannot_do_is_refused_with_the_variable_named() {
        let refused = [
            (vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c:4318")], "plain http only"),
            (vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4318")], "not an http address"),
            (vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "no address")], "not an http address"),
            (vec![ENDPOINT, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "http/protobuf only"),
            (vec![ENDPOINT, ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json")], "http/protobuf only"),
            (vec![ENDPOINT, ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")], "uncompressed"),
            (vec![ENDPOINT, ("OTEL_TRACES_EXPORTER", "zipkin")], "by otlp"),
            (vec![ENDPOINT, ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s")], "not a whole number"),
            (vec![ENDPOINT, ("OTEL_BSP_SCHEDULE_DELAY", "0")], "not a whole number"),
        ];
        for (variables, message) in refused {
            let error = settings(&variables).expect_err("must be refused").to_string();
            let named = variables.last().expect("there is one").0;
            assert!(error.contains(message) && error.starts_with(named), "{variables:?}: {error}");
        }
        let secret = settings(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://me:hunter2@c:4318")]).expect_err("refused");
        assert!(!secret.to_string().contains("hunter2"), "{secret}");
    }

    #[test]
    fn the_time_limit_is_ten_seconds_or_as_told() {
        let timeout = |variables: &[_]| settings(variables).expect("valid").expect("on").timeout;
        assert_eq!(timeout(&[ENDPOINT]), Duration::from_secs(10));
        assert_eq!(timeout(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_TIMEOUT", "250")]), Duration::from_millis(250));
    }
}
