//! What RFC 9113 and RFC 7541 say a server does about each thing that a client must not do, and about odd things that it
//! may: a table by section, a connection for each row.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::attack::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INFER, PING, PRIORITY, RST_STREAM, Raw,
    SETTINGS, WINDOW_UPDATE, block, call, frame, message, reset, setting, window,
};
use crate::support::process::{LONG, Model, Sidecar, infer, one};

const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const CLOSED: u32 = 5;
const FRAME_SIZE: u32 = 6;
const COMPRESSION: u32 = 9;
/// `h2` has the coarser code for frames of a wrong length and for a setting that is out of bounds.
const LENGTH: &[u32] = &[FRAME_SIZE, PROTOCOL];
const BOUNDS: &[u32] = &[FLOW_CONTROL, PROTOCOL];
const PUSH_PROMISE: u8 = 5;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 0x20;
const SENTINEL: &[u8; 8] = b"sentinel";
/// The largest frame that the sidecar says it takes.
const LARGEST: usize = 64 * 1024;

/// What must come of it.
#[derive(Debug, Clone, Copy)]
enum Must {
    /// The connection goes on: a PING behind it is answered.
    GoOn,
    /// The call on stream 1 is answered with OK.
    Answer,
    /// GOAWAY with one of these codes, and closed.
    End(&'static [u32]),
    /// The stream is reset with one of these codes, or as [`Must::End`].
    Reset(&'static [u32]),
}
use Must::{Answer, End, GoOn, Reset};

/// HEADERS of a call that goes on.
fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &call(INFER, &[]))
}

/// A whole call.
fn whole(stream: u32) -> Vec<u8> {
    [open(stream), frame(DATA, END_STREAM, stream, &message("conform"))].concat()
}

/// A call whose header block is this.
fn with(block: &[u8]) -> Vec<u8> {
    [frame(HEADERS, END_HEADERS, 1, block), frame(DATA, END_STREAM, 1, &message("conform"))].concat()
}

/// A header block of a call with fields changed: those named are left out, and these come behind.
fn changed(without: &[&str], more: &[(&str, &[u8])]) -> Vec<u8> {
    let fields: [(&str, &[u8]); 6] = [
        (":method", b"POST"),
        (":scheme", b"http"),
        (":path", INFER.as_bytes()),
        (":authority", b"test"),
        ("content-type", b"application/grpc"),
        ("te", b"trailers"),
    ];
    let mut all: Vec<(&str, &[u8])> =
        fields.into_iter().filter(|(name, _)| !without.contains(name)).collect();
    all.extend(more);
    with(&block(&all))
}

fn padded(kind: u8, flags: u8, pad: u8, payload: &[u8]) -> Vec<u8> {
    frame(kind, flags | PADDED, 1, &[&[pad], payload].concat())
}

/// Section 4 and 5: frames, streams and their states.
fn frames() -> Vec<(&'static str, Vec<u8>, Must)> {
    let ended = || [whole(1), vec![]].concat();
    let odd_ping = [0, 0, 8, PING, 0xfe, 0x80, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8].to_vec();
    vec![
        ("4.1 a frame of an unknown kind", frame(0xfa, 0xff, 0, &[7; 100]), GoOn),
        ("4.1 unknown flags and the reserved bit", odd_ping, GoOn),
        ("4.2 a frame as large as is taken", [open(1), frame(DATA, 0, 1, &[0; LARGEST])].concat(), GoOn),
        ("4.2 a larger one", [open(1), frame(DATA, 0, 1, &[0; LARGEST + 1])].concat(), Reset(&[FRAME_SIZE])),
        (
            "4.2 HEADERS that are larger",
            frame(HEADERS, END_HEADERS, 1, &[0; LARGEST + 1]),
            End(&[FRAME_SIZE]),
        ),
        (
            "4.3 a block that is no block",
            frame(HEADERS, END_HEADERS, 1, &[0x40]),
            End(&[COMPRESSION, PROTOCOL]),
        ),
        (
            "4.3 PRIORITY inside a block",
            [frame(HEADERS, 0, 1, &call(INFER, &[])), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])].concat(),
            End(&[PROTOCOL]),
        ),
        (
            "4.3 another stream's HEADERS inside a block",
            [frame(HEADERS, 0, 1, &call(INFER, &[])), open(3)].concat(),
            End(&[PROTOCOL]),
        ),
        (
            "5.5 an unknown frame inside a block",
            [frame(HEADERS, 0, 1, &call(INFER, &[])), frame(0xfa, 0, 1, &[])].concat(),
            End(&[PROTOCOL]),
        ),
        ("5.1 DATA on an idle stream", frame(DATA, END_STREAM, 1, b"x"), End(&[PROTOCOL])),
        ("5.1 RST_STREAM on an idle stream", reset(1, 8), End(&[PROTOCOL])),
        ("5.1 WINDOW_UPDATE on an idle stream", window(1, 100), End(&[PROTOCOL])),
        ("5.1 CONTINUATION on an idle stream", frame(CONTINUATION, END_HEADERS, 1, &[]), End(&[PROTOCOL])),
        (
            "5.1 DATA on a half-closed stream",
            [ended(), frame(DATA, END_STREAM, 1, b"x")].concat(),
            Reset(&[CLOSED, PROTOCOL]),
        ),
        ("5.1 HEADERS on a half-closed stream", [ended(), open(1)].concat(), Reset(&[CLOSED, PROTOCOL])),
        (
            "5.1 CONTINUATION on a half-closed stream",
            [ended(), frame(CONTINUATION, END_HEADERS, 1, &[])].concat(),
            End(&[CLOSED, PROTOCOL]),
        ),
        // Frames may cross a reset, so they may be let pass.
        ("5.1 DATA behind a reset", [open(1), reset(1, 8), frame(DATA, 0, 1, b"x")].concat(), GoOn),
        ("5.1.1 a stream of an even number", open(2), End(&[PROTOCOL])),
        ("5.1.1 a number below one before", [open(5), open(3)].concat(), End(&[PROTOCOL, CLOSED])),
        (
            "5.1.1 DATA on a number that was passed over",
            [open(5), frame(DATA, 0, 3, b"x")].concat(),
            Reset(&[PROTOCOL, CLOSED]),
        ),
    ]
}

