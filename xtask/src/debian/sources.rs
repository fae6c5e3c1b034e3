//! Which Debian mirror this machine uses, as its own apt configuration says.
//!
//! Both formats are read: one-line `sources.list` and `deb822` stanzas (`*.sources`). The first enabled entry that carries the
//! main archive wins; security, updates and third-party entries do not carry it.

use std::fs;
use std::path::{Path, PathBuf};

/// Names a mirror when the machine's own configuration has none, for example on a machine that is not Debian.
pub const MIRROR_VARIABLE: &str = "LLAMA_WARDEN_DEBIAN_MIRROR";

/// Names of the main archive that do not depend on the release.
const SUITES: [&str; 6] = ["stable", "testing", "unstable", "sid", "oldstable", "experimental"];

/// Where the Debian archive is, and the keyring that signs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The archive's root, as apt spells it.
    pub uri: String,
    /// The keyring that the machine's entry names, if it names a file.
    pub keyring: Option<PathBuf>,
}

/// Finds the mirror below `apt`, which is usually `/etc/apt`; `codename` is the machine's release.
pub fn mirror(apt: &Path, codename: &str) -> Option<Mirror> {
    let mut files: Vec<PathBuf> = fs::read_dir(apt.join("sources.list.d"))
        .map(|entries| entries.filter_map(Result::ok).map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.sort();
    files.insert(0, apt.join("sources.list"));
    files.iter().find_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        match file.extension()?.to_str()? {
            "list" => text.lines().find_map(|line| parse_line(line, codename)),
            "sources" => text.split("\n\n").find_map(|stanza| parse_stanza(stanza, codename)),
            _ => None,
        }
    })
}

fn parse_line(line: &str, codename: &str) -> Option<Mirror> {
    let rest = line.split('#').next()?.trim().strip_prefix("deb ")?.trim();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    let keyring = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    is_main_archive(suite, &words.collect::<Vec<_>>(), codename).then(|| Mirror::new(uri, keyring))
}

fn parse_stanza(stanza: &str, codename: &str) -> Option<Mirror> {
    let field = |name: &str| {
        stanza.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    if field("Enabled") == Some("no") || !field("Types")?.split_whitespace().any(|kind| kind == "deb") {
        return None;
    }
    let components: Vec<&str> = field("Components")?.split_whitespace().collect();
    let carries = field("Suites")?.split_whitespace().any(|suite| is_main_archive(suite, &components, codename));
    let uri = field("URIs")?.split_whitespace().next()?;
    carries.then(|| Mirror::new(uri, field("Signed-By")))
}

fn is_main_archive(suite: &str, components: &[&str], codename: &str) -> bool {
    (suite == codename || SUITES.contains(&suite)) && components.contains(&"main")
}

impl Mirror {
    fn new(uri: &str, keyring: Option<&str>) -> Self {
        let keyring = keyring.filter(|path| path.starts_with('/')).map(PathBuf::from);
        Self { uri: uri.to_owned(), keyring }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_options_is_understood() {
        let line = "deb [arch=amd64 signed-by=/keys/a.gpg] http://mirror.example/debian bookworm main contrib # ours";
        let expected = Mirror { uri: "http://mirror.example/debian".into(), keyring: Some("/keys/a.gpg".into()) };
        assert_eq!(parse_line(line, "bookworm"), Some(expected));
    }

    #[test]
    fn other_archives_are_passed_over() {
        for line in [
            "# deb http://mirror.example/debian bookworm main",
            "deb-src http://mirror.example/debian bookworm main",
            "deb http://mirror.example/debian-security bookworm-security main",
            "deb http://other.example/apt cloud-bookworm main",
            "deb http://other.example/docker bookworm stable",
        ] {
            assert_eq!(parse_line(line, "bookworm"), None, "{line}");
        }
    }

    #[test]
    fn a_stanza_is_understood() {
        let stanza = "Types: deb deb-src\nURIs: http://mirror.example/debian\nSuites: trixie trixie-updates\n\
                      Components: main\nSigned-By: /keys/a.gpg";
        let expected = Mirror { uri: "http://mirror.example/debian".into(), keyring: Some("/keys/a.gpg".into()) };
        assert_eq!(parse_stanza(stanza, "trixie"), Some(expected));
        assert_eq!(parse_stanza(&format!("Enabled: no\n{stanza}"), "trixie"), None);
    }

    #[test]
    fn a_keyring_inside_the_stanza_is_not_a_path() {
        let stanza =
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: sid\nComponents: main\nSigned-By:\n -----BEGIN";
        assert_eq!(parse_stanza(stanza, "trixie").unwrap().keyring, None);
    }
}
