//! What came in, as far as a strategy may look at it: plain data.

use http::HeaderMap;

use crate::config::Key;

/// One call as assignment sees it.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Request metadata.
    pub metadata: &'a HeaderMap,
    /// Parameters of the first message, in the order they came, scalars in their plain text form; the last of a
    /// name counts.
    pub parameters: &'a [(String, String)],
    /// Numbers of the input tensor that the rollout asks for; none where it asks for none, or they are not there.
    pub input: Option<&'a [f64]>,
}

impl<'a> Call<'a> {
    /// The value under `key`; `None` where it is absent, empty, or not visible ASCII or UTF-8 text.
    pub fn value(&self, key: &Key) -> Option<&'a str> {
        let text = match key {
            Key::Metadata(name) => self.metadata.get(name)?.to_str().ok()?,
            Key::Parameter(name) => {
                let (_, value) = self.parameters.iter().rev().find(|(known, _)| **known == **name)?;
                value
            }
        };
        (!text.is_empty()).then_some(text)
    }
}
