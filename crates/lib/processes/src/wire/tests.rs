//! Tests of frames and descriptors over real sockets.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::*;

fn ended(code: u8) -> ShimReport {
    let end = ProcessEnd::Exited { code };
    ShimReport::Ended(EndReport { end, killed: 1, left: vec![7], control_groups: "0::/a\n".into() })
}

#[test]
fn frames_are_the_same_in_whatever_pieces_they_come() {
    let bytes = [encode(&ended(3), b"x\0y").expect("fits"), encode(&ended(4), b"").expect("fits")].concat();
    for step in 1..=bytes.len() {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        let (mut reader, mut frames) = (FrameReader::default(), Vec::new());
        for piece in bytes.chunks(step) {
            far.write_all(piece).expect("sent");
            reader.receive(&near).expect("received");
            while let Some(Frame { message, body, .. }) = reader.next::<ShimReport>().expect("a frame") {
                frames.push((message, body));
            }
        }
        assert_eq!(frames, [(ended(3), b"x\0y".to_vec()), (ended(4), Vec::new())], "in pieces of {step}");
    }
}

#[test]
fn descriptors_come_with_the_message_that_carries_them() {
    let (near, far) = UnixStream::pair().expect("a pair");
    let (mut read, write) = io::pipe().expect("a pipe");
    let (other, _keep) = io::pipe().expect("a pipe");
    let spawned = ShimReport::Spawned(ProgramIdentity { pid: 5, start_ticks: 6 });
    let bytes = encode(&spawned, b"").expect("fits");
    assert_eq!(send(&far, &bytes, &[write.as_fd(), other.as_fd()]).expect("sent"), bytes.len());
    drop((write, far));
    let mut reader = FrameReader::default();
    while reader.receive(&near).expect("received") > 0 {}
    let frame = reader.next::<ShimReport>().expect("a frame").expect("whole");
    assert_eq!((frame.message, frame.descriptors.len()), (spawned, 2));
    let mut descriptors = frame.descriptors.into_iter().map(File::from);
    descriptors.next().expect("the writer").write_all(b"through").expect("written");
    drop(descriptors);
    let mut text = String::new();
    read.read_to_string(&mut text).expect("read");
    assert_eq!(text, "through");
}

#[test]
fn nonsense_is_an_error_and_not_a_message() {
    for nonsense in [&[0xff; 16][..], b"\x02\0\0\0\0\0\0\0{}", b"\x04\0\0\0\0\0\0\0nulX", &[0; 8]] {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        far.write_all(nonsense).expect("sent");
        let mut reader = FrameReader::default();
        reader.receive(&near).expect("received");
        assert!(reader.next::<ShimOrder>().is_err(), "{nonsense:?}");
    }
}

#[test]
fn a_field_of_a_later_version_is_ignored() {
    let text = r#"{"ended":{"end":{"kind":"exited","code":1},"killed":0,"left":[],"control_groups":"","mood":"good"}}"#;
    assert!(matches!(serde_json::from_str(text), Ok(ShimReport::Ended(EndReport { killed: 0, .. }))));
}
