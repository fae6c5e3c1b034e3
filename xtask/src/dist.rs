//! `cargo xtask dist`: packs the program with everything that belongs to it into one archive, the same bytes each time.
//!
//! ```text
//! llama-warden-VERSION-ARCH-linux/
//!   bin/llama-warden            stripped
//!   share/man/man1              the manual pages
//!   share/completions           for bash, zsh and fish
//!   config                      default.toml, an example, units, rules, dashboard, manifests
//!   docs                        the reference and the runbooks
//!   README.md CHANGELOG.md LICENSE-*
//!   THIRD-PARTY.md              the crates inside, with their licences and the texts of these
//! ```
//! Names are sorted, times are those of the commit, owners are 0, and gzip keeps no name: two builds of one commit by one compiler
//! give the same archive, so that anybody can check what is downloaded.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use llama_warden_test_parts::cargo::cargo;
use llama_warden_test_parts::error::{Error, OnPath};
use llama_warden_test_parts::{paths, python, shell, shipped};
use serde_json::Value;

/// The package that is packed.
const PACKAGE: &str = "llama-warden";

/// What goes along, as paths in the checkout.
const FILES: [&str; 6] = ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "config", "docs"];

/// What of these folders concerns only who changes the program.
const LEFT_OUT: [&str; 5] =
    ["docs/decisions", "docs/faults.md", "docs/faults.toml", "docs/faults-measured.toml", "config/docker/local"];

/// Where the archive goes, and what is packed.
#[derive(Debug, clap::Args)]
pub struct DistOptions {
    /// Folder for the archive and its checksum [default: dist below the build folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Pack this program instead of building one with the profile `dist`, which takes minutes
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// Packs the archive, writes its checksum beside it, and returns its path.
///
/// # Errors
/// When the program does not build or run, or a file cannot be read or written.
pub fn run(options: &DistOptions) -> Result<PathBuf, Error> {
    let program = match &options.program {
        Some(program) => program.clone(),
        None => shipped::build(false)?,
    };
    let out = options.out.clone().unwrap_or_else(|| paths::target().join("dist-archives"));
    fs::create_dir_all(&out).on("create", &out)?;
    let out = fs::canonicalize(&out).on("find", &out)?;
    let metadata = metadata()?;
    let version = package(&metadata, PACKAGE).and_then(|package| package["version"].as_str()).unwrap_or_default();
    let name = format!("{PACKAGE}-{version}-{}-linux", std::env::consts::ARCH);
    let stage = out.join(&name);
    paths::remove(&stage)?;
    stage_program(&program, &stage)?;
    stage_files(&stage)?;
    let third_party = third_party(&metadata)?;
    let path = stage.join("THIRD-PARTY.md");
    fs::write(&path, third_party).on("write", &path)?;
    let archive = pack(&out, &name)?;
    paths::remove(&stage)?;
    Ok(archive)
}

/// Copies the program, stripped, and has it write its manual pages and completions.
fn stage_program(program: &Path, stage: &Path) -> Result<(), Error> {
    let bin = stage.join("bin");
    fs::create_dir_all(&bin).on("create", &bin)?;
    let copy = bin.join(PACKAGE);
    if shell::on_path("strip").is_some() {
        shell::read(Command::new("strip").arg("-o").arg(&copy).arg(program))?;
    } else {
        fs::copy(program, &copy).on("copy", program)?;
    }
    // Called by its name alone, since the completions name the program as it was called.
    let call = |arguments: &[&str]| {
        let mut command = Command::new(PACKAGE);
        command.args(arguments).env("PATH", python::path_with(&bin)).current_dir(stage);
        shell::read(&mut command)
    };
    call(&["man", "share/man/man1"])?;
    let completions = stage.join("share/completions");
    fs::create_dir_all(&completions).on("create", &completions)?;
    for (shell, file) in [("bash", "llama-warden"), ("zsh", "_llama-warden"), ("fish", "llama-warden.fish")] {
        let path = completions.join(file);
        fs::write(&path, call(&["completions", shell])?).on("write", &path)?;
    }
    Ok(())
}

fn stage_files(stage: &Path) -> Result<(), Error> {
    for file in FILES {
        copy_tree(&paths::root().join(file), &stage.join(file), file)?;
    }
    Ok(())
}

/// Copies a file or a folder, save what is left out. `name` is its path in the checkout.
fn copy_tree(from: &Path, to: &Path, name: &str) -> Result<(), Error> {
    if LEFT_OUT.contains(&name) {
        return Ok(());
    }
    if !from.is_dir() {
        return fs::copy(from, to).on("copy", from).map(drop);
    }
    fs::create_dir_all(to).on("create", to)?;
    for entry in fs::read_dir(from).on("list", from)? {
        let entry = entry.on("list", from)?;
        let file = entry.file_name().to_string_lossy().into_owned();
        copy_tree(&entry.path(), &to.join(&file), &format!("{name}/{file}"))?;
    }
    Ok(())
}

/// Packs the folder `name` of `out`, and writes the checksum of the archive.
fn pack(out: &Path, name: &str) -> Result<PathBuf, Error> {
    let (tar, archive) = (format!("{name}.tar"), format!("{name}.tar.gz"));
    // What umask or a checkout made of the permissions does not matter: programs are the files that somebody may run.
    let tar_options =
        ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu", "--mode=u=rwX,go=rX"];
    let mut command = Command::new("tar");
    command.args(tar_options).arg(format!("--mtime=@{}", time_of_commit())).args(["-cf", &tar, name]);
    shell::read(command.current_dir(out))?;
    shell::read(Command::new("gzip").args(["--no-name", "--force", &tar]).current_dir(out))?;
    let sum = shell::read(Command::new("sha256sum").arg(&archive).current_dir(out))?;
    let path = out.join(format!("{archive}.sha256"));
    fs::write(&path, sum).on("write", &path)?;
    Ok(out.join(archive))
}

/// The time of the commit, or what `SOURCE_DATE_EPOCH` says; 0 outside a checkout.
fn time_of_commit() -> String {
    let named = std::env::var("SOURCE_DATE_EPOCH").ok();
    let commit =
        || shell::read(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(paths::root())).ok();
    let time = named.or_else(commit).unwrap_or_default();
    if time.trim().parse::<u64>().is_ok() { time.trim().to_owned() } else { "0".to_owned() }
}

fn metadata() -> Result<Value, Error> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let text = shell::read(cargo().args(["metadata", "--format-version=1", "--locked", "--filter-platform", &target]))?;
    let what = "cannot read what cargo metadata printed".to_owned();
    serde_json::from_str(&text).map_err(|error| Error::Io { what, source: error.into() })
}

