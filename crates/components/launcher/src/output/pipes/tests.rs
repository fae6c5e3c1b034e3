//! Tests of reading, against real pipes.

use std::io::{PipeWriter, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// Lines of both streams as they were passed on.
type Collected = Arc<Mutex<Vec<(StreamName, Vec<u8>)>>>;

type Listener = Box<dyn FnMut(OutputPiece<'_>) + Send>;

/// An output whose lines are collected, with the write ends of its pipes: standard error, standard output.
fn output(redactor: Redactor) -> (ServerOutput<Listener>, Collected, [PipeWriter; 2]) {
    let collected = Collected::default();
    let [(error, error_writer), (out, out_writer)] = StreamName::ALL.map(|stream| {
        let (reader, writer) = io::pipe().expect("pipe");
        let collected = Arc::clone(&collected);
        let on_piece = move |piece: OutputPiece<'_>| {
            let OutputPiece::Line(_, line) = piece else { return };
            assert_ne!(line, b"panic");
            collected.lock().expect("whole").push((stream, line.to_vec()));
        };
        (OutputPipe::new(stream, reader.into(), Box::new(on_piece) as Listener), writer)
    });
    (ServerOutput::new([error, out], redactor), collected, [error_writer, out_writer])
}

fn lines(collected: &Collected, stream: StreamName) -> Vec<Vec<u8>> {
    let collected = collected.lock().expect("whole");
    collected.iter().filter(|(of, _)| *of == stream).map(|(_, line)| line.clone()).collect()
}

#[tokio::test]
async fn reading_ends_when_it_is_cancelled_and_what_was_written_by_then_is_kept() {
    let (output, collected, [mut error, _out]) = output(Redactor::new(["sk-12345"]));
    error.write_all(b"one\nkey sk-12345\nhalf").expect("fits");
    let (cancel, cancelled) = oneshot::channel();
    drop(cancel);
    tokio::time::timeout(PATIENCE, output.read(cancelled)).await.expect("ends");
    assert_eq!(lines(&collected, StreamName::Stderr), [&b"one"[..], b"key [redacted]", b"half"]);
    error.write_all(b"late").expect_err("nobody reads any more");
}

#[tokio::test]
async fn each_stream_is_read_to_its_own_end() {
    let (output, collected, [mut error, mut out]) = output(Redactor::default());
    let (_cancel, cancelled) = oneshot::channel();
    let reading = tokio::spawn(output.read(cancelled));
    error.write_all(b"error\n").expect("fits");
    drop(error);
    yield_now().await;
    out.write_all(b"out\nlast").expect("fits");
    drop(out);
    tokio::time::timeout(PATIENCE, reading).await.expect("ends").expect("no panic");
    assert_eq!(lines(&collected, StreamName::Stderr), [b"error"]);
    assert_eq!(lines(&collected, StreamName::Stdout), [&b"out"[..], b"last"]);
}

#[tokio::test]
async fn bytes_that_complete_no_line_are_told_as_such() {
    let (reader, mut writer) = io::pipe().expect("pipe");
    let (other, closed) = io::pipe().expect("pipe");
    drop(closed);
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let on_piece = move |piece: OutputPiece<'_>| {
        let _ = tell.send(match piece {
            OutputPiece::Line(_, line) => line.to_vec(),
            OutputPiece::PartialLine => b"(partial line)".to_vec(),
            OutputPiece::Pause => b"(pause)".to_vec(),
        });
    };
    let pipes = [OutputPipe::new(StreamName::Stderr, reader.into(), Box::new(on_piece) as Listener), {
        let ignore = |_: OutputPiece<'_>| {};
        OutputPipe::new(StreamName::Stdout, other.into(), Box::new(ignore) as Listener)
    }];
    let (_cancel, cancelled) = oneshot::channel();
    let reading = tokio::spawn(ServerOutput::new(pipes, Redactor::default()).read(cancelled));
    for (written, expected) in [("10 %\r", "(partial line)"), ("....", "(partial line)"), ("done\n", "....done")] {
        writer.write_all(written.as_bytes()).expect("fits");
        let piece = tokio::time::timeout(PATIENCE, told.recv()).await.expect("in time").expect("is read");
        assert_eq!(String::from_utf8_lossy(&piece), expected);
    }
    drop(writer);
    tokio::time::timeout(PATIENCE, reading).await.expect("ends").expect("no panic");
}

#[tokio::test]
async fn a_panic_over_a_line_ends_its_stream_and_not_the_other() {
    let (output, collected, [mut error, mut out]) = output(Redactor::default());
    let (_cancel, cancelled) = oneshot::channel();
    error.write_all(b"one\npanic\ntwo\n").expect("fits");
    out.write_all(b"out\n").expect("fits");
    drop(out);
    tokio::time::timeout(PATIENCE, output.read(cancelled)).await.expect("ends");
    assert_eq!(lines(&collected, StreamName::Stderr), [b"one"]);
    assert_eq!(lines(&collected, StreamName::Stdout), [b"out"]);
    error.write_all(b"late").expect_err("nobody reads it any more");
}

#[tokio::test]
async fn a_flood_on_both_streams_lets_everybody_else_have_a_turn_after_half_a_megabyte() {
    const LINE: [u8; 1024] = [b'\n'; 1024];
    let read = Arc::new(AtomicUsize::new(0));
    let (pipes, floods) = StreamName::ALL
        .map(|stream| {
            let (reader, mut writer) = io::pipe().expect("pipe");
            let flood = move || (0..16 * 1024).try_for_each(|_| writer.write_all(&LINE)).expect("is read");
            let read = Arc::clone(&read);
            let on_piece = move |piece: OutputPiece<'_>| {
                if matches!(piece, OutputPiece::Line(..)) {
                    read.fetch_add(1, Ordering::Relaxed);
                }
            };
            (OutputPipe::new(stream, reader.into(), on_piece), std::thread::spawn(flood))
        })
        .into_iter()
        .collect::<(Vec<_>, Vec<_>)>();
    let Ok(pipes) = pipes.try_into() else { unreachable!("there are two streams") };
    let (_cancel, cancelled) = oneshot::channel();
    let reading = tokio::spawn(ServerOutput::new(pipes, Redactor::default()).read(cancelled));
    let (mut before, mut longest) = (0, 0);
    while !reading.is_finished() {
        yield_now().await;
        let now = read.load(Ordering::Relaxed);
        longest = longest.max(now - before);
        before = now;
    }
    floods.into_iter().for_each(|flood| flood.join().expect("no panic"));
    assert_eq!(before, 2 * 16 * 1024 * LINE.len());
    assert!(longest <= READS_IN_A_ROW * BUFFER, "{longest} bytes at once");
}

#[tokio::test]
async fn no_more_than_the_bound_is_read() {
    let (reader, mut writer) = io::pipe().expect("pipe");
    writer.write_all(&[b'x'; 5000]).expect("fits");
    let text = read_bounded(reader.into(), 1000).await.expect("reads");
    assert_eq!(text.len(), 1000);
}

#[tokio::test]
async fn what_is_no_pipe_is_an_error() {
    let file = std::fs::File::open("/dev/null").expect("opens");
    assert!(read_bounded(file.into(), 1).await.is_err());
}
