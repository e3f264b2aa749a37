//! Segments in a file, each with its length and checksum in front, and what can still be read of a file that was cut or
//! damaged anywhere. Pure.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | [`MAGIC`] |
//! | 8 | 4 | rows in the segment, little-endian |
//! | 12 | 4 | bytes of the segment, little-endian |
//! | 16 | 4 | CRC-32 (IEEE) of rows, length and segment, little-endian |
//! | 20 | | the segment |
//!
//! Whatever does not check is skipped up to the next magic that begins a segment which does: damage costs the segment
//! that it hits, and none behind it.

use std::io::{self, Read, Seek, SeekFrom};

/// Begins a segment. The byte that no text has, and both line ends, show what a careless copy has changed.
pub const MAGIC: [u8; 8] = *b"\x89PHLOG\r\n";
/// Bytes in front of a segment.
pub const HEADER: usize = 20;
/// The longest segment; what says that it is longer is none.
pub const LONGEST: usize = 64 << 20;
/// Bytes that are looked through at once for the next magic.
const STEP: usize = 64 << 10;

/// What is written in front of a segment.
pub fn header(rows: u32, segment: &[u8]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let length = u32::try_from(segment.len()).unwrap_or(u32::MAX);
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&rows.to_le_bytes());
    header[12..16].copy_from_slice(&length.to_le_bytes());
    let sum = checksum(&header[8..16], segment);
    header[16..].copy_from_slice(&sum.to_le_bytes());
    header
}

fn checksum(head: &[u8], segment: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(segment);
    hasher.finalize()
}

/// Segments that are whole, in the order of the file.
#[derive(Debug)]
pub struct Segments<R> {
    file: R,
    at: u64,
    end: u64,
    damage: Damage,
    /// Whether the bytes before `at` are damaged and counted already.
    in_damage: bool,
}

/// What could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Damage {
    /// Places that are damaged; the torn end that a `kill -9` leaves is one.
    pub places: u64,
    /// Bytes that were skipped.
    pub bytes: u64,
}

/// One that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// How many rows it says to have.
    pub rows: u32,
    /// An Arrow IPC stream.
    pub bytes: Vec<u8>,
}

impl<R: Read + Seek> Segments<R> {
    /// From the start of `file`.
    ///
    /// # Errors
    /// When it cannot be measured.
    pub fn new(mut file: R) -> io::Result<Self> {
        let end = file.seek(SeekFrom::End(0))?;
        Ok(Segments { file, at: 0, end, damage: Damage::default(), in_damage: false })
    }

    /// What was skipped so far; all there is once there are no more segments.
    pub fn damage(&self) -> Damage {
        self.damage
    }

    /// The next that is whole.
    ///
    /// # Errors
    /// When the file cannot be read; damage is none.
    pub fn next_segment(&mut self) -> io::Result<Option<Segment>> {
        while self.at < self.end {
            if let Some(segment) = self.read()? {
                self.at += (HEADER + segment.bytes.len()) as u64;
                self.in_damage = false;
                return Ok(Some(segment));
            }
            let next = self.find(self.at + 1)?;
            self.damage.places += u64::from(!self.in_damage);
            self.in_damage = true;
            self.damage.bytes += next - self.at;
            self.at = next;
        }
        Ok(None)
    }

