//! The hash behind every split: MurmurHash3 (x86, 32 bits) and the bucket it falls into.
//!
//! Both are those of flagd's fractional evaluation, version 2, so a split can be reproduced by anything that has
//! this hash: `bucket = (hash * total) >> 32`, in integers. Published vectors hold them in place.
//! MurmurHash3 is by Austin Appleby, in the public domain.

pub mod platforms;

/// MurmurHash3_x86_32 of `parts` as if they were one string.
pub fn murmur3_x86_32(seed: u32, parts: &[&[u8]]) -> u32 {
    let mut state = seed;
    let mut length = 0_u32;
    // Bytes that do not fill a block yet, the first in the lowest place.
    let mut tail = 0_u32;
    let mut held = 0_u32;
    for part in parts {
        length = length.wrapping_add(part.len() as u32);
        let mut rest = *part;
        while let Some((byte, after)) = rest.split_first() {
            if held == 0
                && let Some((block, after)) = rest.split_first_chunk()
            {
                state = mix(state, u32::from_le_bytes(*block));
                rest = after;
                continue;
            }
            tail |= u32::from(*byte) << (8 * held);
            held += 1;
            rest = after;
            if held == 4 {
                state = mix(state, tail);
                (tail, held) = (0, 0);
            }
        }
    }
    if held > 0 {
        state ^= scramble(tail);
    }
    finish(state ^ length)
}

fn scramble(block: u32) -> u32 {
    block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

fn mix(state: u32, block: u32) -> u32 {
    (state ^ scramble(block)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

fn finish(mut hash: u32) -> u32 {
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

/// Where a hash falls in `0..total`: as even as 32 bits allow, without the bias of a remainder.
pub fn bucket(hash: u32, total: u32) -> u32 {
    ((u64::from(hash) * u64::from(total)) >> 32) as u32
}

/// Where a unit falls under a salt, which is never used by two rollouts: MurmurHash3 of both, one after the other.
pub fn salted(salt: &str, unit: &str) -> u32 {
    murmur3_x86_32(0, &[salt.as_bytes(), unit.as_bytes()])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_hashes() {
        // Those of the author's own test programs and of flagd's.
        for (seed, text, want) in [
            (0, "", 0),
            (1, "", 0x514e_28b7),
            (u32::MAX, "", 0x81f1_6f39),
            (0x9747_b28c, "aaaa", 0x5a97_808a),
            (0x9747_b28c, "aaa", 0x283e_0130),
            (0x9747_b28c, "aa", 0x5d21_1726),
            (0x9747_b28c, "a", 0x7fa0_9ea6),
            (0x9747_b28c, "Hello, world!", 0x2488_4cba),
            (0x9747_b28c, "ππππππππ", 0xd580_63c1),
            (0, "fractional-flagjack", 2_682_799_072),
        ] {
            assert_eq!(murmur3_x86_32(seed, &[text.as_bytes()]), want, "{text}");
        }
    }

    #[test]
    fn buckets_reach_both_ends_and_no_further() {
        assert_eq!((bucket(0, 100_000), bucket(u32::MAX, 100_000)), (0, 99_999));
        assert_eq!((bucket(0x7fff_ffff, 2), bucket(0x8000_0000, 2)), (0, 1));
        assert_eq!(bucket(u32::MAX, u32::MAX), u32::MAX - 1);
    }

    proptest! {
        #[test]
        fn parts_hash_as_the_whole(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 0..5), seed: u32) {
            let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(murmur3_x86_32(seed, &slices), murmur3_x86_32(seed, &[&parts.concat()]));
        }
    }
}
