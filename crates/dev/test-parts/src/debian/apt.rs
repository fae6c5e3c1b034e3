//! The machine's own apt, run without privileges: it resolves, downloads and verifies, with state in folders of ours.
//!
//! The machine's apt configuration applies, its proxy for example. Our settings follow it: they take away the hooks of other
//! packages, which act on the system, and move every file that apt writes. The system's lists and locks stay as they are.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, OnPath};
use crate::{parts, shell};

/// Names a Debian mirror for machines whose apt has none, or not a complete one.
pub const MIRROR_VARIABLE: &str = "LLAMA_WARDEN_DEBIAN_MIRROR";

/// The suite that has llama.cpp.
const SUITE: &str = "sid";

/// Names of the main archive that do not depend on the release.
const SUITES: [&str; 6] = ["stable", "testing", "unstable", "sid", "oldstable", "experimental"];

/// Where Debian's own package puts the keyring. Without it apt uses the keys that it trusts anyway.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An apt that writes below two folders only, locked against other chores until it is dropped.
#[derive(Debug)]
pub struct PrivateApt {
    conf: PathBuf,
    debs: PathBuf,
    _lock: File,
}

impl PrivateApt {
    /// Prepares an apt whose package lists are in `state` and are kept for later runs; its settings and the downloaded
    /// packages are in `scratch`. Waits for any other chore that uses `state`.
    ///
    /// # Errors
    /// When the machine has no apt or no Debian mirror, or a folder cannot be written.
    pub fn new(state: &Path, scratch: &Path) -> Result<Self, Error> {
        for program in ["apt-get", "dpkg-deb"] {
            if shell::on_path(program).is_none() {
                return Err(Error::missing(
                    format!("`{program}` is not on PATH"),
                    "install what is needed yourself, into a folder on PATH",
                ));
            }
        }
        let mirror = mirror()?.ok_or_else(|| {
            let next = format!("name one in {MIRROR_VARIABLE}, and install the package debian-archive-keyring");
            Error::missing("this machine's apt sources have no Debian mirror", next)
        })?;
        let debs = scratch.join("debs");
        for folder in [&state.join("lists/partial"), &debs.join("partial")] {
            fs::create_dir_all(folder).on("create", folder)?;
        }
        let lock = parts::lock(&state.join("llama-warden.lock"))?;
        let (conf, sources, status) =
            (scratch.join("apt.conf"), scratch.join("debian.sources"), scratch.join("status"));
        let signed_by = if Path::new(KEYRING).exists() { format!("Signed-By: {KEYRING}\n") } else { String::new() };
        let stanza =
            format!("Types: deb\nURIs: {mirror}\nSuites: {SUITE}\nComponents: main\nTargets: Packages\n{signed_by}");
        for (path, text) in [(&conf, settings(state, &debs, &sources, &status)), (&sources, stanza)] {
            fs::write(path, text).on("write", path)?;
        }
        // No package counts as installed, so that apt brings every library along. apt's lock lies beside this file.
        fs::write(&status, "").on("write", &status)?;
        Ok(Self { conf, debs, _lock: lock })
    }

    /// Brings the package lists up to date.
    ///
    /// # Errors
    /// When the mirror does not answer, or Debian has not signed what it answers.
    pub fn update(&self) -> Result<(), Error> {
        shell::read(self.apt_get().args(["update", "--error-on=any"])).map(drop)
    }

    /// Downloads `packages` and everything that they depend on, and unpacks all of it below `to`. Returns the names of the
    /// package files with their checksums, one a line.
    ///
    /// # Errors
    /// When a package is unknown, a download fails or is not what the lists say, or a package cannot be unpacked.
    pub fn unpack(&self, packages: &[&str], to: &Path) -> Result<String, Error> {
        shell::read(self.apt_get().args(["install", "--yes", "--download-only"]).args(packages))?;
        let mut listed = Command::new("sh");
        let listed = shell::read(listed.args(["-c", "sha256sum -- *.deb"]).current_dir(&self.debs))?;
        for name in listed.lines().filter_map(|line| line.split_whitespace().nth(1)) {
            shell::read(Command::new("dpkg-deb").arg("--extract").args([&self.debs.join(name), to]))?;
        }
        Ok(listed)
    }

