//! Counts the spans of an export request without decoding them: a collector that decodes would take the processor time
//! that the proxies are measured with.

use bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};

use crate::message::PREFIX;

/// `resource_spans`, `scope_spans`, `spans` of an `ExportTraceServiceRequest`.
const WAY: [u32; 3] = [1, 2, 2];

/// Spans in a framed request that is not compressed; `None` where it is no such request.
pub(crate) fn count(framed: &[u8]) -> Option<u64> {
    let (prefix, message) = framed.split_at_checked(PREFIX)?;
    (prefix[0] == 0).then(|| below(message, &WAY))?
}

/// Fields at the end of the way, each step of which is a message in the one before.
fn below(mut message: &[u8], way: &[u32]) -> Option<u64> {
    let Some((step, rest)) = way.split_first() else { return Some(1) };
    let mut found = 0;
    while message.has_remaining() {
        let (number, wire) = decode_key(&mut message).ok()?;
        let length = match wire {
            WireType::Varint => {
                decode_varint(&mut message).ok()?;
                0
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => usize::try_from(decode_varint(&mut message).ok()?).ok()?,
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        let (value, after) = message.split_at_checked(length)?;
        if number == *step && wire == WireType::LengthDelimited {
            found += below(value, rest)?;
        }
        message = after;
    }
    Some(found)
}
