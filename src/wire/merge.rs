//! Small DATA frames of one stream that came in one read become one frame before `h2` sees them. Pure.
//!
//! HTTP/2 gives DATA frames no meaning beside their bytes, their order within a stream and the end that the last one
//! bears, and DATA of different streams has no order at all. So what stands between two frames of any other kind may
//! be put together stream by stream; a frame costs `h2` about as much as copying twenty kilobytes. Nothing is waited
//! for: only what is there already is put together. Large frames, padded ones and empty ones stay as they are.

use super::watch::{DATA, FRAME_HEADER};

/// Frames of this many bytes and more stay alone.
pub(super) const SMALL: usize = 4 * 1024;
/// What every peer must take in one frame, and no more.
const LARGEST: u32 = 16 * 1024;
/// Streams that are put together side by side; a power of two.
const PLACES: usize = 64;

const END_STREAM: u8 = 0x1;
const NO_FRAME: u32 = u32::MAX;

/// Counts frames that could join an earlier one, as they pass.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Candidates {
    /// A bit for each stream, by its number, that had a small DATA frame since the last frame of another kind.
    streams: u64,
    count: usize,
}

impl Candidates {
    /// Takes the next frame's header.
    pub(super) fn see(&mut self, kind: u8, length: usize, stream: u32) {
        if kind != DATA {
            self.streams = 0;
        } else if length < SMALL {
            let bit = 1 << place(stream);
            self.count += usize::from(self.streams & bit != 0);
            self.streams |= bit;
        }
    }

    /// How many frames could join an earlier one.
    pub(super) fn count(&self) -> usize {
        self.count
    }
}

/// Whether `candidates` among `bytes` bytes save more than it costs to copy them all.
pub(super) fn pays(candidates: usize, bytes: usize) -> bool {
    candidates > 0 && candidates * 1024 >= bytes
}

fn place(stream: u32) -> usize {
    (stream >> 1) as usize % PLACES
}

/// Puts frames together. Holds its memory for the next time.
#[derive(Debug)]
pub(super) struct Merger {
    /// Pieces of payloads between two frames of another kind.
    pieces: Vec<Piece>,
    /// Frames to be written, in the order of their first pieces.
    frames: Vec<Frame>,
    /// Index into `frames` of the one that a stream's next piece may join, by the stream's place.
    open: [u32; PLACES],
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    start: u32,
    end: u32,
    /// Index of the frame's next piece.
    next: u32,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    stream: u32,
    flags: u8,
    length: u32,
    /// Its first and last piece.
    first: u32,
    last: u32,
}

impl Default for Merger {
    fn default() -> Self {
        Merger { pieces: Vec::new(), frames: Vec::new(), open: [NO_FRAME; PLACES] }
    }
}

impl Merger {
    /// Writes `bytes` to `out`, of which the first `boundary` are the rest of a frame that began earlier.
    pub(super) fn merge(&mut self, bytes: &[u8], boundary: usize, out: &mut Vec<u8>) {
        out.clear();
        let mut at = boundary.min(bytes.len());
        out.extend_from_slice(&bytes[..at]);
        while let Some([a, b, c, kind, flags, d, e, f, g]) = bytes[at..].first_chunk::<FRAME_HEADER>() {
            let start = at + FRAME_HEADER;
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            if start + length > bytes.len() {
                break;
            }
            let stream = u32::from_be_bytes([*d, *e, *f, *g]) & 0x7fff_ffff;
            if *kind == DATA && length < SMALL && length > 0 && flags & !END_STREAM == 0 {
                self.add(stream, *flags, start, start + length);
            } else {
                self.flush(bytes, out);
                out.extend_from_slice(&bytes[at..start + length]);
            }
            at = start + length;
        }
        self.flush(bytes, out);
        out.extend_from_slice(&bytes[at..]);
    }

    /// Takes a frame whose payload is there from `start` to `end`.
    fn add(&mut self, stream: u32, flags: u8, start: usize, end: usize) {
        let piece = self.pieces.len() as u32;
        self.pieces.push(Piece { start: start as u32, end: end as u32, next: NO_FRAME });
        let length = (end - start) as u32;
        let open = &mut self.open[place(stream)];
        if let Some(frame) = self.frames.get_mut(*open as usize)
            && frame.stream == stream
            && frame.flags == 0
            && frame.length + length <= LARGEST
        {
            self.pieces[frame.last as usize].next = piece;
            frame.last = piece;
            frame.length += length;
            frame.flags = flags;
            return;
        }
        *open = self.frames.len() as u32;
        self.frames.push(Frame { stream, flags, length, first: piece, last: piece });
    }

