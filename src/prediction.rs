//! The prediction id: what a sidecar says about an answer so that feedback about it can be believed later, by any
//! replica that has the key, without a lookup. Pure.
//!
//! It is base64url without padding of these bytes, big-endian:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 1 | version: 1 |
//! | 1 | 1 | mark of the key that signed it |
//! | 2 | 16 | UUIDv7: the prediction, and when it was made |
//! | 18 | 8 | rollout: hash of the model's name |
//! | 26 | 4 | revision of the rollout |
//! | 30 | 4 | epoch of its split |
//! | 34 | 1 | arm that was assigned |
//! | 35 | 1 | arm that answered; 255: none |
//! | 36 | 1 | reason of the assignment |
//! | 37 | 8 | keyed hash of the unit; 0: none |
//! | 45 | 1 | analysis bucket |
//! | 46 | 4 × arms | where calls are split: how likely each arm was, in parts of 2³² − 1 |
//! | 46 | 2 + 3/8 × slots | where lists are merged: who filled each slot, see [`slots`] |
//! | last | 16 | MAC: BLAKE3, keyed, over all that is before it |
//!
//! An arm is a place among the variants that take part, see [`crate::config::Model::arms`]. With 8 arms at most an id
//! has 94 bytes, 126 characters. Base64 leaves one text for each bytes, so no second spelling of an id is taken.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use crate::assignment::{ARMS, Odds, Reason};
use crate::keys::{Keys, MAC, same};
use crate::stats::hash;

pub mod slots;

use slots::Slots;

/// The longest id, in characters.
pub const MAX_TEXT: usize = (COMMON + 4 * ARMS).div_ceil(3) * 4;
/// The arm of a variant that takes no part.
pub const NO_ARM: u8 = u8::MAX;
/// How much later than its window a prediction is still known.
pub const GRACE: Duration = Duration::from_secs(3600);

const VERSION: u8 = 1;
/// Bytes of an id without a tail.
const COMMON: usize = BODY + MAC;
const BODY: usize = 46;
const MAX_BYTES: usize = COMMON + 4 * ARMS;
/// How far clocks of replicas may be apart.
const AHEAD: Duration = Duration::from_secs(3600);
const BUCKET_SEED: u32 = 0x5eed;
const BUCKET_SALT: &[u8] = b"parhelion analysis bucket";

/// What an id says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prediction {
    /// Which prediction, and when it was made.
    pub uuid: Uuid,
    /// [`rollout`] of the model's name.
    pub rollout: u64,
    /// Of the rollout, when it was made.
    pub revision: u32,
    /// Of its split.
    pub epoch: u32,
    /// The arm that was assigned; [`NO_ARM`] for a variant that takes no part.
    pub assigned: u8,
    /// The arm that answered; [`NO_ARM`] where none did.
    pub served: u8,
    /// Why it was assigned.
    pub reason: Reason,
    /// Keyed hash of the unit, where the call brought one.
    pub unit: Option<u64>,
    /// See [`bucket`].
    pub bucket: u8,
    /// How likely each arm was; empty where calls are not split.
    pub odds: Odds,
    /// Who filled which slot, where lists were merged and that is evidence; never where there are odds.
    pub slots: Option<Slots>,
}

/// Why a text is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It never was an id.
    #[error("is no prediction id: {0}; send `parhelion-prediction-id` of the answer as it came")]
    Malformed(&'static str),
    /// A later version made it.
    #[error("is of version {0}, and this sidecar reads version 1: a newer sidecar made it")]
    Version(u8),
    /// Signed elsewhere, or by a key that is gone.
    #[error(
        "is signed by a key that this sidecar does not have: another installation made it, or its key was taken out \
         of `keys`"
    )]
    Foreign,
    /// Not what was signed.
    #[error("is forged or altered: its signature does not hold")]
    Altered,
    /// Older than any window.
    #[error("has expired: it was made {} s ago, and feedback is taken for {} s", age.as_secs(), longest.as_secs())]
    Expired {
        /// Of the prediction.
        age: Duration,
        /// How old it may be.
        longest: Duration,
    },
    /// From the future.
    #[error("was made {} s in the future: the clock of this sidecar or of the one that made it is wrong", .0.as_secs())]
    Ahead(Duration),
}

/// An id as text.
#[derive(Debug, Clone, Copy)]
pub struct Sealed {
    text: [u8; MAX_TEXT],
    length: u8,
}

impl Sealed {
    /// Visible ASCII, at most [`MAX_TEXT`] of it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }
}

impl Prediction {
    /// The id, signed with the first key.
    pub fn seal(&self, keys: &Keys) -> Sealed {
        let mut bytes = [0; MAX_BYTES];
        let key = keys.first();
        let body = self.write(key.mark(), &mut bytes);
        let mac = key.prediction_mac(&bytes[..body]);
        bytes[body..body + MAC].copy_from_slice(&mac);
        let mut text = [0; MAX_TEXT];
        // The buffer has room for the longest, so this always holds; an empty text would be taken nowhere.
        let length = URL_SAFE_NO_PAD.encode_slice(&bytes[..body + MAC], &mut text).unwrap_or(0);
        Sealed { text, length: length as u8 }
    }