/// Section 6: each kind of frame.
fn kinds() -> Vec<(&'static str, Vec<u8>, Must)> {
    let block = call(INFER, &[]);
    let prioritized = [&[0, 0, 0, 0, 16][..], &block].concat();
    let (half, rest) = block.split_at(block.len() / 2);
    let body = frame(DATA, END_STREAM, 1, &message("conform"));
    let in_three = [
        frame(HEADERS, 0, 1, half),
        frame(CONTINUATION, 0, 1, &[]),
        frame(CONTINUATION, END_HEADERS, 1, rest),
        body.clone(),
    ];
    vec![
        ("6.1 DATA on stream 0", frame(DATA, 0, 0, b"x"), End(&[PROTOCOL])),
        (
            "6.1 padded DATA",
            [open(1), padded(DATA, END_STREAM, 9, &[message("conform"), vec![0; 9]].concat())].concat(),
            Answer,
        ),
        ("6.1 more padding than there is", [open(1), padded(DATA, 0, 9, b"x")].concat(), End(&[PROTOCOL])),
        ("6.2 HEADERS on stream 0", frame(HEADERS, END_HEADERS, 0, &block), End(&[PROTOCOL])),
        (
            "6.2 padded HEADERS",
            [padded(HEADERS, END_HEADERS, 4, &[block.clone(), vec![0; 4]].concat()), body.clone()].concat(),
            Answer,
        ),
        (
            "6.2 HEADERS with a priority",
            [frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, &prioritized), body.clone()].concat(),
            Answer,
        ),
        ("6.2 more padding than there is", padded(HEADERS, END_HEADERS, 255, &block[..40]), End(&[PROTOCOL])),
        ("6.3 PRIORITY of an idle stream", frame(PRIORITY, 0, 9, &[0, 0, 0, 0, 1]), GoOn),
        ("6.3 PRIORITY on stream 0", frame(PRIORITY, 0, 0, &[0, 0, 0, 0, 1]), End(&[PROTOCOL])),
        ("6.3 PRIORITY of another length", [open(1), frame(PRIORITY, 0, 1, &[0; 4])].concat(), Reset(LENGTH)),
        ("6.4 RST_STREAM on stream 0", reset(0, 8), End(&[PROTOCOL])),
        (
            "6.4 RST_STREAM of another length",
            [open(1), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
            End(LENGTH),
        ),
        ("6.5 an acknowledgement with a payload", frame(SETTINGS, 1, 0, &[0; 6]), End(LENGTH)),
        ("6.5 SETTINGS on a stream", frame(SETTINGS, 0, 1, &[]), End(&[PROTOCOL])),
        ("6.5 SETTINGS of an odd length", frame(SETTINGS, 0, 0, &[0; 5]), End(LENGTH)),
        ("6.5.2 ENABLE_PUSH of 2", setting(2, 2), End(&[PROTOCOL])),
        ("6.5.2 a window of 2^31", setting(4, 1 << 31), End(BOUNDS)),
        ("6.5.2 frames below 16,384", setting(5, 16_383), End(&[PROTOCOL])),
        ("6.5.2 frames of 2^24", setting(5, 1 << 24), End(&[PROTOCOL])),
        ("6.5.2 a setting that nobody knows", setting(0x7a7a, 7), GoOn),
        (
            "6.6 PUSH_PROMISE of a client",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
            End(&[PROTOCOL]),
        ),
        ("6.7 PING on a stream", frame(PING, 0, 1, &[7; 8]), End(&[PROTOCOL])),
        ("6.7 PING of another length", frame(PING, 0, 0, &[7; 6]), End(LENGTH)),
        ("6.7 an answer to no PING", frame(PING, 1, 0, &[7; 8]), GoOn),
        ("6.8 GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), End(&[PROTOCOL])),
        ("6.9 a window that grows by nothing", window(0, 0), End(&[PROTOCOL])),
        ("6.9 that of a stream", [open(1), window(1, 0)].concat(), Reset(&[PROTOCOL])),
        ("6.9 WINDOW_UPDATE of another length", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), End(LENGTH)),
        ("6.9.1 a window over 2^31 - 1", window(0, 0x7fff_ffff), End(&[FLOW_CONTROL])),
        ("6.9.1 that of a stream", [open(1), window(1, 0x7fff_ffff)].concat(), Reset(&[FLOW_CONTROL])),
        (
            "6.9.2 over it by SETTINGS",
            [open(1), window(1, 0x7fff_0000), setting(4, 0x7fff_ffff)].concat(),
            End(&[FLOW_CONTROL]),
        ),
        (
            "6.9.2 a window made smaller and larger",
            [setting(4, 0), whole(1), setting(4, 65_535)].concat(),
            Answer,
        ),
        ("6.10 a block in three frames", in_three.concat(), Answer),
        (
            "6.10 DATA inside a block",
            [frame(HEADERS, 0, 1, half), frame(DATA, 0, 1, b"x")].concat(),
            End(&[PROTOCOL]),
        ),
        (
            "6.10 CONTINUATION on stream 0",
            [frame(HEADERS, 0, 1, half), frame(CONTINUATION, END_HEADERS, 0, rest)].concat(),
            End(&[PROTOCOL]),
        ),
        (
            "6.10 CONTINUATION behind a whole block",
            [open(1), frame(CONTINUATION, END_HEADERS, 1, rest)].concat(),
            End(&[PROTOCOL]),
        ),
    ]
}

