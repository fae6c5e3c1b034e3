//! Debian's `Packages` index: what a package is, and which libraries it needs.

use std::collections::{BTreeMap, BTreeSet};

/// One package as the index describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version, epoch included.
    pub version: String,
    /// SHA-256 of the package file, in hexadecimal.
    pub sha256: String,
    section: String,
    depends: Vec<String>,
}

/// All packages of an index, by name.
#[derive(Debug, Default)]
pub struct Index(BTreeMap<String, Package>);

impl Index {
    /// Reads the text of a `Packages` file. Of several versions of one package the first is kept.
    pub fn parse(text: &str) -> Self {
        let mut packages = BTreeMap::new();
        for package in text.split("\n\n").map(parse_stanza).filter(|package| !package.name.is_empty()) {
            packages.entry(package.name.clone()).or_insert(package);
        }
        Self(packages)
    }

    /// `roots` and every shared library that they need, directly or not.
    ///
    /// Only library packages are followed: programs and data that a package also depends on (debconf, wget) are not needed
    /// to run it from a private folder.
    ///
    /// # Errors
    /// The name of a root that the index does not list.
    pub fn with_libraries<'a>(&'a self, roots: &[&str]) -> Result<Vec<&'a Package>, String> {
        let mut wanted = BTreeSet::new();
        let mut queue = Vec::new();
        for root in roots {
            queue.push(self.0.get(*root).ok_or_else(|| (*root).to_owned())?);
        }
        while let Some(package) = queue.pop() {
            if wanted.insert(package.name.as_str()) {
                let needed = package.depends.iter().filter_map(|name| self.0.get(name));
                queue.extend(needed.filter(|package| package.section == "libs"));
            }
        }
        Ok(wanted.into_iter().filter_map(|name| self.0.get(name)).collect())
    }
}

fn parse_stanza(stanza: &str) -> Package {
    let mut package = Package::default();
    for line in stanza.lines() {
        let Some((key, value)) = line.split_once(": ") else { continue };
        match key {
            "Package" => package.name = value.to_owned(),
            "Version" => package.version = value.to_owned(),
            "SHA256" => package.sha256 = value.to_owned(),
            "Section" => package.section = value.rsplit('/').next().unwrap_or(value).to_owned(),
            "Depends" | "Pre-Depends" => package.depends.extend(names(value)),
            _ => {}
        }
    }
    package
}

/// The names in a dependency list; of alternatives (`a | b`) all, because only those that are libraries are followed.
fn names(list: &str) -> impl Iterator<Item = String> {
    list.split([',', '|']).filter_map(|entry| {
        let name = entry.trim().split([' ', '(', '[']).next()?;
        let name = name.split_once(':').map_or(name, |(name, _architecture)| name);
        (!name.is_empty()).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "\
Package: tool
Version: 1:2.0-1
Depends: libone (>= 1), wget | curl, debconf (>= 0.5) | debconf-2.0
Section: science
SHA256: aa

Package: libone
Version: 1
Depends: libtwo:any, libone-common
Section: libs
SHA256: bb

Package: libtwo
Version: 2
Depends: libone
Section: main/libs
SHA256: cc

Package: wget
Version: 3
Section: web
SHA256: dd
";

    #[test]
    fn libraries_are_followed_to_the_end_and_nothing_else() {
        let index = Index::parse(INDEX);
        let names: Vec<_> =
            index.with_libraries(&["tool"]).unwrap().into_iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["libone", "libtwo", "tool"]);
    }

    #[test]
    fn a_package_keeps_its_epoch_and_its_checksum() {
        let index = Index::parse(INDEX);
        let package = index.0.get("tool").unwrap();
        assert_eq!((package.version.as_str(), package.sha256.as_str()), ("1:2.0-1", "aa"));
    }

    #[test]
    fn an_unknown_root_is_named() {
        assert_eq!(Index::parse(INDEX).with_libraries(&["tool", "absent"]).unwrap_err(), "absent");
    }
}
