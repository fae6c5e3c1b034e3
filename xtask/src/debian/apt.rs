//! A private apt: the machine's own mirror, proxy and keyring, with lists and downloads of its own.
//!
//! The system's apt is neither changed nor locked, so this needs no privileges. The machine's configuration is taken over
//! by `apt-config dump`, without the hooks that other packages put there, because those act on the system.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::index::{Index, Package};
use super::sources::{MIRROR_VARIABLE, Mirror, mirror};
use crate::error::{Error, OnPath};
use crate::shell;

/// The suite that has llama.cpp.
const SUITE: &str = "sid";

/// Where Debian's own package puts the keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Parts of the machine's configuration that stay out: hooks, and lists that nobody needs here.
const LEFT_OUT: [&str; 5] = ["APT::Update::P", "DPkg", "CommandLine", "Acquire::IndexTargets", "Acquire::GzipIndexes"];

/// What is left to do where there is no Debian archive.
const NOT_DEBIAN: &str = "install the program yourself and put it on PATH";

/// An apt that keeps everything below one folder.
#[derive(Debug)]
pub struct PrivateApt {
    folder: PathBuf,
}

impl PrivateApt {
    /// Prepares an apt below `folder`.
    ///
    /// # Errors
    /// When the machine has no apt or no Debian mirror, or the folder cannot be written.
    pub fn new(folder: PathBuf) -> Result<Self, Error> {
        for program in ["apt-get", "apt-config", "dpkg-deb"] {
            if shell::on_path(program).is_none() {
                return Err(Error::missing(format!("`{program}` is not on PATH"), NOT_DEBIAN));
            }
        }
        for below in ["lists/partial", "cache/archives/partial", "sources"] {
            let path = folder.join(below);
            fs::create_dir_all(&path).on("create", &path)?;
        }
        let mirror = machine_mirror().ok_or_else(|| {
            let next =
                format!("name one in {MIRROR_VARIABLE} (with the package debian-archive-keyring), or {NOT_DEBIAN}");
            Error::missing("this machine's apt sources have no Debian mirror", next)
        })?;
        let sources = folder.join("sources/debian.sources");
        fs::write(&sources, sources_text(&mirror)).on("write", &sources)?;
        let apt = Self { folder };
        let conf = apt.folder.join("apt.conf");
        fs::write(&conf, apt.conf_text(&shell::read(Command::new("apt-config").arg("dump"))?)).on("write", &conf)?;
        Ok(apt)
    }

    /// Fetches the package lists and reads the index.
    ///
    /// # Errors
    /// When the mirror does not answer, or what it answers is not signed by Debian.
    pub fn index(&self) -> Result<Index, Error> {
        shell::read(self.apt_get().args(["update", "--error-on=any"]))?;
        let ask = ["indextargets", "--format", "$(FILENAME)", "Created-By: Packages"];
        let files = shell::read(self.apt_get().args(ask))?;
        let mut text = String::new();
        for file in files.lines().map(Path::new) {
            text.push_str(&fs::read_to_string(file).on("read", file)?);
            text.push('\n');
        }
        Ok(Index::parse(&text))
    }

    /// Downloads `packages`, compares them with the index' checksums, and unpacks them below `to`.
    ///
    /// # Errors
    /// When a download fails, a file is not what the index says, or it cannot be unpacked.
    pub fn unpack(&self, packages: &[&Package], to: &Path) -> Result<(), Error> {
        let folder = self.folder.join("debs");
        fs::create_dir_all(&folder).on("create", &folder)?;
        let exact = packages.iter().map(|package| format!("{}={}", package.name, package.version));
        shell::read(self.apt_get().arg("download").args(exact).current_dir(&folder))?;
        let debs: Vec<PathBuf> =
            packages.iter().map(|package| file_of(package, &folder)).collect::<Result<_, Error>>()?;
        let lines = packages.iter().zip(&debs).map(|(package, deb)| format!("{}  {}\n", package.sha256, deb.display()));
        let expected = self.folder.join("expected");
        fs::write(&expected, lines.collect::<String>()).on("write", &expected)?;
        shell::read(Command::new("sha256sum").args(["--check", "--strict", "--quiet"]).arg(&expected))?;
        for deb in &debs {
            shell::read(Command::new("dpkg-deb").arg("--extract").args([deb, to]))?;
        }
        Ok(())
    }

    fn apt_get(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.arg("--quiet").env("APT_CONFIG", self.folder.join("apt.conf")).env("LC_ALL", "C");
        command
    }

    fn conf_text(&self, machine: &str) -> String {
        let taken_over = machine.lines().filter(|line| !LEFT_OUT.iter().any(|prefix| line.starts_with(prefix)));
        let mut text: String = taken_over.flat_map(|line| [line, "\n"]).collect();
        let at = |below: &str| self.folder.join(below).display().to_string();
        for (key, value) in [
            // The settings above already hold what these two would be read from.
            ("Dir::Etc::Main", "/dev/null".to_owned()),
            ("Dir::Etc::Parts", "/dev/null".to_owned()),
            ("Dir::Etc::SourceList", "/dev/null".to_owned()),
            ("Dir::Etc::SourceParts", at("sources")),
            ("Dir::Etc::Preferences", "/dev/null".to_owned()),
            ("Dir::Etc::PreferencesParts", "/dev/null".to_owned()),
            ("Dir::State", self.folder.display().to_string()),
            ("Dir::State::Lists", at("lists")),
            ("Dir::State::Status", "/dev/null".to_owned()),
            ("Dir::Cache", at("cache")),
            ("Dir::Cache::Archives", at("cache/archives")),
            ("Acquire::Languages", "none".to_owned()),
            ("Acquire::GzipIndexes", "false".to_owned()),
            ("Acquire::Retries", "3".to_owned()),
            // As root apt would drop to a user that cannot enter our folder.
            ("APT::Sandbox::User", "root".to_owned()),
        ] {
            text.push_str(&format!("{key} \"{value}\";\n"));
        }
        text
    }
}

fn machine_mirror() -> Option<Mirror> {
    if let Some(uri) = env::var(MIRROR_VARIABLE).ok().filter(|uri| !uri.is_empty()) {
        return Some(Mirror { uri, keyring: None });
    }
    let release = fs::read_to_string("/etc/os-release").ok()?;
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    mirror(Path::new("/etc/apt"), codename.trim_matches('"'))
}

fn sources_text(mirror: &Mirror) -> String {
    let mut text = format!("Types: deb\nURIs: {}\nSuites: {SUITE}\nComponents: main\n", mirror.uri);
    let keyring = mirror.keyring.clone().unwrap_or_else(|| KEYRING.into());
    if keyring.exists() {
        text.push_str(&format!("Signed-By: {}\n", keyring.display()));
    }
    text
}

/// The package file of `package`: apt spells the version's epoch its own way, the name before the underscore is exact.
fn file_of(package: &Package, folder: &Path) -> Result<PathBuf, Error> {
    let prefix = format!("{}_", package.name);
    let mut entries = fs::read_dir(folder).on("list", folder)?.filter_map(Result::ok);
    entries.find(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)).map(|entry| entry.path()).ok_or_else(
        || Error::missing(format!("apt did not leave {} in {}", package.name, folder.display()), "run it again"),
    )
}