/// Section 8: what a request is made of.
fn requests() -> Vec<(&'static str, Vec<u8>, Must)> {
    const BAD: Must = Reset(&[PROTOCOL]);
    let second = frame(HEADERS, END_HEADERS, 1, &block(&[("x-more", b"1")]));
    let trailers = |fields: &[(&str, &[u8])]| {
        let body = frame(DATA, 0, 1, &message("conform"));
        [open(1), body, frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields))].concat()
    };
    vec![
        ("8.1 a request with trailers", trailers(&[("x-last", b"1")]), Answer),
        ("8.1 HEADERS in the middle of a request", [open(1), second].concat(), BAD),
        // They are left out of what is passed on, and nobody sees them.
        ("8.1 pseudo fields among trailers", trailers(&[(":method", b"POST")]), Answer),
        ("8.1.1 more than content-length says", changed(&[], &[("content-length", b"1")]), BAD),
        ("8.1.1 less than it says", changed(&[], &[("content-length", b"4000")]), BAD),
        ("8.2.1 a name with capitals", changed(&[], &[("X-Upper", b"1")]), BAD),
        ("8.2.1 a name with a blank", changed(&[], &[("x y", b"1")]), BAD),
        ("8.2.1 a value with a line feed", changed(&[], &[("x-y", b"a\nb")]), BAD),
        ("8.2.1 a value with NUL", changed(&[], &[("x-y", b"a\0b")]), BAD),
        ("8.2.2 connection", changed(&[], &[("connection", b"keep-alive")]), BAD),
        ("8.2.2 transfer-encoding", changed(&[], &[("transfer-encoding", b"chunked")]), BAD),
        ("8.2.2 te that asks for more", changed(&["te"], &[("te", b"trailers, deflate")]), BAD),
        ("8.3 a pseudo field that is none", changed(&[], &[(":odd", b"1")]), BAD),
        ("8.3 one of a response", changed(&[], &[(":status", b"200")]), BAD),
        ("8.3 one behind the others", changed(&[":path"], &[(":path", INFER.as_bytes())]), BAD),
        ("8.3.1 an empty path", with(&path(b"")), BAD),
        ("8.3.1 no method", changed(&[":method"], &[]), BAD),
        ("8.3.1 no scheme", changed(&[":scheme"], &[]), BAD),
        ("8.3.1 no path", changed(&[":path"], &[]), BAD),
        ("8.3.1 two methods", with(&twice(":method", b"POST")), BAD),
        ("8.3.1 two schemes", with(&twice(":scheme", b"http")), BAD),
        ("8.3.1 two paths", with(&twice(":path", INFER.as_bytes())), BAD),
    ]
}

