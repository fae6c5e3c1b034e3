//! `cargo xtask llama-server`: provides a real llama-server for tests and benchmarks.

use std::convert::Infallible;
use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;

use crate::debian::{self, Recipe, USR_BIN};
use crate::error::Error;
use crate::sdist::{self, Sdist};
use crate::{parts, paths, shell};

/// The variable that names a llama-server to use instead of any other.
const VARIABLE: &str = "LLAMA_SERVER";

/// The source package that a bare version means. It has the longest history of llama.cpp versions.
const PYTHON_PACKAGE: &str = "llama-cpp-python";

const DEBIAN: Recipe = Recipe {
    name: "llama-server-debian",
    packages: &["llama.cpp-tools"],
    folder: USR_BIN,
    programs: &["llama-server"],
};

/// Where the llama-server comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Build {
    /// The user's own build, else [`Build::Debian`].
    Auto,
    /// The package in Debian unstable.
    Debian,
    /// Built here from a source package.
    Sdist(Sdist),
}

impl FromStr for Build {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "auto" => Self::Auto,
            "debian" => Self::Debian,
            version if is_version(version) => Self::Sdist(Sdist::named(&format!("{PYTHON_PACKAGE}=={version}"))),
            package => Self::Sdist(Sdist::named(package)),
        })
    }
}

/// Returns the path of a llama-server that answers `--version`. A build from a source package is not asked, because builds of
/// 2023 do not know the option.
///
/// Debian's build is at `target/llama-server/current/llama-server`, a build from a source package in a folder beside `current`
/// named after the package. The user's own build stays where it is.
///
/// # Errors
/// When none can be provided, with the next step.
pub fn provide(build: &Build) -> Result<PathBuf, Error> {
    if *build == Build::Auto
        && let Some(program) = users_own()?
    {
        return Ok(program);
    }
    let (bin, name) = match build {
        Build::Auto | Build::Debian => (debian::provide(&DEBIAN)?, "current".to_owned()),
        Build::Sdist(package) => (sdist::provide(package)?, package.folder_name()),
    };
    let link = paths::target().join("llama-server").join(name);
    parts::link(&bin, &link)?;
    Ok(link.join("llama-server"))
}

fn is_version(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '.')
}

fn users_own() -> Result<Option<PathBuf>, Error> {
    if let Some(named) = env::var_os(VARIABLE).filter(|named| !named.is_empty()) {
        let program = PathBuf::from(named);
        return match shell::version(&mut Command::new(&program)) {
            Ok(version) => {
                eprintln!("llama-server: {VARIABLE} names {}: {version}", program.display());
                Ok(Some(program))
            }
            Err(error) => Err(Error::missing(
                format!("{VARIABLE} names a program that does not run: {error}"),
                format!("correct {VARIABLE}, or unset it to use Debian's build"),
            )),
        };
    }
    let Some(program) = shell::on_path("llama-server") else { return Ok(None) };
    match shell::version(&mut Command::new(&program)) {
        Ok(version) => {
            eprintln!("llama-server: found {}: {version}", program.display());
            Ok(Some(program))
        }
        Err(error) => {
            eprintln!("llama-server: passing over the one on PATH, which does not run: {error}");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_a_word_a_version_or_a_source_package() {
        assert_eq!("auto".parse(), Ok(Build::Auto));
        assert_eq!("debian".parse(), Ok(Build::Debian));
        assert_eq!("0.3.2".parse(), Ok(Build::Sdist(Sdist::named("llama-cpp-python==0.3.2"))));
        assert_eq!("llama-cpp-python==0.3.2".parse(), Ok(Build::Sdist(Sdist::named("llama-cpp-python==0.3.2"))));
    }
}
