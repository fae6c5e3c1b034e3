//! One launch of a server, as requests reach it, with its idle connections.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, Method, Response};
use llama_warden_events::{Incarnation, ServerId};
use llama_warden_held_body::HeldBody;
use llama_warden_probe::{ProbeAddress, Target};
use llama_warden_server_link::{SendError, ServerLink};
use llama_warden_support::lock;
use llama_warden_traffic::{ConnectionSide, Counted, RouterTraffic};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::headers::{LaunchHead, drop_connection_headers};

/// Longest time that a connection is kept without a request.
const IDLE: Duration = Duration::from_secs(4);

/// Most requests on one connection.
const USES: u32 = 100;

/// A connection of a launch.
#[derive(Debug)]
pub struct PooledLink {
    /// The connection itself. In a box: it moves from hand to hand a dozen times for each request.
    pub link: Box<ServerLink>,
    idle_since: Instant,
    _counted: (Counted, Arc<()>),
}

/// The connections without a request.
#[derive(Debug, Default)]
struct IdleLinks {
    links: Vec<PooledLink>,
    /// Whether a task ends those that are idle for too long.
    is_swept: bool,
}

/// A launch that can be asked.
#[derive(Debug)]
pub struct Upstream {
    /// The server.
    pub server: ServerId,
    /// Which of its launches.
    pub incarnation: Incarnation,
    address: ProbeAddress,
    head: LaunchHead,
    idle: Mutex<IdleLinks>,
    /// Held by each open connection.
    open: Arc<()>,
    /// How many may stay open between two requests, those in use included. Of one slot, before it is known how many there are.
    most_kept: AtomicUsize,
    /// Counts its connections.
    pub traffic: Arc<RouterTraffic>,
    /// Notified when it cannot be asked any more.
    pub gone: Notify,
}

impl Upstream {
    /// A launch of a server, at this address, which wants this key.
    pub fn new(
        (server, incarnation): (ServerId, Incarnation),
        target: &Target,
        key: Option<String>,
        traffic: Arc<RouterTraffic>,
    ) -> Self {
        Self {
            server,
            incarnation,
            address: target.address.clone(),
            head: LaunchHead::new(target, key),
            idle: Mutex::default(),
            open: Arc::default(),
            most_kept: AtomicUsize::new(2),
            traffic,
            gone: Notify::new(),
        }
    }

    /// Takes what the launch has said of its slots. Where the configuration lets more requests work at a time, their connections stay.
    pub fn size_pool(&self, slots: Option<NonZeroU32>, concurrency: Option<NonZeroU32>) {
        let kept = slots.map_or(1, NonZeroU32::get).saturating_add(1).max(concurrency.map_or(0, NonZeroU32::get));
        self.most_kept.store(kept as usize, Ordering::Relaxed);
    }

    /// Sends a request, on a kept connection where there is one and the body could be sent again. The next one, or a new one, takes a
    /// request that a kept one did not take. What the answer says of the connection is left out.
    ///
    /// # Errors
    /// If it cannot be sent, or the launch is lost before the head of its answer.
    pub async fn send(
        &self,
        (method, target): (&Method, &str),
        headers: &HeaderMap,
        body: &HeldBody,
    ) -> Result<(Response<()>, PooledLink), SendError> {
        let write = |head: &mut Vec<u8>| self.head.write(head, (method, target), headers, body.length());
        let asks_for_head = *method == Method::HEAD;
        let passed_on = |mut answer: Response<()>, link| {
            drop_connection_headers(answer.headers_mut());
            Ok((answer, link))
        };
        while let Some(mut kept) = self.take().filter(|_| body.is_whole()) {
            match kept.link.send(write, body.clone(), asks_for_head).await {
                Ok(answer) => return passed_on(answer, kept),
                Err(SendError::NotTaken) => {}
                Err(error) => return Err(error),
            }
        }
        let counted = (self.traffic.connect(ConnectionSide::Server), self.open.clone());
        let link = Box::new(ServerLink::connect(&self.address).await?);
        let mut new = PooledLink { link, idle_since: Instant::now(), _counted: counted };
        let answer = new.link.send(write, body.clone(), asks_for_head).await?;
        passed_on(answer, new)
    }

