//! Sees HTTP/2 frames pass and remembers the little that `h2` keeps to itself: whether the peer acknowledged our
//! SETTINGS and what it said in its own of header lists, whether a header block has begun and not ended, and the last
//! stream of a GOAWAY. Pure.

use super::merge::Candidates;

/// What every HTTP/2 client sends first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's header.
pub(super) const FRAME_HEADER: usize = 9;

/// What carries messages.
pub(super) const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const SETTINGS: u8 = 0x4;
const GOAWAY: u8 = 0x7;
const CONTINUATION: u8 = 0x9;
const FLAG_ACK: u8 = 0x1;
/// SETTINGS_MAX_HEADER_LIST_SIZE, and the bytes of a setting with its value.
const HEADER_LIST: [u8; 2] = [0, 6];
const SETTING: usize = 6;
const FLAG_END_HEADERS: u8 = 0x4;

/// A reader of frame headers, fed with everything a peer sends, in chunks cut anywhere.
#[derive(Debug)]
pub struct FrameWatch {
    /// Bytes of the preface still to come; 0 where none is expected.
    preface: usize,
    is_http2: bool,
    header: [u8; FRAME_HEADER],
    header_len: usize,
    payload: usize,
    kind: u8,
    last_stream: [u8; 4],
    last_stream_len: usize,
    settings_acked: bool,
    setting: [u8; SETTING],
    setting_len: usize,
    header_list: Option<u32>,
    open_block: bool,
    goaway: Option<u32>,
    newest: u32,
    blocks: u64,
    started: bool,
    candidates: Candidates,
}

impl FrameWatch {
    /// Of what a client sends: a preface comes first.
    pub fn of_client() -> Self {
        FrameWatch {
            preface: PREFACE.len(),
            is_http2: true,
            header: [0; FRAME_HEADER],
            header_len: 0,
            payload: 0,
            kind: DATA,
            last_stream: [0; 4],
            last_stream_len: 0,
            settings_acked: false,
            setting: [0; SETTING],
            setting_len: 0,
            header_list: None,
            open_block: false,
            goaway: None,
            newest: 0,
            blocks: 0,
            started: false,
            candidates: Candidates::default(),
        }
    }

    /// Of what a server sends.
    pub fn of_server() -> Self {
        FrameWatch { preface: 0, ..Self::of_client() }
    }

    /// Whether anything came at all.
    pub fn has_started(&self) -> bool {
        self.started
    }

