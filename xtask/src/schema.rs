//! `cargo xtask schema`: writes or checks the files below `docs/` that are generated from the types and embedded in the
//! program.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use llama_warden_test_parts::cargo::cargo;
use llama_warden_test_parts::error::{Error, OnPath};
use llama_warden_test_parts::{paths, shell};

/// The program that prints them.
const GENERATOR: &str = "llama-warden-schema-gen";

/// Whether to write or to check the generated files.
#[derive(Debug, clap::Args)]
pub struct SchemaOptions {
    /// Change nothing; fail if a file is not what the types say
    #[arg(long)]
    check: bool,
}

/// Writes the files, or checks them.
///
/// # Errors
/// When the generator does not build or run, or, in a check, when a file differs.
pub fn run(options: &SchemaOptions) -> Result<(), Error> {
    if options.check { check() } else { write() }
}

/// Fails if a file differs from what the types generate, and names all that differ.
///
/// # Errors
/// The files that differ, and where.
pub fn check() -> Result<(), Error> {
    let mut stale = Vec::new();
    for (file, fresh) in generate()? {
        let kept = fs::read_to_string(paths::root().join(&file)).unwrap_or_default();
        if kept != fresh {
            stale.push(format!("{file} differs from what the types say, first in line {}", differs_at(&kept, &fresh)));
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    Err(Error::missing(stale.join("\n"), "run `cargo xtask schema` and commit the result"))
}

fn write() -> Result<(), Error> {
    for (file, fresh) in generate()? {
        let path = paths::root().join(&file);
        if fs::read_to_string(&path).is_ok_and(|kept| kept == fresh) {
            continue;
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).on("create", folder)?;
        }
        fs::write(&path, fresh).on("write", &path)?;
        eprintln!("wrote {file}");
    }
    Ok(())
}

/// Returns the generated texts by the paths of their files in the checkout.
fn generate() -> Result<BTreeMap<String, String>, Error> {
    // With the packages and features of the tests' build, so that both share it: the flag for examples, of which the workspace has
    // none, brings those of development dependencies.
    shell::run(cargo().args(["build", "--quiet", "--workspace", "--bin", GENERATOR, "--examples"]))?;
    let texts = shell::read(&mut Command::new(paths::target().join("debug").join(GENERATOR)))?;
    let what = "cannot read what llama-warden-schema-gen printed".to_owned();
    serde_json::from_str(&texts).map_err(|error| Error::Io { what, source: error.into() })
}

/// Returns the number of the first line that differs, from 1.
fn differs_at(kept: &str, fresh: &str) -> usize {
    1 + kept.lines().zip(fresh.lines()).take_while(|(kept, fresh)| kept == fresh).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_different_line_is_found_by_number() {
        assert_eq!(differs_at("a\nb\nc", "a\nx\nc"), 2);
        assert_eq!(differs_at("a\n", "a\nb\n"), 2);
        assert_eq!(differs_at("", "a"), 1);
    }
}