fn package<'a>(metadata: &'a Value, name: &str) -> Option<&'a Value> {
    list(&metadata["packages"]).find(|package| package["name"] == name)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The ids of the packages that are compiled into the program: its dependencies, save those of builds and tests.
fn compiled_in(metadata: &Value) -> BTreeSet<&str> {
    let id = package(metadata, PACKAGE).and_then(|package| package["id"].as_str());
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"]["nodes"]).filter_map(|node| Some((node["id"].as_str()?, node))).collect();
    let (mut found, mut open): (BTreeSet<&str>, Vec<&str>) = (BTreeSet::new(), id.into_iter().collect());
    while let Some(id) = open.pop() {
        if !found.insert(id) {
            continue;
        }
        let dependencies = nodes.get(id).into_iter().flat_map(|node| list(&node["deps"]));
        let is_normal = |dependency: &&Value| list(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null());
        open.extend(dependencies.filter(is_normal).filter_map(|dependency| dependency["pkg"].as_str()));
    }
    found
}

/// The page about third-party crates: their names, under which licences, and the texts of these, each once.
fn third_party(metadata: &Value) -> Result<String, Error> {
    let ids = compiled_in(metadata);
    let inside =
        list(&metadata["packages"]).filter(|package| package["id"].as_str().is_some_and(|id| ids.contains(id)));
    // Packages of the workspace have no source.
    let mut crates: Vec<&Value> = inside.filter(|package| !package["source"].is_null()).collect();
    crates.sort_by_key(|package| (package["name"].to_string(), package["version"].to_string()));
    let mut page = String::from(
        "# The crates of others inside llama-warden\n\n| crate | version | licence | source |\n|---|---|---|---|\n",
    );
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in crates {
        let of = |key: &str| package[key].as_str().unwrap_or_default();
        let name = of("name");
        if of("license").is_empty() && of("license_file").is_empty() {
            let next = "name another crate, or have its author state the licence";
            return Err(Error::missing(format!("{name} states no licence"), next));
        }
        let _ = writeln!(page, "| {name} | {} | {} | {} |", of("version"), of("license"), of("repository"));
        for text in licence_texts(Path::new(of("manifest_path")))? {
            texts.entry(text).or_default().push(name.to_owned());
        }
    }
    for (text, names) in &texts {
        let _ = write!(page, "\n## {}\n\n```text\n{}\n```\n", names.join(", "), text.trim_end().replace("```", "'''"));
    }
    Ok(page)
}

/// The texts of licences and notices beside a manifest.
fn licence_texts(manifest: &Path) -> Result<Vec<String>, Error> {
    let folder = manifest.parent().unwrap_or(manifest);
    let mut texts = BTreeSet::new();
    for entry in fs::read_dir(folder).on("list", folder)? {
        let path = entry.on("list", folder)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().to_uppercase()).unwrap_or_default();
        let is_text =
            ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"].iter().any(|word| name.starts_with(word));
        if is_text && path.is_file() {
            texts.insert(String::from_utf8_lossy(&fs::read(&path).on("read", &path)?).replace('\r', ""));
        }
    }
    Ok(texts.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_compiled_into_the_program_is_named() {
        let dependency = |name: &str, kind: Value| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({
            "packages": [{ "name": PACKAGE, "id": PACKAGE }],
            "resolve": { "nodes": [
                { "id": PACKAGE, "deps": [dependency("used", Value::Null), dependency("tested", "dev".into())] },
                { "id": "used", "deps": [dependency("deep", Value::Null), dependency("generator", "build".into())] },
                { "id": "deep", "deps": [dependency("used", Value::Null)] },
            ] },
        });
        assert_eq!(compiled_in(&metadata), BTreeSet::from([PACKAGE, "deep", "used"]));
    }

    #[test]
    fn every_crate_inside_states_its_licence() {
        let page = third_party(&metadata().expect("cargo answers")).expect("all have one");
        assert!(page.contains("| tokio | ") && !page.contains("| proptest | "), "{}", &page[..500]);
    }
}