    fn apt_get(&self) -> Command {
        let mut command = Command::new("apt-get");
        // `--config-file` is read after the machine's configuration; APT_CONFIG would be read before it.
        command.arg("--quiet").arg("--config-file").arg(&self.conf).env("LC_ALL", "C");
        command
    }
}

fn settings(state: &Path, debs: &Path, sources: &Path, status: &Path) -> String {
    let [state, debs, sources, status] = [state, debs, sources, status].map(|path| path.display().to_string());
    let hooks = ["APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success", "DPkg"];
    // A release that the machine prefers is not among our sources, and apt refuses one that it does not know.
    let cleared = hooks.into_iter().chain(["APT::Default-Release"]).map(|name| format!("#clear {name};\n"));
    let set = [
        ("Dir::State", state.as_str()),
        ("Dir::State::Lists", "lists"),
        ("Dir::State::Status", &status),
        ("Dir::Cache", &state),
        ("Dir::Cache::Archives", &debs),
        ("Dir::Etc::SourceList", &sources),
        ("Dir::Etc::SourceParts", "/dev/null"),
        ("Dir::Etc::Preferences", "/dev/null"),
        ("Dir::Etc::PreferencesParts", "/dev/null"),
        ("Acquire::Languages", "none"),
        ("Acquire::Retries", "3"),
        ("APT::Install-Recommends", "false"),
        // As root apt would drop to a user that cannot enter our folders.
        ("APT::Sandbox::User", "root"),
    ];
    cleared.chain(set.iter().map(|(name, value)| format!("{name} \"{value}\";\n"))).collect()
}

/// The archive that [`MIRROR_VARIABLE`] names, else the one that this machine's apt uses, if any.
fn mirror() -> Result<Option<String>, Error> {
    if let Some(named) = env::var(MIRROR_VARIABLE).ok().filter(|named| !named.is_empty()) {
        return Ok(Some(named));
    }
    let targets = ["indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"];
    let targets = shell::read(Command::new("apt-get").args(targets))?;
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(main_archive(&targets, codename.unwrap_or_default().trim_matches('"')).map(str::to_owned))
}

/// The first of apt's targets that carries the main archive, which updates, security and third parties do not.
fn main_archive<'a>(targets: &'a str, codename: &str) -> Option<&'a str> {
    targets.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (uri, release, component) = (words.next()?, words.next()?, words.next()?);
        (component == "main" && (release == codename || SUITES.contains(&release))).then_some(uri)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_main_archive_is_a_mirror() {
        let others = "http://mirror.example/debian-security/ bookworm-security main\n\
                      http://other.example/apt/ cloud-bookworm main\n\
                      http://other.example/docker/ bookworm stable\n\
                      http://other.example/flat/ ./\n";
        assert_eq!(main_archive(others, "bookworm"), None);
        for release in ["bookworm", "stable"] {
            let targets = format!("{others}http://mirror.example/debian/ {release} main\n");
            assert_eq!(main_archive(&targets, "bookworm"), Some("http://mirror.example/debian/"));
        }
    }

    #[test]
    fn apt_accepts_the_settings_and_writes_below_our_folders_only() {
        if shell::on_path("apt-config").is_none() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let conf = at("apt.conf");
        fs::write(&conf, settings(&at("state"), &at("debs"), &at("sources"), &at("status"))).unwrap();
        let dump = shell::read(Command::new("apt-config").arg("--config-file").arg(&conf).arg("dump")).unwrap();
        // The names of emptied lists stay; their entries, which end in a value, are gone.
        let is_hook = |line: &&str| ["APT::Update::", "DPkg::"].iter().any(|hook| line.starts_with(hook));
        assert_eq!(dump.lines().filter(is_hook).find(|line| !line.ends_with(" \"\";")), None);
        for line in [format!("Dir::Cache::archives \"{}\"", at("debs").display()), "Dir::State::lists \"lists\"".into()]
        {
            assert!(dump.to_lowercase().contains(&line.to_lowercase()), "{line}: {dump}");
        }
    }
}
