//! Has the allocator give back to the system what it keeps for later.
//!
//! mimalloc gives pages back a second after they were freed, but only while others are freed: after a burst it keeps
//! what the burst took until something moves again, and a control group counts that as used. A process that refuses
//! calls for want of memory moves nothing. Its own call for this is not safe code; what is, and does the same, is to ask
//! for more than there can be: before it says no, it collects all that the thread has free and gives back whatever no
//! thread uses. Another allocator only says no.

use std::hint::black_box;

/// More than any address space has, and no more than may be asked for.
const TOO_MUCH: usize = 1 << 62;

/// Gives back what this thread has free, and what no thread uses. It takes some tens of microseconds where there is
/// nothing to give, and up to some milliseconds where there is much.
pub fn give_back() {
    let mut none = Vec::<u8>::new();
    // Looked at, so that nobody finds it needless and leaves it out.
    let refused = black_box(&mut none).try_reserve_exact(black_box(TOO_MUCH)).is_err();
    debug_assert!(refused, "nobody has so much");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_for_too_much_harms_nothing() {
        let kept = vec![7_u8; 1 << 20];
        give_back();
        give_back();
        assert!(kept.iter().all(|byte| *byte == 7));
    }
}
