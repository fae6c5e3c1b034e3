//! Provides nginx, beside which the router is measured, and wrk, which asks both.

use std::path::PathBuf;

use crate::debian::{self, Recipe, USR_BIN};
use crate::error::Error;

const NGINX: Recipe = Recipe { name: "nginx-debian", packages: &["nginx"], folder: "usr/sbin", programs: &["nginx"] };

const WRK: Recipe = Recipe { name: "wrk-debian", packages: &["wrk"], folder: USR_BIN, programs: &["wrk"] };

/// Returns the path of Debian's nginx, unpacked but not installed.
///
/// # Errors
/// When it cannot be provided, with the next step.
pub fn nginx() -> Result<PathBuf, Error> {
    Ok(debian::provide(&NGINX)?.join(NGINX.programs[0]))
}

/// Returns the path of Debian's wrk.
///
/// # Errors
/// When it cannot be provided, with the next step.
pub fn wrk() -> Result<PathBuf, Error> {
    Ok(debian::provide(&WRK)?.join(WRK.programs[0]))
}
