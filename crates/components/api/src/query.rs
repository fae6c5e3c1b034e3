//! Query parameters: read strictly, refused with a problem that says why, and described from the type that they are read
//! into.

use std::time::Duration;

use axum::extract::FromRequestParts;
use http::request::Parts;
use llama_warden_api_types::ApiProblem;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::problem::ProblemResponse;

/// The query of a request as `T`. Unknown parameters are refused if `T` denies unknown fields.
pub(crate) struct StrictQuery<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for StrictQuery<T> {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ProblemResponse> {
        match axum::extract::Query::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(query)) => Ok(Self(query)),
            Err(rejection) => {
                let source = std::error::Error::source(&rejection);
                let detail = source.map_or_else(|| rejection.to_string(), ToString::to_string);
                Err(ApiProblem::bad_query(detail).into())
            }
        }
    }
}

/// The schema of a query: an object with a property per parameter.
pub(crate) fn query_schema<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>()
}

/// The query of a command that has no other options.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitQuery {
    /// Answer when the command is done, at most this much later. Does not change what the command does.
    pub(crate) wait: Option<DurationParameter>,
}

/// A parameter that is on (`1`, `true`, or its bare name) or off (`0`, `false`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("enum" = ["1", "true", "", "0", "false"]))]
pub(crate) struct SwitchParameter(bool);

impl SwitchParameter {
    pub(crate) const fn on() -> Self {
        Self(true)
    }

    pub(crate) const fn is_on(self) -> bool {
        self.0
    }
}

impl TryFrom<String> for SwitchParameter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "" | "1" | "true" => Ok(Self(true)),
            "0" | "false" => Ok(Self(false)),
            _ => Err(format!("`{text}` is neither 1 nor 0")),
        }
    }
}

/// A duration as in the configuration, such as `500ms`, `10s`, `2m` or `1h`; at most [`DurationParameter::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("pattern" = "^[0-9]+(ms|s|m|h)$", "examples" = ["30s"]))]
pub(crate) struct DurationParameter(pub(crate) Duration);

impl DurationParameter {
    /// 24 hours: far above any use, and small enough that adding it to a clock cannot overflow.
    const MAX: Duration = Duration::from_secs(24 * 60 * 60);

    fn parse(text: &str) -> Option<Self> {
        let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at(unit_at);
        let number = number.parse::<u64>().ok()?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        let duration = Duration::from_millis(number.checked_mul(millis)?);
        (duration <= Self::MAX).then_some(Self(duration))
    }
}

impl TryFrom<String> for DurationParameter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("`{text}` is not a duration such as 500ms, 10s or 2m, up to 24h"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_and_a_bound() {
        for (text, millis) in [("0s", 0), ("500ms", 500), ("30s", 30_000), ("2m", 120_000), ("24h", 86_400_000)] {
            assert_eq!(
                DurationParameter::parse(text),
                Some(DurationParameter(Duration::from_millis(millis))),
                "{text}"
            );
        }
        for text in ["", "30", "s", "-1s", "1.5s", "25h", "99999999999999999999s", "18446744073709551615h", "1 s"] {
            assert_eq!(DurationParameter::parse(text), None, "{text}");
        }
    }
}
