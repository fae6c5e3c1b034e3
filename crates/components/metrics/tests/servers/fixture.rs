//! Llama-servers as a scraper sees them: listeners on loopback, and the events that make them ready.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use llama_warden_bus::EventDraft;
use llama_warden_component_kit::{TestBus, fleet, server};
use llama_warden_events::{ArgumentList, BinaryIdentity, Event, Incarnation, ReadyVia};
use llama_warden_metrics::ServerScraper;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How a server treats a request.
#[derive(Debug, Clone)]
pub enum ScrapeReaction {
    /// This status and body.
    Say(u16, String),
    /// Nothing, until the client gives up.
    Hang,
    /// A body that never ends.
    Endless,
}

pub fn says(body: &str) -> ScrapeReaction {
    ScrapeReaction::Say(200, body.to_owned())
}

/// A listener with reactions by path; what has none is 404.
#[derive(Debug, Clone)]
pub struct ScrapedServer {
    pub port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl ScrapedServer {
    pub async fn start(reactions: &[(&'static str, ScrapeReaction)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let port = listener.local_addr().expect("has an address").port();
        let reactions: Arc<BTreeMap<_, _>> = Arc::new(reactions.iter().cloned().collect());
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let server = Self { port, asked: asked.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, reactions.clone(), asked.clone()));
            }
        });
        server
    }

    /// Awake, with these metrics.
    pub async fn with_metrics(metrics: &str) -> Self {
        Self::start(&[("/props", says(r#"{"is_sleeping":false}"#)), ("/metrics", says(metrics))]).await
    }

    /// The heads of all requests so far: path and key.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    reactions: Arc<BTreeMap<&'static str, ScrapeReaction>>,
    asked: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let key =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("authorization: ").map(str::to_owned));
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{path} {}", key.unwrap_or_default()));
    let reaction = reactions.get(path.as_str()).cloned().unwrap_or(ScrapeReaction::Say(404, String::new()));
    // The client may be gone at any time.
    match reaction {
        ScrapeReaction::Say(status, body) => {
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
        ScrapeReaction::Hang => while matches!(stream.read(&mut [0; 64]).await, Ok(1..)) {},
        ScrapeReaction::Endless => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while stream.write_all(&b"llamacpp:a 1\n".repeat(256)).await.is_ok() {}
        }
    }
}

/// A server to make ready.
#[derive(Debug, Default)]
pub struct ServerPlan {
    /// Further arguments of its command line.
    pub arguments: Vec<&'static str>,
    /// Keys of its `[[servers]]` table.
    pub keys: String,
    /// Its build.
    pub version: Option<&'static str>,
}

/// Ready servers, and a scraper of them.
#[derive(Debug)]
pub struct ScrapeFixture {
    pub bus: TestBus,
    pub scraper: ServerScraper,
    _fleet: watch::Sender<llama_warden_config::Fleet>,
}

impl ScrapeFixture {
    /// Makes each server ready, on the port of its listener.
    pub async fn ready(servers: &[(&str, &ScrapedServer, ServerPlan)]) -> Self {
        let bus = TestBus::new();
        let mut text = String::new();
        for (id, _, plan) in servers {
            let _ = writeln!(text, "[[servers]]\nid = \"{id}\"\nmodel = \"/m/{id}.gguf\"\n{}", plan.keys);
        }
        for (id, fake, plan) in servers {
            let id = server(id);
            bus.configure(&id).await;
            let identity = BinaryIdentity {
                binary: "/bin/llama-server".into(),
                version: plan.version.map(Into::into),
                build: None,
                options: [].into(),
            };
            let argv: ArgumentList = ["llama-server"].into_iter().chain(plan.arguments.iter().copied()).collect();
            // Above what Linux gives out as a process id.
            let spawned = Event::ServerSpawned { pid: 4_194_305, start_ticks: 1, argv, port: fake.port };
            for event in [
                Event::LaunchBegan { binary: "/bin/llama-server".into() },
                Event::BinaryIdentified(identity.into()),
                spawned,
                Event::ReadyReached { via: ReadyVia::Health, startup_seconds: 1.0 },
            ] {
                bus.publish(EventDraft::incarnation(id.clone(), Incarnation::new(1), event)).await;
            }
        }
        let (sender, receiver) = watch::channel(fleet(&text));
        let scraper = ServerScraper::new(bus.bus().clone(), receiver);
        Self { bus, scraper, _fleet: sender }
    }
}