fn path(path: &[u8]) -> Vec<u8> {
    let rest = [("content-type", &b"application/grpc"[..]), ("te", b"trailers")];
    let first = [(":method", &b"POST"[..]), (":scheme", b"http"), (":path", path), (":authority", b"test")];
    block(&[&first[..], &rest].concat())
}

/// A call's block with a field before all others once more.
fn twice(name: &str, value: &[u8]) -> Vec<u8> {
    [block(&[(name, value)]), call(INFER, &[])].concat()
}

/// RFC 7541: compressed header fields.
fn compression() -> Vec<(&'static str, Vec<u8>, Must)> {
    const BAD: Must = End(&[COMPRESSION, PROTOCOL]);
    let behind = |bytes: &[u8]| with(&[&call(INFER, &[]), bytes].concat());
    let before = |bytes: &[u8]| with(&[bytes, &call(INFER, &[])].concat());
    vec![
        ("HPACK 2.3.3 an entry that is not there", behind(&[0xff, 0x7f]), BAD),
        ("HPACK 4.2 a table's size behind fields", behind(&[0x20]), BAD),
        ("HPACK 4.2 a smaller table", before(&[0x20]), Answer),
        ("HPACK 6.3 a table larger than is allowed", before(&[0x3f, 0xe2, 0x1f]), BAD),
        ("HPACK 5.1 a number without end", behind(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), BAD),
        // `x`, and a value in Huffman's code: padded by a byte, padded by zeros, with the end of strings inside.
        ("HPACK 5.2 too much padding", behind(&[0, 1, b'x', 0x82, 0x1f, 0xff]), BAD),
        ("HPACK 5.2 padding that is none", behind(&[0, 1, b'x', 0x81, 0x18]), BAD),
        ("HPACK 5.2 an end inside", behind(&[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]), BAD),
        ("HPACK 6.1 index 0", behind(&[0x80]), BAD),
        ("HPACK 6.2 a string longer than the block", behind(&[0, 1, b'x', 0x7e, b'y']), BAD),
    ]
}

/// What came of `bytes` behind a greeting; `None` where it is as it must be.
async fn wrong(address: SocketAddr, bytes: &[u8], must: Must) -> Option<String> {
    let mut raw = Raw::greet(address, &[]).await;
    raw.write(bytes).await;
    let sentinel = |raw: &Raw| raw.frames.iter().any(|one| one.kind == PING && one.payload == SENTINEL);
    let goaway = |raw: &Raw| raw.last(GOAWAY).map(|one| one.code());
    let good = match must {
        GoOn => {
            raw.write(&frame(PING, 0, 0, SENTINEL)).await;
            raw.read_until(sentinel, LONG).await && goaway(&raw).is_none()
        }
        Answer => raw.read_until(|raw| raw.ended(1), LONG).await && raw.reset_of(1).is_none(),
        End(codes) => raw.closes(LONG).await && goaway(&raw).is_some_and(|code| codes.contains(&code)),
        Reset(codes) => {
            raw.read_until(|raw| raw.count(RST_STREAM) > 0 || goaway(raw).is_some(), LONG).await;
            let told = raw.last(RST_STREAM).map(|one| one.code()).or_else(|| goaway(&raw));
            told.is_some_and(|code| codes.contains(&code))
        }
    };
    let kinds: Vec<(u8, u32)> = raw.frames.iter().map(|one| (one.kind, one.stream)).collect();
    let said =
        format!("reset {:?}, GOAWAY {:?}, closed {}, {kinds:?}", raw.reset_of(1), goaway(&raw), raw.closed);
    (!good).then(|| format!("{must:?}: {said}"))
}

#[tokio::test]
async fn a_client_that_breaks_the_rules_is_told_so_as_the_rules_say() {
    let model = Model::start("1.0.0");
    let sidecar = Sidecar::ready(&one(model.address)).await;
    let all = [frames(), kinds(), requests(), compression()].concat();
    assert!(all.len() >= 80, "{} rows", all.len());
    let mut failures = Vec::new();
    for (what, bytes, must) in &all {
        match tokio::time::timeout(Duration::from_secs(30), wrong(sidecar.data, bytes, *must)).await {
            Ok(None) => {}
            Ok(Some(why)) => failures.push(format!("{what}: {why}")),
            Err(_) => failures.push(format!("{what}: nothing within 30 s")),
        }
    }
    assert!(failures.is_empty(), "{} of {} rows:\n{}", failures.len(), all.len(), failures.join("\n"));
    infer(&sidecar.client(), "").await.unwrap();
    assert_eq!(sidecar.metric("parhelion_panics_total").await, 0);
}
