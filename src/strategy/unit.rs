//! The keyed hash that a unit is known by in records: SipHash-2-4, 64 bits (Aumasson and Bernstein, INDOCRYPT 2012).
//!
//! It is made for every call that brings a unit, and units are short. SipHash is a pseudorandom function made for just
//! that: without the key nobody can tell which unit a hash stands for, not even by trying all that are likely. Which
//! variant a unit gets hangs on another hash, [`crate::stats::hash`].

/// The secret without which a hash tells nothing about its unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnitKey(u64, u64);

impl UnitKey {
    /// From the first 16 bytes of a secret, each half little-endian.
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        let (low, rest) = secret.split_at(8);
        UnitKey(word(low), word(&rest[..8]))
    }

    /// Of `unit`'s bytes.
    pub(super) fn hash(self, unit: &[u8]) -> u64 {
        let mut state = State([
            self.0 ^ 0x736f_6d65_7073_6575,
            self.1 ^ 0x646f_7261_6e64_6f6d,
            self.0 ^ 0x6c79_6765_6e65_7261,
            self.1 ^ 0x7465_6462_7974_6573,
        ]);
        let mut blocks = unit.chunks_exact(8);
        for block in &mut blocks {
            state.take(word(block));
        }
        // The last block holds what is left and, in its highest byte, the length.
        state.take(word(blocks.remainder()) | (unit.len() as u64) << 56);
        state.finish()
    }
}

struct State([u64; 4]);

impl State {
    fn take(&mut self, block: u64) {
        self.0[3] ^= block;
        self.round();
        self.round();
        self.0[0] ^= block;
    }

    fn finish(mut self) -> u64 {
        self.0[2] ^= 0xff;
        for _ in 0..4 {
            self.round();
        }
        self.0[0] ^ self.0[1] ^ self.0[2] ^ self.0[3]
    }

    fn round(&mut self) {
        let [a, b, c, d] = &mut self.0;
        *a = a.wrapping_add(*b);
        *b = b.rotate_left(13) ^ *a;
        *a = a.rotate_left(32);
        *c = c.wrapping_add(*d);
        *d = d.rotate_left(16) ^ *c;
        *a = a.wrapping_add(*d);
        *d = d.rotate_left(21) ^ *a;
        *c = c.wrapping_add(*b);
        *b = b.rotate_left(17) ^ *c;
        *c = c.rotate_left(32);
    }
}

/// At most 8 bytes as a number, little-endian.
fn word(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(whole) => u64::from_le_bytes(*whole),
        None => bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the authors' reference implementation: the key is 0, 1, … 15, the message 0, 1, … of each length.
    #[test]
    fn published_vectors_hold() {
        let secret: [u8; 32] = std::array::from_fn(|at| at as u8);
        let key = UnitKey::new(&secret);
        let message: Vec<u8> = (0..15).collect();
        assert_eq!(key.hash(&[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(key.hash(&message), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn another_key_gives_another_hash() {
        assert_ne!(UnitKey::new(&[1; 32]).hash(b"ann"), UnitKey::new(&[2; 32]).hash(b"ann"));
        assert_ne!(UnitKey::new(&[1; 32]).hash(b"ann"), UnitKey::new(&[1; 32]).hash(b"ann\0"));
    }
}
