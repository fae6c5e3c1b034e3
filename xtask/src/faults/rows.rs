//! The rows of `docs/faults.toml`.

use std::collections::BTreeMap;
use std::fmt;

use llama_warden_test_parts::error::Error;
use toml::Table;

use super::ROWS;

/// The code of a row, such as C24. Codes sort by family, then by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultCode {
    pub family: FaultFamily,
    pub number: u16,
}

/// The first letter of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultFamily {
    /// C: faults of servers and their processes.
    Server,
    /// S: faults of the daemon and its surroundings.
    Daemon,
}

/// One fault, and what must hold.
#[derive(Debug, Default)]
pub struct FaultRow {
    pub fault: String,
    pub holds: String,
    pub weaker: Option<String>,
    pub fake: Option<String>,
    pub missing: Option<String>,
}

pub type Rows = BTreeMap<FaultCode, FaultRow>;

impl FaultCode {
    /// Reads a word such as `C24`; `None` for every other word.
    pub fn parse(word: &str) -> Option<Self> {
        let family = match word.chars().next()? {
            'C' => FaultFamily::Server,
            'S' => FaultFamily::Daemon,
            _ => return None,
        };
        let digits = &word[1..];
        let is_number = (1..=3).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
        Some(Self { family, number: digits.parse().ok().filter(|_| is_number)? })
    }
}

impl fmt::Display for FaultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = if self.family == FaultFamily::Server { 'C' } else { 'S' };
        write!(f, "{letter}{}", self.number)
    }
}

/// Reads the rows.
///
/// # Errors
/// Text that is not TOML, a table that is not named by a code, or a key that rows do not have.
pub fn parse(text: &str) -> Result<Rows, Error> {
    let wrong = |problem: String| {
        Error::missing(format!("{ROWS}: {problem}"), "correct it; the head of the file lists the keys")
    };
    let tables: Table = text.parse().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
    let mut rows = Rows::new();
    for (name, table) in &tables {
        let code = FaultCode::parse(name).ok_or_else(|| wrong(format!("`{name}` is no code such as C24")))?;
        let table = table.as_table().ok_or_else(|| wrong(format!("{code} is no table")))?;
        let mut row = FaultRow::default();
        for (key, value) in table {
            let text = value.as_str().ok_or_else(|| wrong(format!("{code}: {key} is no text")))?.to_owned();
            match key.as_str() {
                "fault" => row.fault = text,
                "holds" => row.holds = text,
                "weaker" => row.weaker = Some(text),
                "fake" => row.fake = Some(text),
                "missing" => row.missing = Some(text),
                _ => return Err(wrong(format!("{code}: no key `{key}` exists"))),
            }
        }
        rows.insert(code, row);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_a_letter_and_a_number_and_sort_by_number() {
        let code = |word| FaultCode::parse(word);
        assert!(code("C9") < code("C24") && code("C24") < code("S1"));
        assert_eq!(code("C24").map(|code| code.to_string()).as_deref(), Some("C24"));
        for word in ["", "C", "X9", "C1234", "c5", "C5a", "ä1"] {
            assert_eq!(code(word), None, "{word}");
        }
    }

    #[test]
    fn a_row_has_known_keys_only() {
        let error = parse("[C1]\nfault = \"a\"\nbound = \"1 s\"").expect_err("refused").to_string();
        assert!(error.contains("C1: no key `bound` exists"), "{error}");
        assert!(parse("[fault]\n").is_err());
    }
}
