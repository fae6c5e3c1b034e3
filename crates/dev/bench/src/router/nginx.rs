//! nginx as a bare proxy: one process, kept connections like the router's, nothing written to a file.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use llama_warden_test_parts::error::{Error, OnPath};
use llama_warden_test_parts::proxies;

use crate::daemon::WAIT_LIMIT;

/// A running nginx. Dropping it kills it.
#[derive(Debug)]
pub struct Nginx(Child);

impl Nginx {
    /// Starts nginx; each port leads to the port of a server.
    ///
    /// # Errors
    /// When it cannot be provided, or does not listen in time.
    pub fn start(folder: &Path, ports: &[(u16, u16)]) -> Result<Self, Error> {
        let program = proxies::nginx()?;
        let config = folder.join("nginx.conf");
        fs::write(&config, configuration(folder, ports)).on("write", &config)?;
        let mut command = Command::new(&program);
        command.arg("-c").arg(&config).arg("-p").arg(folder).arg("-e").arg(folder.join("nginx.log"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut nginx = Self(command.spawn().on("start", &program)?);
        let deadline = Instant::now() + WAIT_LIMIT;
        while !ports.iter().all(|(port, _)| TcpStream::connect(("127.0.0.1", *port)).is_ok()) {
            if nginx.0.try_wait().on("wait for", &program)?.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(folder.join("nginx.log")).unwrap_or_default();
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

fn configuration(folder: &Path, ports: &[(u16, u16)]) -> String {
    let mut text = format!(
        "daemon off;\nmaster_process off;\npid {0}/nginx.pid;\nevents {{ worker_connections 4096; }}\nhttp {{\n\
         access_log off;\nkeepalive_requests 100000000;\nclient_body_buffer_size 1m;\n",
        folder.display()
    );
    // Writing into a string cannot fail.
    for temporary in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = writeln!(text, "{temporary}_temp_path {}/{temporary};", folder.display());
    }
    for (port, server) in ports {
        let _ = writeln!(
            text,
            "upstream to{port} {{ server 127.0.0.1:{server}; keepalive 64; keepalive_requests 100; keepalive_timeout 4s; }}\n\
             server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://to{port}; proxy_http_version 1.1;\n\
             proxy_set_header Connection \"\"; proxy_buffering off; }} }}"
        );
    }
    text + "}\n"
}