    /// False once the first bytes were not those of HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.is_http2
    }

    /// Whether a client has not yet said, to the last byte, that it speaks HTTP/2.
    pub fn awaits_preface(&self) -> bool {
        self.preface > 0 || !self.is_http2
    }

    /// Whether our SETTINGS were acknowledged.
    pub fn settings_acked(&self) -> bool {
        self.settings_acked
    }

    /// The largest header list that the peer takes, where it said so.
    pub fn header_list(&self) -> Option<u32> {
        self.header_list
    }

    /// The number of the header block that has begun and not ended, or of the frame, other than DATA, that is cut
    /// in the middle; `None` where the peer owes nothing.
    pub fn unfinished(&self) -> Option<u64> {
        let cut = self.header_len > 0 || (self.payload > 0 && self.kind != DATA);
        (self.preface == 0 && (cut || self.open_block)).then_some(self.blocks)
    }

    /// The last stream that the peer says it will process, once it sent GOAWAY.
    pub fn goaway(&self) -> Option<u32> {
        self.goaway
    }

    /// The highest stream that any header block was for; 0 before the first.
    pub fn newest_stream(&self) -> u32 {
        self.newest
    }

    /// How many of the next bytes belong to what began before: the next frame's header is behind them. `None` where it
    /// has begun already.
    pub(super) fn boundary(&self) -> Option<usize> {
        (self.preface == 0 && self.header_len == 0).then_some(self.payload)
    }

    /// How many small DATA frames of the last bytes could join an earlier one of them.
    pub(super) fn candidates(&self) -> usize {
        self.candidates.count()
    }

    /// Takes the next bytes of the peer.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        self.started |= !bytes.is_empty();
        self.candidates = Candidates::default();
        if self.preface > 0 {
            bytes = self.feed_preface(bytes);
        }
        while self.is_http2 && !bytes.is_empty() {
            bytes = if self.payload > 0 { self.feed_payload(bytes) } else { self.feed_header(bytes) };
        }
    }

    fn feed_preface<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let at = PREFACE.len() - self.preface;
        let n = self.preface.min(bytes.len());
        self.is_http2 &= bytes[..n] == PREFACE[at..at + n];
        self.preface -= n;
        &bytes[n..]
    }

    fn feed_header<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let n = (FRAME_HEADER - self.header_len).min(bytes.len());
        self.header[self.header_len..self.header_len + n].copy_from_slice(&bytes[..n]);
        self.header_len += n;
        if self.header_len == FRAME_HEADER {
            self.header_len = 0;
            let [a, b, c, kind, flags, stream @ ..] = self.header;
            self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            self.kind = kind;
            self.last_stream_len = 0;
            self.setting_len = 0;
            let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
            self.candidates.see(kind, self.payload, stream);
            match kind {
                HEADERS | CONTINUATION => {
                    self.open_block = flags & FLAG_END_HEADERS == 0;
                    self.blocks += u64::from(kind == HEADERS);
                    self.newest = self.newest.max(stream);
                }
                SETTINGS => self.settings_acked |= flags & FLAG_ACK != 0,
                _ => {}
            }
        }
        &bytes[n..]
    }

    fn feed_payload<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let n = self.payload.min(bytes.len());
        if self.kind == GOAWAY && self.last_stream_len < 4 {
            let take = (4 - self.last_stream_len).min(n);
            self.last_stream[self.last_stream_len..self.last_stream_len + take]
                .copy_from_slice(&bytes[..take]);
            self.last_stream_len += take;
            if self.last_stream_len == 4 {
                // A second GOAWAY may only lower it.
                let last = u32::from_be_bytes(self.last_stream) & 0x7fff_ffff;
                self.goaway = Some(self.goaway.map_or(last, |before| before.min(last)));
            }
        }
        if self.kind == SETTINGS {
            self.feed_settings(&bytes[..n]);
        }
        self.payload -= n;
        &bytes[n..]
    }

    fn feed_settings(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.setting[self.setting_len] = *byte;
            self.setting_len = (self.setting_len + 1) % SETTING;
            let [a, b, value @ ..] = self.setting;
            if self.setting_len == 0 && [a, b] == HEADER_LIST {
                self.header_list = Some(u32::from_be_bytes(value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = payload.len() as u32;
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.extend(payload);
        bytes
    }

    /// However the bytes are cut, the same is seen.
    fn seen(bytes: &[u8], cut: usize) -> FrameWatch {
        let mut watch = FrameWatch::of_client();
        bytes.chunks(cut).for_each(|chunk| watch.feed(chunk));
        watch
    }

    #[test]
    fn sees_acknowledgement_goaway_and_open_blocks() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(SETTINGS, 0, &[0; 6]));
        bytes.extend(frame(HEADERS, FLAG_END_HEADERS, b"abc"));
        bytes.extend(frame(DATA, 0, &[7; 100]));
        for cut in [1, 2, 9, 24, 1000] {
            let watch = seen(&bytes, cut);
            assert!(watch.is_http2() && !watch.settings_acked() && watch.unfinished().is_none());
        }
        bytes.extend(frame(SETTINGS, FLAG_ACK, b""));
        bytes.extend(frame(GOAWAY, 0, &[0x80, 0, 0, 9, 0, 0, 0, 0]));
        bytes.extend(frame(GOAWAY, 0, &[0, 0, 0, 5, 0, 0, 0, 0]));
        bytes.extend(frame(HEADERS, 0, b"half a block"));
        for cut in [1, 2, 9, 24, 1000] {
            let watch = seen(&bytes, cut);
            assert!(watch.settings_acked());
            assert_eq!(watch.goaway(), Some(5));
            assert_eq!(watch.unfinished(), Some(2));
        }
        bytes.extend(frame(CONTINUATION, FLAG_END_HEADERS, b"the rest"));
        assert_eq!(seen(&bytes, 3).unfinished(), None);
        bytes.extend(&frame(HEADERS, FLAG_END_HEADERS, b"cut")[..10]);
        assert_eq!(seen(&bytes, 3).unfinished(), Some(3));
        assert_eq!(seen(&bytes, 5).newest_stream(), 1);
    }

    #[test]
    fn the_newest_word_on_header_lists_counts() {
        let setting = |id: u8, value: u32| [&[0, id][..], &value.to_be_bytes()].concat();
        let first = [setting(4, 65_535), setting(6, 16_384), setting(5, 6)].concat();
        let mut bytes = frame(SETTINGS, 0, &first);
        for cut in [1, 2, 5, 9, 11, 1000] {
            let mut watch = FrameWatch::of_server();
            assert_eq!(watch.header_list(), None);
            bytes.chunks(cut).for_each(|chunk| watch.feed(chunk));
            assert_eq!(watch.header_list(), Some(16_384), "cut {cut}");
        }
        bytes.extend(frame(SETTINGS, FLAG_ACK, b""));
        bytes.extend(frame(SETTINGS, 0, &setting(6, 8_192)));
        let mut watch = FrameWatch::of_server();
        bytes.chunks(4).for_each(|chunk| watch.feed(chunk));
        assert_eq!(watch.header_list(), Some(8_192));
    }

    #[test]
    fn http1_is_not_http2() {
        assert!(!seen(b"GET / HTTP/1.1\r\n\r\n", 4).is_http2());
        assert!(seen(b"PRI * HT", 4).is_http2());
        assert!(seen(b"PRI * HT", 4).awaits_preface() && !seen(PREFACE, 4).awaits_preface());
        assert!(seen(b"GET / HTTP/1.1\r\nhost: example\r\n\r\n", 4).awaits_preface());
        assert!(seen(b"PRI * HT", 4).unfinished().is_none());
    }
}
