//! Counts by bucket as they are written down: each bucket as its distance from the one before, then its count, all in one
//! list. There are many of them in what replicas tell each other, and most are neighbours.

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serializer};

#[expect(clippy::ptr_arg, reason = "serde asks so")]
pub(super) fn serialize<S: Serializer>(counts: &Vec<(u16, u32)>, to: S) -> Result<S::Ok, S::Error> {
    let mut before = 0;
    let flat = counts.iter().flat_map(|(bucket, count)| {
        let distance = bucket - std::mem::replace(&mut before, *bucket);
        [u32::from(distance), *count]
    });
    to.collect_seq(flat)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(u16, u32)>, D::Error> {
    let flat = Vec::<u32>::deserialize(from)?;
    if !flat.len().is_multiple_of(2) {
        return Err(Error::custom("a bucket without its count"));
    }
    let mut bucket = 0_u16;
    flat.chunks_exact(2)
        .enumerate()
        .map(|(place, pair)| {
            let next = u16::try_from(pair[0]).ok().and_then(|distance| bucket.checked_add(distance));
            // Buckets grow, or they could not be added to.
            bucket =
                next.filter(|next| place == 0 || *next > bucket).ok_or_else(|| Error::custom("no bucket"))?;
            Ok((bucket, pair[1]))
        })
        .collect()
}
