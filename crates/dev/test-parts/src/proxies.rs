//! Provides nginx, beside which the router is measured, and wrk, which asks both.

use std::path::PathBuf;

use crate::debian::{self, Recipe, USR_BIN};
use crate::error::Error;

const NGINX: Recipe = Recipe { name: "nginx-debian", packages: &["nginx"], folder: "usr/sbin", programs: &["nginx"] };

const NGINX_WITH_LUA: Recipe = Recipe {
    name: "nginx-lua-debian",
    packages: &["nginx", "libnginx-mod-http-lua", "lua-cjson"],
    folder: "usr/sbin",
    programs: &["nginx"],
};

const WRK: Recipe = Recipe { name: "wrk-debian", packages: &["wrk"], folder: USR_BIN, programs: &["wrk"] };

/// nginx with its module for Lua.
#[derive(Debug, Clone)]
pub struct NginxWithLua {
    /// nginx itself.
    pub program: PathBuf,
    /// The folder with its modules, and with the libraries in C of Lua.
    pub libraries: PathBuf,
    /// The folder with the libraries in Lua.
    pub lua: PathBuf,
}

/// Returns the path of Debian's nginx, unpacked but not installed.
///
/// # Errors
/// When it cannot be provided, with the next step.
pub fn nginx() -> Result<PathBuf, Error> {
    Ok(debian::provide(&NGINX)?.join(NGINX.programs[0]))
}

/// Returns Debian's nginx with the modules that run Lua and read JSON in it.
///
/// # Errors
/// When one of them cannot be provided, with the next step.
pub fn nginx_with_lua() -> Result<NginxWithLua, Error> {
    let bin = debian::provide(&NGINX_WITH_LUA)?;
    let beside = |name: &str| bin.with_file_name(name);
    let found = NginxWithLua { program: bin.join("nginx"), libraries: beside("lib"), lua: beside("lua") };
    let needed = ["ndk_http_module.so", "ngx_http_lua_module.so", "cjson.so"].map(|name| found.libraries.join(name));
    match needed.iter().chain([&found.lua.join("resty/core.lua")]).find(|file| !file.is_file()) {
        None => Ok(found),
        Some(file) => Err(Error::missing(
            format!("Debian's packages for Lua in nginx have no {}", file.display()),
            "their layout has changed: mend `proxies.rs` of test-parts",
        )),
    }
}

/// Returns the path of Debian's wrk.
///
/// # Errors
/// When it cannot be provided, with the next step.
pub fn wrk() -> Result<PathBuf, Error> {
    Ok(debian::provide(&WRK)?.join(WRK.programs[0]))
}
