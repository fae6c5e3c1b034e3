//! The single values that keys take: numbers, durations, sizes, texts and closed sets of words.

use std::net::Ipv6Addr;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use llama_warden_events::{ServerId, Signal};
use llama_warden_fleet::{
    Confirm, InvalidPeerUrl, ListenAddress, ListenerPolicy, OnTimeout, PeerUrl, Progress, RestartPolicy, RouterAddress,
    is_host_name,
};
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::reader::{ConfigValue, ValueReader};
use crate::toml_tree::{TomlData, TomlNode};
use llama_warden_fleet::{AdmissionPolicy, LocalUsers, OnDaemonDeath};
use llama_warden_located_toml::ConfigProblem;

/// Longest duration. Far above any use, far below what overflows when it is added to a clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl ConfigValue for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
        let value = match &node.data {
            TomlData::Boolean(value) => Some(*value),
            TomlData::Untyped(text) => text.parse().ok(),
            _ => None,
        };
        value.or_else(|| reader.mismatch(node, Self::EXPECTED))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "boolean" })
    }
}

impl ConfigValue for String {
    const EXPECTED: &'static str = "a string";

    fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
        reader.text::<Self>(node).map(str::to_owned)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// A text that becomes an argument or a path, so that a line break in it is a mistake or an attack.
#[derive(Debug, Clone, PartialEq)]
pub struct SingleLine(pub String);

impl ConfigValue for SingleLine {
    const EXPECTED: &'static str = "a string";

    fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
        let text = reader.text::<Self>(node)?;
        if text.contains(['\n', '\r']) {
            return reader.refuse(node, "contains a line break", "write it on one line");
        }
        Some(Self(text.to_owned()))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[^\\u0000\\r\\n]*$" })
    }
}

/// A glob that compiles.
#[derive(Debug, Clone, PartialEq)]
pub struct GlobPattern(pub String);

impl ConfigValue for GlobPattern {
    const EXPECTED: &'static str = "a string";

    fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
        let text = reader.text::<Self>(node)?;
        match globset::Glob::new(text) {
            Ok(_) if !text.is_empty() => Some(Self(text.to_owned())),
            Ok(_) => reader.refuse(node, "is empty", "write a name, or a glob such as \"qwen*\""),
            Err(error) => {
                let why = format!("is not a glob: {}", error.kind());
                reader.refuse(node, why, "`*`, `?`, `[a-z]` and `{a,b}` are known")
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

/// A name under which clients reach the daemon, or a number; an IPv6 number is without its brackets.
#[derive(Debug, Clone, PartialEq)]
pub struct HostName(pub String);

impl ConfigValue for HostName {
    const EXPECTED: &'static str = "a string";

    fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
        let text = reader.text::<Self>(node)?;
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if is_host_name(text) || bare.parse::<Ipv6Addr>().is_ok() {
            return Some(Self(bare.to_owned()));
        }
        reader.refuse_text(node, text, "a host name without scheme and port, such as \"llama.example.org\"")
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["llama.example.org"] })
    }
}

/// Declares how an unsigned number in a range is read.
macro_rules! number {
    ($type:ty, $expected:literal, $smallest:literal, $largest:expr, $from:expr) => {
        impl ConfigValue for $type {
            const EXPECTED: &'static str = $expected;

            fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
                let number = match &node.data {
                    TomlData::Integer(number) => Some(*number),
                    TomlData::Untyped(text) => text.parse::<i64>().ok(),
                    _ => None,
                };
                let number = number.or_else(|| reader.mismatch(node, $expected))?;
                $from(number)
                    .or_else(|| reader.refuse(node, format_args!("is {number}"), concat!("write ", $expected)))
            }

            fn schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "integer", "minimum": $smallest, "maximum": $largest })
            }
        }
    };
}
number!(u32, "a number from 0 to 4294967295", 0, u32::MAX, |number| Self::try_from(number).ok());
number!(NonZeroU32, "a number from 1 to 4294967295", 1, u32::MAX, |number| {
    u32::try_from(number).ok().and_then(Self::new)
});
number!(i32, "a number from -2147483648 to 2147483647", -2147483648, i32::MAX, |number| Self::try_from(number).ok());
number!(NonZeroU16, "a port from 1 to 65535", 1, u16::MAX, |number| u16::try_from(number).ok().and_then(Self::new));

impl ConfigValue for Duration {
    const EXPECTED: &'static str = "a duration such as \"500ms\", \"10s\" or \"2m\"";

    fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
        let text = reader.text::<Self>(node)?;
        let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|signed| Self::try_from(signed).ok());
        match parsed {
            Some(duration) if duration <= LONGEST => Some(duration),
            Some(_) => reader.refuse(node, "is longer than a year", "write a shorter one"),
            None => reader.refuse_text(node, text, Self::EXPECTED),
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["500ms", "10s", "2m"] })
    }
}

/// A duration above zero.
#[derive(Debug, Clone, PartialEq)]
pub struct PositiveDuration(pub Duration);

impl ConfigValue for PositiveDuration {
    const EXPECTED: &'static str = Duration::EXPECTED;

    fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
        let duration = Duration::read(node, reader)?;
        if duration.is_zero() {
            return reader.refuse(node, "is zero", "write a duration above zero");
        }
        Some(Self(duration))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        Duration::schema(generator)
    }
}

/// How often something happens that may also never happen: a duration above zero, or `off`.
#[derive(Debug, Clone, PartialEq)]
pub struct OptionalPeriod(pub Option<Duration>);

impl ConfigValue for OptionalPeriod {
    const EXPECTED: &'static str = "\"off\", or a duration such as \"60s\"";

    fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
        match reader.text::<Self>(node)? {
            "off" => Some(Self(None)),
            text if !text.starts_with(|first: char| first.is_ascii_digit()) => {
                reader.refuse_text(node, text, Self::EXPECTED)
            }
            _ => PositiveDuration::read(node, reader).map(|period| Self(Some(period.0))),
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["off", "60s", "5m"] })
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ByteSize(pub u64);

impl ByteSize {
    fn parse(text: &str) -> Option<Self> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: u64 = text[..digits].parse().ok()?;
        let unit: u64 = match text[digits..].trim_start() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            _ => return None,
        };
        number.checked_mul(unit).map(Self)
    }
}

impl ConfigValue for ByteSize {
    const EXPECTED: &'static str = "a size such as \"256KiB\" or \"64MiB\"";

    fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
        let text = reader.text::<Self>(node)?;
        Self::parse(text).or_else(|| reader.refuse_text(node, text, Self::EXPECTED))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+ *(B|KiB|MiB|GiB|kB|KB|MB|GB)?$" })
    }
}

/// Declares how a text is read that has a parser of its own.
macro_rules! parsed {
    ($type:ty, $expected:literal, $schema:expr) => {
        impl ConfigValue for $type {
            const EXPECTED: &'static str = "a string";

            fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
                let text = reader.text::<Self>(node)?;
                let refused =
                    |error| reader.refuse(node, format_args!("cannot be used: {error}"), concat!("write ", $expected));
                text.parse::<Self>().map_or_else(refused, Some)
            }

            fn schema(generator: &mut SchemaGenerator) -> Schema {
                $schema(generator)
            }
        }
    };
}
parsed!(
    ServerId,
    "an id of 1 to 64 letters, digits, `.`, `_` and `-`, such as \"qwen3-8b\"",
    |_: &mut SchemaGenerator| { json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$" }) }
);
parsed!(Signal, "the name of a signal, such as \"TERM\"", SchemaGenerator::subschema_for::<Self>);
parsed!(ListenAddress, "HOST:PORT such as \"127.0.0.1:9888\", or \"\" for the unix socket alone", |_: &mut _| {
    json_schema!({ "type": "string", "examples": ["127.0.0.1:9888", ""] })
});

parsed!(RouterAddress, "HOST:PORT such as \"127.0.0.1:8080\", a path ending in .sock, or \"\" for off", |_: &mut _| {
    json_schema!({ "type": "string", "examples": ["127.0.0.1:8080", "/run/llama-warden/router.sock", ""] })
});

impl ConfigValue for PeerUrl {
    const EXPECTED: &'static str = "a string such as \"http://gpu2:9888\"";

    fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
        let text = reader.text::<Self>(node)?;
        let error: InvalidPeerUrl = match text.parse() {
            Ok(url) => return Some(url),
            Err(error) => error,
        };
        // The text is not repeated: it may have a password in it.
        let problem = ConfigProblem::error(&node.location, format!("`{}` {error}", node.path), error.help());
        reader.problems.push(if text.contains('@') { problem.without_excerpt() } else { problem });
        None
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[hH][tT][tT][pP]://[^/?#@]+/?$", "examples": ["http://gpu2:9888"] })
    }
}

/// Declares a closed set of words.
macro_rules! words {
    ($type:ident, $expected:literal, { $($word:literal => $value:ident,)+ }) => {
        impl ConfigValue for $type {
            const EXPECTED: &'static str = $expected;

            fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
                match reader.text::<Self>(node)? {
                    $($word => Some(Self::$value),)+
                    other => reader.refuse_text(node, other, $expected),
                }
            }

            fn schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "enum": [$($word),+] })
            }
        }
    };
}
words!(OnTimeout, "\"assume-ready\" or \"fail\"", { "assume-ready" => AssumeReady, "fail" => Fail, });
words!(ListenerPolicy, "\"own\" or \"any\"", { "own" => Own, "any" => Any, });
words!(Confirm, "\"health\" or \"none\"", { "health" => Health, "none" => None, });
words!(RestartPolicy, "\"never\", \"on-failure\" or \"always\"", {
    "never" => Never, "on-failure" => OnFailure, "always" => Always,
});
words!(OnDaemonDeath, "\"kill\" or \"adopt\"", { "kill" => Kill, "adopt" => Adopt, });
words!(AdmissionPolicy, "\"off\", \"warn\" or \"enforce\"", { "off" => Off, "warn" => Warn, "enforce" => Enforce, });
words!(LocalUsers, "\"same\" or \"any\"", { "same" => Same, "any" => Any, });
words!(Progress, "\"off\" or \"comments\"", { "off" => Off, "comments" => Comments, });