    /// What `text` says, where one of the keys signed it and it is neither older than `longest` nor from the future.
    /// `now` is the time since the Unix epoch.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn open(text: &str, keys: &Keys, now: Duration, longest: Duration) -> Result<Self, Refused> {
        if text.is_empty() {
            return Err(Refused::Malformed("it is empty"));
        }
        if text.len() > MAX_TEXT {
            return Err(Refused::Malformed("it is longer than 128 characters"));
        }
        let mut bytes = [0; MAX_TEXT];
        let length = URL_SAFE_NO_PAD
            .decode_slice(text, &mut bytes)
            .map_err(|_| Refused::Malformed("it is not base64url without padding"))?;
        let (body, mac) = bytes[..length]
            .split_last_chunk::<MAC>()
            .filter(|(body, _)| body.len() >= BODY)
            .ok_or(Refused::Malformed("it is cut off"))?;
        if body[0] != VERSION {
            return Err(Refused::Version(body[0]));
        }
        let key = keys.marked(body[1]).ok_or(Refused::Foreign)?;
        if !same(&key.prediction_mac(body), mac) {
            return Err(Refused::Altered);
        }
        let prediction = Self::read(body).ok_or(Refused::Malformed("its fields make no sense"))?;
        prediction.in_time(now, longest)?;
        Ok(prediction)
    }

    /// When it was made, since the Unix epoch.
    pub fn made(&self) -> Duration {
        made(self.uuid)
    }

    fn in_time(&self, now: Duration, longest: Duration) -> Result<(), Refused> {
        let made = self.made();
        if let Some(ahead) = made.checked_sub(now)
            && ahead > AHEAD
        {
            return Err(Refused::Ahead(ahead));
        }
        let age = now.saturating_sub(made);
        if age > longest { Err(Refused::Expired { age, longest }) } else { Ok(()) }
    }

    /// All but the MAC; returns how many bytes that are.
    fn write(&self, mark: u8, bytes: &mut [u8; MAX_BYTES]) -> usize {
        bytes[0] = VERSION;
        bytes[1] = mark;
        bytes[2..18].copy_from_slice(self.uuid.as_bytes());
        bytes[18..26].copy_from_slice(&self.rollout.to_be_bytes());
        bytes[26..30].copy_from_slice(&self.revision.to_be_bytes());
        bytes[30..34].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[34] = self.assigned;
        bytes[35] = self.served;
        bytes[36] = self.reason.index() as u8;
        bytes[37..45].copy_from_slice(&self.unit.unwrap_or(0).to_be_bytes());
        bytes[45] = self.bucket;
        let mut end = BODY;
        if self.reason == Reason::Interleaved {
            return end + self.slots.as_ref().map_or(0, |slots| slots.write(&mut bytes[end..]));
        }
        for odds in self.odds.as_slice() {
            bytes[end..end + 4].copy_from_slice(&odds.to_be_bytes());
            end += 4;
        }
        end
    }

    /// The reverse of [`Prediction::write`].
    fn read(body: &[u8]) -> Option<Self> {
        let (common, tail) = body.split_first_chunk::<BODY>()?;
        let eight = |at: usize| common[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        let four = |at: usize| common[at..at + 4].try_into().map(u32::from_be_bytes).ok();
        let unit = eight(37)?;
        let reason = *Reason::ALL.get(usize::from(common[36]))?;
        let (odds, slots) = match (reason, tail) {
            (Reason::Interleaved, [_, ..]) => (Odds::NONE, Some(Slots::read(tail)?)),
            _ => (Odds::read(tail)?, None),
        };
        Some(Prediction {
            uuid: Uuid::from_slice(&common[2..18]).ok()?,
            rollout: eight(18)?,
            revision: four(26)?,
            epoch: four(30)?,
            assigned: common[34],
            served: common[35],
            reason,
            unit: (unit != 0).then_some(unit),
            bucket: common[45],
            odds,
            slots,
        })
    }
}

/// When the prediction of that UUIDv7 was made, since the Unix epoch.
pub fn made(uuid: Uuid) -> Duration {
    Duration::from_millis((uuid.as_u128() >> 80) as u64)
}

/// The first 8 bytes of BLAKE3 over a model's name.
pub fn rollout(model: &str) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(model.as_bytes()).as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Which of 256 parts a prediction's evidence is summed in, by the hash of its unit, so that all of a unit's falls
/// into one; a prediction without a unit is a unit of its own.
pub fn bucket(unit: Option<u64>, uuid: Uuid) -> u8 {
    let hash = match unit {
        Some(unit) => hash::murmur3_x86_32(BUCKET_SEED, &[BUCKET_SALT, &unit.to_be_bytes()]),
        None => hash::murmur3_x86_32(BUCKET_SEED, &[BUCKET_SALT, uuid.as_bytes()]),
    };
    (hash >> 24) as u8
}

#[cfg(test)]
mod tests;
