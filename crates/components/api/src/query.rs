//! Query parameters: read strictly, refused with a problem that says why.

use std::time::Duration;

use axum::extract::{FromRequestParts, Query};
use http::request::Parts;
use llama_warden_api_types::ApiProblem;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use crate::problem::ProblemResponse;

/// The query of a request as `T`. Unknown parameters are refused where `T` denies unknown fields.
pub(crate) struct StrictQuery<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for StrictQuery<T> {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ProblemResponse> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(options)) => Ok(Self(options)),
            Err(rejection) => {
                let source = std::error::Error::source(&rejection);
                let detail = source.map_or_else(|| rejection.to_string(), ToString::to_string);
                Err(ApiProblem::bad_query(detail).into())
            }
        }
    }
}

/// `1`, `true` or a bare name is on; `0` or `false` is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SwitchParameter(pub(crate) bool);

impl<'de> Deserialize<'de> for SwitchParameter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "" | "1" | "true" => Ok(Self(true)),
            "0" | "false" => Ok(Self(false)),
            other => Err(D::Error::custom(format!("`{other}` is neither 1 nor 0"))),
        }
    }
}

/// A duration as in the configuration: `500ms`, `10s`, `2m`, `1h`; at most [`DurationParameter::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DurationParameter(pub(crate) Duration);

impl DurationParameter {
    /// Far above any use, far below what overflows when it is added to a clock.
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
        let span = Duration::from_millis(number.checked_mul(millis)?);
        (span <= Self::MAX).then_some(Self(span))
    }
}

impl<'de> Deserialize<'de> for DurationParameter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not a duration such as 500ms, 10s or 2m, up to 24h")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_a_unit_and_a_bound() {
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
