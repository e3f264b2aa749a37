use proptest::prelude::*;

use super::*;
use crate::protocol::tests::cut;

fn framed(messages: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (flag, message) in messages {
        bytes.extend_from_slice(&prefix(*flag, message.len() as u32));
        bytes.extend_from_slice(message);
    }
    bytes
}

/// Puts the messages together again from the events.
fn collect(messages: &mut Messages, chunks: &[&[u8]]) -> Result<Vec<(u8, Vec<u8>)>, FrameError> {
    let mut done = Vec::new();
    let mut open = None;
    for chunk in chunks {
        messages.walk(chunk, |event| match event {
            Event::Start { compressed, length } => open = Some((compressed, length as usize, Vec::new())),
            Event::Payload(part) => {
                assert!(!part.is_empty());
                open.as_mut().expect("payload outside a message").2.extend_from_slice(part);
            }
            Event::End => {
                let (flag, length, body) = open.take().expect("end outside a message");
                assert_eq!(body.len(), length);
                done.push((flag, body));
            }
        })?;
    }
    Ok(done)
}

#[test]
fn an_empty_message_starts_and_ends_at_its_prefix() {
    let mut messages = Messages::new(0);
    let mut events = Vec::new();
    messages.walk(&[0, 0, 0, 0, 0, 1, 0], |event| events.push(event)).unwrap();
    assert_eq!(events, [Event::Start { compressed: 0, length: 0 }, Event::End]);
    assert_eq!((messages.count(), messages.is_between(), messages.unfinished()), (1, false, true));
}

#[test]
fn a_length_over_the_limit_is_refused_at_its_prefix_and_stays_so() {
    let mut messages = Messages::new(10);
    assert_eq!(messages.skip(&[0, 0xff, 0xff, 0xff]), Ok(()));
    let error = FrameError::TooLarge { length: u32::MAX, limit: 10 };
    assert_eq!(messages.skip(&[0xff]), Err(error));
    assert_eq!(messages.skip(&[0, 0, 0, 0, 0, 0]), Err(error));
    assert_eq!(messages.count(), 0);
    let mut exact = Messages::new(10);
    assert_eq!(exact.skip(&prefix(0, 10)), Ok(()));
    assert!(exact.unfinished());
}

proptest! {
    #[test]
    fn messages_are_the_same_however_they_are_cut(
        messages in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..8),
        at in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        let bytes = framed(&messages);
        let chunks = cut(&bytes, &at);
        let mut splitter = Messages::new(40);
        let seen = collect(&mut splitter, &chunks);
        prop_assert_eq!(seen.as_ref(), Ok(&messages));
        prop_assert!(splitter.is_between());
        prop_assert_eq!(splitter.count(), messages.len() as u64);
        let mut skipped = Messages::new(40);
        for chunk in &chunks {
            prop_assert_eq!(skipped.skip(chunk), Ok(()));
        }
        prop_assert_eq!(skipped.count(), splitter.count());
    }

    #[test]
    fn any_bytes_give_the_same_end_however_they_are_cut(
        bytes in proptest::collection::vec(prop_oneof![Just(0_u8), Just(3), any::<u8>()], 0..120),
        at in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        let (mut whole, mut parts) = (Messages::new(300), Messages::new(300));
        let want = collect(&mut whole, &[&bytes]);
        prop_assert_eq!(collect(&mut parts, &cut(&bytes, &at)), want);
        prop_assert_eq!(whole.count(), parts.count());
        prop_assert_eq!(whole.is_between(), parts.is_between());
    }
}