    /// Writes what was taken.
    fn flush(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for frame in &self.frames {
            self.open[place(frame.stream)] = NO_FRAME;
            let [_, length @ ..] = frame.length.to_be_bytes();
            out.extend_from_slice(&length);
            out.extend_from_slice(&[DATA, frame.flags]);
            out.extend_from_slice(&frame.stream.to_be_bytes());
            let mut piece = self.pieces.get(frame.first as usize);
            while let Some(Piece { start, end, next }) = piece {
                out.extend_from_slice(&bytes[*start as usize..*end as usize]);
                piece = self.pieces.get(*next as usize);
            }
        }
        self.frames.clear();
        self.pieces.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Kind, flags, stream and payload.
    type Frame = (u8, u8, u32, Vec<u8>);
    /// Bytes and flags of one stream.
    type Stream = (Vec<u8>, u8);
    /// What streams brought between two frames of another kind, and the second of those.
    type Stretch = (BTreeMap<u32, Stream>, Option<Vec<u8>>);

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// All whole frames, and what is left behind them.
    fn read(mut bytes: &[u8]) -> (Vec<Frame>, Vec<u8>) {
        let mut frames = Vec::new();
        while let Some([a, b, c, kind, flags, stream @ ..]) = bytes.first_chunk::<FRAME_HEADER>() {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            let Some(payload) = bytes.get(FRAME_HEADER..FRAME_HEADER + length) else { break };
            frames.push((*kind, *flags, u32::from_be_bytes(*stream), payload.to_vec()));
            bytes = &bytes[FRAME_HEADER + length..];
        }
        (frames, bytes.to_vec())
    }

    fn merged(bytes: &[u8], boundary: usize) -> Vec<u8> {
        let mut out = Vec::new();
        Merger::default().merge(bytes, boundary, &mut out);
        out
    }

    #[test]
    fn frames_of_a_stream_come_together_whatever_stands_between() {
        let rest = b"the rest of a frame".as_slice();
        let frames = [
            frame(DATA, 0, 1, b"ab"),
            frame(DATA, 0, 3, b"x"),
            frame(DATA, 0, 1, b"c"),
            frame(DATA, END_STREAM, 3, b"y"),
            frame(DATA, END_STREAM, 1, b"d"),
            frame(0x1, 0x5, 5, b"block"),
            frame(DATA, 0, 5, b"e"),
        ];
        let cut = &frame(DATA, 0, 5, b"cut off")[..11];
        let bytes = [rest, &frames.concat(), cut].concat();
        let out = merged(&bytes, rest.len());
        let wanted = [
            frame(DATA, END_STREAM, 1, b"abcd"),
            frame(DATA, END_STREAM, 3, b"xy"),
            frame(0x1, 0x5, 5, b"block"),
            frame(DATA, 0, 5, b"e"),
        ];
        assert_eq!(out, [rest, &wanted.concat(), cut].concat());
    }

    #[test]
    fn no_frame_grows_over_what_every_peer_takes_and_large_and_empty_ones_stay() {
        let small = frame(DATA, 0, 1, &[7; SMALL - 1]);
        let frames = [small.repeat(9), frame(DATA, 0, 1, &[8; SMALL]), frame(DATA, 0, 1, b""), small];
        let (out, _) = read(&merged(&frames.concat(), 0));
        let lengths: Vec<usize> = out.iter().map(|frame| frame.3.len()).collect();
        let four = 4 * (SMALL - 1);
        assert_eq!(lengths, [four, four, SMALL - 1, SMALL, 0, SMALL - 1]);
    }

    #[test]
    fn only_frames_that_could_join_an_earlier_one_are_counted() {
        let mut seen = Candidates::default();
        for (kind, length, stream) in
            [(1, 9, 1), (DATA, 9, 1), (DATA, 9, 3), (1, 9, 1), (DATA, 9, 1), (DATA, SMALL, 1)]
        {
            seen.see(kind, length, stream);
        }
        assert_eq!(seen.count(), 0);
        (0..5).for_each(|_| seen.see(DATA, 100, 1));
        assert_eq!(seen.count(), 5);
    }

    proptest! {
        /// Whatever came, each stream has the same bytes and the same end between the same other frames.
        #[test]
        fn nothing_is_lost_or_reordered_in_a_stream(
            frames in prop::collection::vec((0u8..3, 0u8..2, 0u32..90, 0usize..40), 0..200),
            cut in 0usize..30,
        ) {
            let mut bytes = Vec::new();
            for (number, (kind, flags, stream, length)) in frames.iter().enumerate() {
                // DATA mostly; now and then another kind.
                let kind = if *kind == 0 && *length < 5 { 0x8 } else { DATA };
                bytes.extend(frame(kind, *flags, 2 * stream + 1, &vec![number as u8; *length]));
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            let (before, left) = read(&bytes);
            let (after, left_after) = read(&merged(&bytes, 0));
            prop_assert_eq!(left, left_after);
            prop_assert!(after.len() <= before.len());
            prop_assert_eq!(by_stream(&before), by_stream(&after));
        }
    }

    /// Between two frames of another kind: each stream's bytes and flags.
    fn by_stream(frames: &[Frame]) -> Vec<Stretch> {
        let mut parts = vec![(BTreeMap::<u32, Stream>::new(), None)];
        for (kind, flags, stream, payload) in frames {
            let Some((streams, other)) = parts.last_mut() else { return Vec::new() };
            if *kind == DATA {
                let (bytes, seen) = streams.entry(*stream).or_default();
                bytes.extend(payload);
                *seen |= flags;
            } else {
                *other = Some(payload.clone());
                parts.push(Default::default());
            }
        }
        parts
    }
}
