//! Provides a real browser for the tests of the dashboard, and what drives and judges it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::debian::{self, Recipe};
use crate::error::{Error, OnPath};
use crate::{paths, shell};

/// Chromium without a window. The fonts are those that the pictures in the documentation have on every machine.
const DEBIAN: Recipe = Recipe {
    name: "chromium-debian",
    packages: &["chromium-headless-shell", "fonts-inter", "fonts-dejavu-mono"],
    folder: "usr/lib/chromium",
    programs: &["chromium-headless-shell"],
};

/// The driver of the browser, and the rules of accessibility, in the versions that the tests are written for.
const NODE_PACKAGES: [&str; 2] = ["playwright-core@1.65.1", "axe-core@4.14.1"];

/// Returns the path of the browser: Debian's, unpacked but not installed. A browser on PATH would draw other fonts.
///
/// # Errors
/// When it cannot be provided, with the next step.
pub fn provide() -> Result<PathBuf, Error> {
    let bin = debian::provide(&DEBIAN)?;
    // The library that finds fonts reads this file, which names the folder beside it and no other.
    let (fonts, cache) = (bin.with_file_name("fonts"), paths::target().join("browser/font-cache"));
    let config = paths::target().join("browser/fonts.conf");
    let alias = |family: &str, font: &str| {
        format!("<alias binding=\"strong\"><family>{family}</family><prefer><family>{font}</family></prefer></alias>\n")
    };
    let text = format!(
        "<?xml version=\"1.0\"?>\n<!DOCTYPE fontconfig SYSTEM \"fonts.dtd\">\n<fontconfig>\n<dir>{}</dir>\n<cachedir>{}</cachedir>\n{}{}{}</fontconfig>\n",
        fonts.display(),
        cache.display(),
        alias("system-ui", "Inter"),
        alias("sans-serif", "Inter"),
        alias("monospace", "DejaVu Sans Mono"),
    );
    fs::create_dir_all(&cache).on("create", &cache)?;
    fs::write(&config, text).on("write", &config)?;
    Ok(bin.join(DEBIAN.programs[0]))
}

/// The file that tells the browser which fonts there are, once [`provide`] has returned.
pub fn fonts() -> PathBuf {
    paths::target().join("browser/fonts.conf")
}

/// Returns the folder with the packages that drive and judge the browser.
///
/// # Errors
/// When there is no npm, or it cannot install them.
pub fn node_modules() -> Result<PathBuf, Error> {
    for program in ["node", "npm"] {
        if shell::on_path(program).is_none() {
            return Err(Error::missing(format!("there is no `{program}` on PATH"), "install nodejs and npm"));
        }
    }
    let folder = paths::target().join("browser/node");
    fs::create_dir_all(&folder).on("create", &folder)?;
    // npm looks at what is installed already, and then asks nobody.
    let install =
        ["install", "--no-audit", "--no-fund", "--no-save", "--prefer-offline", "--ignore-scripts", "--prefix"];
    shell::read(Command::new("npm").args(install).arg(&folder).args(NODE_PACKAGES))?;
    Ok(folder.join("node_modules"))
}
