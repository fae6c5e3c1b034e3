//! Listening sockets that systemd passes on: those of a socket unit, and those that it kept over a restart.

use std::net::TcpListener;

use listenfd::ListenFd;

/// The TCP sockets among them. Must be called before a second thread exists, since it removes `LISTEN_FDS` from the environment:
/// a second look must not take descriptors that have another owner by then.
pub fn inherited_sockets() -> Vec<TcpListener> {
    let mut passed = ListenFd::from_env();
    // One that is no TCP socket stays open and unused: closing a descriptor of unknown kind helps nobody.
    (0..passed.len()).filter_map(|index| passed.take_tcp_listener(index).ok()?).collect()
}
