//! `cargo xtask schema`: the files below `docs/` that the program generates about itself.

use std::fs;

use crate::cargo::cargo;
use crate::error::{Error, OnPath};
use crate::{paths, shell};

/// What `llama-warden schema` is asked for, and the file that holds the answer.
const GENERATED: [(&str, &str); 6] = [
    ("config", "docs/schema/config.json"),
    ("detector", "docs/schema/detector.json"),
    ("dialect", "docs/schema/dialect.json"),
    ("openapi", "docs/schema/openapi.json"),
    ("events", "docs/events.md"),
    ("metrics", "docs/metrics.md"),
];

/// What to do with the generated files.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Change nothing; fail if a file is not what the program generates
    #[arg(long)]
    check: bool,
}

/// Writes the files, or checks them.
///
/// # Errors
/// When the program does not build or run, or, in a check, when a file differs.
pub fn run(args: &Args) -> Result<(), Error> {
    if args.check { check() } else { write() }
}

/// Fails if a file is not what the program generates, naming all that differ.
///
/// # Errors
/// The files that differ, and where.
pub fn check() -> Result<(), Error> {
    let mut stale = Vec::new();
    for (name, file) in GENERATED {
        let kept = fs::read_to_string(paths::root().join(file)).unwrap_or_default();
        let fresh = generate(name)?;
        if kept != fresh {
            stale.push(format!(
                "{file} differs from what the program generates, first in line {}",
                differs_at(&kept, &fresh)
            ));
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    Err(Error::missing(stale.join("\n"), "run `cargo xtask schema` and commit the result"))
}

fn write() -> Result<(), Error> {
    for (name, file) in GENERATED {
        let path = paths::root().join(file);
        let fresh = generate(name)?;
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

fn generate(name: &str) -> Result<String, Error> {
    shell::read(cargo().args(["run", "--quiet", "--package", "llama-warden", "--", "schema", name]))
}

/// The number of the first line, from 1, that is not the same in both.
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
