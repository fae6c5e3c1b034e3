//! Reads from the standard environment variables where spans are sent.

use std::time::Duration;

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

impl TracingSettings {
    /// The time limit of the specification.
    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Reads `OTEL_*`. `None` if no endpoint is set, which is the normal case, or if tracing is switched off.
    pub fn from_env() -> Result<Option<Self>, TracingError> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// Reads the variables through `variable` instead of the environment.
    pub fn from_lookup(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, TracingError> {
        let variable = |name: &'static str| variable(name).filter(|value| !value.is_empty());
        let either = |special, general| {
            variable(special).map(|value| (special, value)).or_else(|| variable(general).map(|value| (general, value)))
        };
        let disabled = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let not_exported = variable("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
        let named = either("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT");
        let Some((name, endpoint)) = named.filter(|_| !disabled && !not_exported) else { return Ok(None) };
        if let Some((name, protocol)) = either("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
            && protocol != "http/protobuf"
        {
            return Err(TracingError::Protocol { variable: name, protocol });
        }
        let timeout = either("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
            .and_then(|(_, milliseconds)| milliseconds.parse().ok())
            .map_or(Self::TIMEOUT, Duration::from_millis);
        Ok(Some(Self { endpoint: address(name, endpoint)?, timeout, service_name: variable("OTEL_SERVICE_NAME") }))
    }
}

/// The address of the variable for traces is used unchanged; the general one gets the path of traces appended.
fn address(variable: &'static str, endpoint: String) -> Result<http::Uri, TracingError> {
    let address = match variable {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" => endpoint.clone(),
        _ => format!("{}/v1/traces", endpoint.trim_end_matches('/')),
    };
    let parsed: Option<http::Uri> = address.parse().ok();
    match parsed.as_ref().and_then(http::Uri::scheme_str) {
        Some("https") => Err(TracingError::Tls { variable, endpoint }),
        Some("http") => parsed.ok_or(TracingError::Endpoint { variable, endpoint }),
        _ => Err(TracingError::Endpoint { variable, endpoint }),
    }
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

    #[test]
    fn what_this_build_cannot_do_is_refused_with_the_variable_named() {
        let refused = [
            (vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c:4318")], "plain http only"),
            (vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4318")], "not an http address"),
            (vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "no address")], "not an http address"),
            (vec![ENDPOINT, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "http/protobuf only"),
        ];
        for (variables, message) in refused {
            let error = settings(&variables).expect_err("must be refused").to_string();
            assert!(error.contains(message) && error.contains("OTEL_EXPORTER_OTLP"), "{variables:?}: {error}");
        }
    }

    #[test]
    fn the_time_limit_is_ten_seconds_or_as_told() {
        let timeout = |variables: &[_]| settings(variables).expect("valid").expect("on").timeout;
        assert_eq!(timeout(&[ENDPOINT]), Duration::from_secs(10));
        assert_eq!(timeout(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_TIMEOUT", "250")]), Duration::from_millis(250));
    }
}
