//! The component on a real bus with real commands, in real time.

#![expect(clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

mod awaited;
mod fixture;
mod followed;
