//! nginx: one process, kept connections like the router's, nothing written to a file.
//!
//! As a bare proxy it reads no body: each of its ports leads to one server. What chooses the server by the model that the body names is
//! Lua within nginx, written as its users write it: it reads the body, decodes it as JSON and picks an upstream.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use llama_warden_test_parts::error::{Error, OnPath};
use llama_warden_test_parts::proxies::{self, NginxWithLua};

use crate::daemon::WAIT_LIMIT;

/// A running nginx. Dropping it kills it.
#[derive(Debug)]
pub struct Nginx(Child);

/// A server that a request can name.
#[derive(Debug, Clone, Copy)]
pub struct NamedServer<'a> {
    /// The name.
    pub model: &'a str,
    /// Where the server listens.
    pub port: u16,
}

impl Nginx {
    /// Starts nginx as a bare proxy; each port leads to the port of a server.
    ///
    /// # Errors
    /// When it cannot be provided, or does not listen in time.
    pub fn bare(folder: &Path, ports: &[(u16, u16)]) -> Result<Self, Error> {
        let mut http = String::new();
        for (port, server) in ports {
            http += &upstream(&format!("to{port}"), *server);
            // Writing into a string cannot fail.
            let _ = writeln!(
                http,
                "server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://to{port};\n{RELAYED} }} }}"
            );
        }
        let ports: Vec<u16> = ports.iter().map(|(port, _)| *port).collect();
        Self::start(&proxies::nginx()?, (folder, "bare"), "", &http, &ports)
    }

    /// Starts nginx with one port, behind which Lua chooses the server by the model that a body names.
    ///
    /// # Errors
    /// When it or its modules cannot be provided, it does not listen in time, or does not refuse a model that no server has.
    pub fn by_model(folder: &Path, port: u16, servers: &[NamedServer<'_>]) -> Result<Self, Error> {
        let NginxWithLua { program, libraries, lua } = proxies::nginx_with_lua()?;
        let (libraries, lua) = (libraries.display(), lua.display());
        let modules =
            format!("load_module {libraries}/ndk_http_module.so;\nload_module {libraries}/ngx_http_lua_module.so;\n");
        let mut http = format!(
            "lua_package_path \"{lua}/?.lua;;\";\nlua_package_cpath \"{libraries}/?.so;;\";\n\
             init_by_lua_block {{ json = require \"cjson.safe\"; upstreams = {{"
        );
        servers.iter().for_each(|NamedServer { model, .. }| http += &format!(" [\"{model}\"] = \"{model}\","));
        http += " } }\n";
        servers.iter().for_each(|NamedServer { model, port }| http += &upstream(model, *port));
        http += &format!(
            "server {{ listen 127.0.0.1:{port}; location / {{ set $upstream \"\"; access_by_lua_block {{{CHOOSES}}}\n\
             proxy_pass http://$upstream;\n{RELAYED} }} }}\n"
        );
        let nginx = Self::start(&program, (folder, "lua"), &modules, &http, &[port])?;
        let refused = status(port, "nobody").on("ask", Path::new("nginx"))?;
        let answered = status(port, servers[0].model).on("ask", Path::new("nginx"))?;
        match (refused.as_str(), answered.as_str()) {
            ("404", "200") => Ok(nginx),
            other => Err(Error::missing(
                format!("nginx does not choose by the model: it answered {other:?}, and not 404 and 200"),
                format!("read {}", folder.join("lua.log").display()),
            )),
        }
    }

    fn start(
        program: &Path,
        (folder, name): (&Path, &str),
        modules: &str,
        http: &str,
        ports: &[u16],
    ) -> Result<Self, Error> {
        let at = |end: &str| -> PathBuf { folder.join(format!("{name}{end}")) };
        let (config, log) = (at(".conf"), at(".log"));
        let mut text = format!(
            "{modules}daemon off;\nmaster_process off;\npid {};\nevents {{ worker_connections 4096; }}\nhttp {{\n\
             access_log off;\nkeepalive_requests 100000000;\nclient_body_buffer_size 1m;\n",
            at(".pid").display()
        );
        for temporary in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            let _ = writeln!(text, "{temporary}_temp_path {};", at(&format!("-{temporary}")).display());
        }
        fs::write(&config, text + http + "}\n").on("write", &config)?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&config).arg("-p").arg(folder).arg("-e").arg(&log);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut nginx = Self(command.spawn().on("start", program)?);
        let deadline = Instant::now() + WAIT_LIMIT;
        while !ports.iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok()) {
            if nginx.0.try_wait().on("wait for", program)?.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(&log).unwrap_or_default();
                return Err(Error::missing("nginx does not listen", format!("read its log:\n{said}")));
            }
            // Nothing signals that it listens, so this polls.
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(nginx)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Nothing can be done if it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How a request is passed on.
const RELAYED: &str = "proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering off;";

/// What chooses the upstream. A body that is longer than its buffer would lie in a file, which the bench has none of.
const CHOOSES: &str = r#"
    ngx.req.read_body()
    local body = ngx.req.get_body_data()
    local request = body and json.decode(body)
    local upstream = type(request) == "table" and upstreams[request.model]
    if not upstream then
        return ngx.exit(404)
    end
    ngx.var.upstream = upstream
"#;

fn upstream(name: &str, port: u16) -> String {
    format!(
        "upstream {name} {{ server 127.0.0.1:{port}; keepalive 64; keepalive_requests 100; keepalive_timeout 4s; }}\n"
    )
}

/// The status of an answer to a request that names a model.
fn status(port: u16, model: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(WAIT_LIMIT))?;
    let body = format!(r#"{{"model": "{model}", "messages": [], "max_tokens": 1}}"#);
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: ";
    write!(stream, "{head}{}\r\n\r\n{body}", body.len())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split(' ').nth(1).unwrap_or_default().to_owned())
}