    fn take(&self) -> Option<PooledLink> {
        let mut idle = lock(&self.idle);
        while let Some(kept) = idle.links.pop() {
            if kept.idle_since.elapsed() < IDLE && kept.link.is_silent() {
                return Some(kept);
            }
        }
        None
    }

    /// Keeps a connection whose answer was read to its end.
    pub fn keep(self: &Arc<Self>, mut link: PooledLink) {
        // Beside those of its connections, the launch itself holds one.
        let too_many = Arc::strong_count(&self.open) > self.most_kept.load(Ordering::Relaxed) + 1;
        if too_many || link.link.requests() >= USES || !link.link.is_reusable() {
            return;
        }
        link.link.shrink();
        link.idle_since = Instant::now();
        let mut idle = lock(&self.idle);
        idle.links.push(link);
        // One connection comes and goes with each request, thousands of times a second.
        if std::mem::replace(&mut idle.is_swept, true) {
            return;
        }
        drop(idle);
        let this = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(IDLE).await;
                let Some(upstream) = this.upgrade() else { return };
                let mut idle = lock(&upstream.idle);
                idle.links.retain(|link| link.idle_since.elapsed() < IDLE);
                if idle.links.is_empty() {
                    idle.is_swept = false;
                    return;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::runtime::Handle;

    use super::*;

    /// Answers so many requests on each connection, one connection after the other.
    async fn serve(listener: TcpListener, uses: usize, last_head: &str, answered: &AtomicUsize) {
        while let Ok((mut stream, _)) = listener.accept().await {
            for number in 1..=uses {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.is_ok_and(|count| count > 0) {}
                if head.is_empty() {
                    break;
                }
                answered.fetch_add(1, Ordering::Relaxed);
                let last = if number == uses { last_head } else { "" };
                let text = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{last}\r\nok");
                stream.write_all(text.as_bytes()).await.expect("taken");
            }
        }
    }

    fn upstream(port: u16) -> Arc<Upstream> {
        let address = ProbeAddress::Tcp { host: "127.0.0.1".into(), port };
        let target = Target { address, prefix: String::new(), key: None, encrypted: false };
        let server = ServerId::new("a").expect("valid");
        Arc::new(Upstream::new((server, Incarnation::new(1)), &target, None, Arc::default()))
    }

    /// Sends so many requests, one after the other.
    async fn ask(upstream: &Arc<Upstream>, requests: usize) {
        let nothing = HeldBody::default();
        for _ in 0..requests {
            let sent = upstream.send((&Method::GET, "/"), &HeaderMap::new(), &nothing).await;
            let (_, mut link) = sent.expect("answered");
            while let Some(frame) = poll_fn(|context| link.link.poll_frame(context)).await {
                frame.expect("whole");
            }
            upstream.keep(link);
        }
    }

    #[tokio::test]
    async fn one_task_ends_idle_connections_however_often_they_come_and_go() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let port = listener.local_addr().expect("bound").port();
        let upstream = upstream(port);
        let before = Handle::current().metrics().num_alive_tasks();
        let answered = AtomicUsize::new(0);
        tokio::select! {
            () = ask(&upstream, 50) => {}
            () = serve(listener, 1000, "", &answered) => {}
        }
        assert_eq!(answered.load(Ordering::Relaxed), 50);
        assert_eq!(Handle::current().metrics().num_alive_tasks(), before + 1);
    }

    #[tokio::test]
    async fn requests_outlive_connections_that_their_server_ends_after_any_number_of_them() {
        for (uses, last_head) in [(1, "Connection: close\r\n"), (5, "Connection: close\r\n"), (5, ""), (1000, "")] {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
            let port = listener.local_addr().expect("bound").port();
            let (answered, upstream) = (AtomicUsize::new(0), upstream(port));
            tokio::select! {
                () = ask(&upstream, 203) => {}
                () = serve(listener, uses, last_head, &answered) => {}
            }
            assert_eq!(answered.load(Ordering::Relaxed), 203, "{uses} {last_head}");
        }
    }
}