    /// The segment that begins here; none where none does, or it is damaged.
    fn read(&mut self) -> io::Result<Option<Segment>> {
        let left = self.end - self.at;
        if left < HEADER as u64 {
            return Ok(None);
        }
        self.file.seek(SeekFrom::Start(self.at))?;
        let mut head = [0; HEADER];
        self.file.read_exact(&mut head)?;
        let number =
            |at: usize| head[at..at + 4].iter().rev().fold(0_u32, |all, byte| all << 8 | u32::from(*byte));
        let (rows, length, sum) = (number(8), number(12), number(16));
        let fits = u64::from(length) <= left - HEADER as u64 && length as usize <= LONGEST;
        if head[..8] != MAGIC || !fits {
            return Ok(None);
        }
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes)?;
        Ok((checksum(&head[8..16], &bytes) == sum).then_some(Segment { rows, bytes }))
    }

    /// Where the next magic begins, at `from` or behind it; the end of the file where there is none.
    fn find(&mut self, from: u64) -> io::Result<u64> {
        let mut at = from;
        let mut window = vec![0; STEP + MAGIC.len() - 1];
        while at + MAGIC.len() as u64 <= self.end {
            let size = usize::try_from(self.end - at).unwrap_or(usize::MAX).min(window.len());
            let window = &mut window[..size];
            self.file.seek(SeekFrom::Start(at))?;
            self.file.read_exact(window)?;
            if let Some(found) = window.windows(MAGIC.len()).position(|bytes| bytes == MAGIC) {
                return Ok(at + found as u64);
            }
            at += (size - (MAGIC.len() - 1)) as u64;
        }
        Ok(self.end)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn file(segments: &[&[u8]]) -> Vec<u8> {
        let mut file = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            file.extend_from_slice(&header(index as u32 + 1, segment));
            file.extend_from_slice(segment);
        }
        file
    }

    fn read(file: &[u8]) -> (Vec<u32>, Damage) {
        let mut segments = Segments::new(Cursor::new(file)).unwrap();
        let mut rows = Vec::new();
        while let Some(segment) = segments.next_segment().unwrap() {
            rows.push(segment.rows);
        }
        (rows, segments.damage())
    }

    /// Segments of which one holds what looks like a segment's beginning.
    fn three() -> (Vec<u8>, [usize; 4]) {
        let tricky = [&[7; 40][..], &MAGIC, &[1; 60]].concat();
        let segments: [&[u8]; 3] = [&[1; 100], &tricky, b"the last one"];
        let mut ends = [0; 4];
        for (index, segment) in segments.iter().enumerate() {
            ends[index + 1] = ends[index] + HEADER + segment.len();
        }
        (file(&segments), ends)
    }

    #[test]
    fn what_is_whole_is_read_in_order() {
        let (file, _) = three();
        assert_eq!(read(&file), (vec![1, 2, 3], Damage::default()));
        assert_eq!(read(&[]), (vec![], Damage::default()));
        assert_eq!(read(b"something else altogether"), (vec![], Damage { places: 1, bytes: 25 }));
    }

    #[test]
    fn wherever_it_is_cut_all_before_the_cut_is_read() {
        let (file, ends) = three();
        for cut in 0..file.len() {
            let whole = ends.iter().skip(1).filter(|end| **end <= cut).count();
            let (rows, damage) = read(&file[..cut]);
            assert_eq!(rows, (1..=whole as u32).collect::<Vec<_>>(), "cut at {cut}");
            assert_eq!(damage.bytes as usize, cut - ends[whole], "cut at {cut}");
        }
    }

    #[test]
    fn whichever_byte_is_changed_only_its_segment_is_lost() {
        let (file, ends) = three();
        for at in 0..file.len() {
            let hit = ends.iter().skip(1).filter(|end| **end <= at).count() as u32 + 1;
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = file.clone();
                damaged[at] ^= flip;
                let (rows, damage) = read(&damaged);
                let expected: Vec<u32> = (1..=3).filter(|row| *row != hit).collect();
                assert_eq!(rows, expected, "byte {at}");
                assert_eq!(damage.places, 1, "byte {at}");
            }
        }
    }

    #[test]
    fn a_magic_at_the_border_of_what_is_looked_through_is_found() {
        for before in STEP - 9..STEP + 9 {
            let mut file = vec![0; before];
            file.extend_from_slice(&header(5, b"x"));
            file.push(b'x');
            assert_eq!(read(&file), (vec![5], Damage { places: 1, bytes: before as u64 }));
        }
    }
}
