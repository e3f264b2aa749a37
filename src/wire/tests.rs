use std::future::poll_fn;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

fn pair(room: usize) -> (Corked<DuplexStream>, Cork<DuplexStream>, DuplexStream) {
    let (near, far) = duplex(room);
    let (corked, cork) = cork(near, &Scratch::new(), FrameWatch::of_server());
    (corked, cork, far)
}

#[tokio::test]
async fn writes_of_one_poll_leave_together_and_in_order() {
    let (mut corked, cork, mut far) = pair(1 << 20);
    poll_fn(|cx| {
        let result = cork.drive(cx, |cx| {
            for word in [&b"one "[..], b"two ", b"three"] {
                assert!(matches!(Pin::new(&mut corked).poll_write(cx, word), Poll::Ready(Ok(n)) if n == word.len()));
            }
            Poll::Ready(())
        });
        result.unwrap()
    })
    .await;
    let mut buf = [0; 64];
    let n = far.read(&mut buf).await.unwrap();
    assert_eq!(&buf[..n], b"one two three");
}

#[tokio::test]
async fn what_is_held_back_leaves_with_what_comes_behind_it_or_when_it_is_much() {
    let (mut corked, cork, mut far) = pair(4 << 20);
    let mut say = |words: &[&[u8]]| {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let said = cork.drive(&mut cx, |cx| {
            for word in words {
                assert!(
                    Pin::new(&mut corked).poll_write(cx, word).is_ready(),
                    "who writes is not kept waiting"
                );
            }
            Poll::Ready(())
        });
        assert!(said.unwrap().is_ready());
    };
    let mut buf = vec![0; 2 << 20];
    cork.hold();
    say(&[b"one "]);
    say(&[b"two ", b"three "]);
    assert!(at_once(far.read(&mut buf)).await.is_none(), "nothing has left");
    cork.let_go();
    say(&[b"four"]);
    let n = far.read(&mut buf).await.unwrap();
    assert_eq!(&buf[..n], b"one two three four");
    cork.hold();
    let much = vec![7; CHUNK / 2];
    say(&[&much]);
    assert!(at_once(far.read(&mut buf)).await.is_none(), "it may be still more");
    say(&[&much, b"end"]);
    far.read_exact(&mut buf[..CHUNK + 3]).await.unwrap();
    assert_eq!(&buf[CHUNK..CHUNK + 3], b"end");
}

/// What is there at once.
async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn what_the_socket_does_not_take_waits_and_nothing_is_lost() {
    let (mut corked, cork, mut far) = pair(7);
    let text: Vec<u8> = (0..=255).cycle().take(3 * CHUNK).collect();
    let sent = text.clone();
    let writer = async move {
        let mut at = 0;
        poll_fn(|cx| {
            let done = cork.drive(cx, |cx| {
                while at < sent.len() {
                    let end = (at + 10_000).min(sent.len());
                    match Pin::new(&mut corked).poll_write(cx, &sent[at..end]) {
                        Poll::Ready(n) => at += n.unwrap(),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Pin::new(&mut corked).poll_shutdown(cx)
            });
            done.unwrap()
        })
        .await
        .unwrap();
    };
    let mut got = Vec::new();
    let reader = far.read_to_end(&mut got);
    let ((), read) = tokio::join!(writer, reader);
    read.unwrap();
    assert!(got == text);
}

#[tokio::test]
async fn reads_larger_than_the_readers_buffer_are_kept() {
    let (mut corked, _cork, mut far) = pair(1 << 20);
    let text: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    far.write_all(&text).await.unwrap();
    drop(far);
    let mut got = Vec::new();
    let mut small = [0; 1000];
    loop {
        let n = corked.read(&mut small).await.unwrap();
        if n == 0 {
            break;
        }
        got.extend_from_slice(&small[..n]);
    }
    assert!(got == text);
}

#[tokio::test]
async fn what_one_poll_left_waits_for_the_next_and_no_other_connection_sees_it() {
    let scratch = Scratch::new();
    let (mut ends, mut texts) = (Vec::new(), Vec::new());
    for text in [[b'a'; 5000], [b'b'; 5000]] {
        let (near, mut far) = duplex(1 << 20);
        far.write_all(&text).await.unwrap();
        ends.push((cork(near, &scratch, FrameWatch::of_server()), far));
        texts.push(Vec::new());
    }
    for _ in 0..5 {
        for (((corked, cork), _), got) in ends.iter_mut().zip(&mut texts) {
            let mut room = [0; 1000];
            let n = poll_fn(|cx| {
                let mut buf = ReadBuf::new(&mut room);
                let read = cork.drive(cx, |cx| Pin::new(&mut *corked).poll_read(cx, &mut buf));
                read.unwrap().map(|read| read.map(|()| buf.filled().len()))
            });
            let n = n.await.unwrap();
            got.extend_from_slice(&room[..n]);
        }
    }
    assert_eq!(texts, [vec![b'a'; 5000], vec![b'b'; 5000]]);
}

#[tokio::test]
async fn reads_into_much_room_and_into_little_come_in_order() {
    let (mut corked, cork, mut far) = pair(1 << 20);
    let text: Vec<u8> = (0..=255).cycle().take(600_000).collect();
    far.write_all(&text).await.unwrap();
    drop(far);
    let mut got = Vec::new();
    for room in [9, DIRECT, 100, 2 * DIRECT].into_iter().cycle() {
        let mut room = vec![0; room];
        let n = poll_fn(|cx| {
            let mut buf = ReadBuf::new(&mut room);
            let read = cork.drive(cx, |cx| Pin::new(&mut corked).poll_read(cx, &mut buf));
            read.unwrap().map(|read| read.map(|()| buf.filled().len()))
        });
        let n = n.await.unwrap();
        if n == 0 {
            break;
        }
        got.extend_from_slice(&room[..n]);
    }
    assert!(got == text);
}

#[tokio::test]
async fn large_pieces_leave_in_order_with_small_bytes_between_whatever_the_socket_takes() {
    use bytes::{Buf, Bytes};

    use super::piece::Piece;

    for room in [700, 50_000, 1 << 20] {
        let (mut corked, cork, mut far) = pair(room);
        let text: Vec<u8> = (0..=250).cycle().take(2 * CHUNK).collect();
        let mut rest = Bytes::from(text.clone());
        let writer = async move {
            poll_fn(|cx| {
                let done = cork.drive(cx, |cx| {
                    while !rest.is_empty() {
                        // A small slice and a large one, as a frame's header and its payload.
                        let small = rest.slice(..9.min(rest.len()));
                        let large = Piece::from(rest.slice(small.len()..rest.len().min(20_000)));
                        let slices = [io::IoSlice::new(&small), io::IoSlice::new(large.chunk())];
                        match Pin::new(&mut corked).poll_write_vectored(cx, &slices) {
                            Poll::Ready(n) => rest.advance(n.unwrap()),
                            Poll::Pending => return Poll::Pending,
                        }
                    }
                    Pin::new(&mut corked).poll_shutdown(cx)
                });
                done.unwrap()
            })
            .await
            .unwrap();
        };
        let mut got = Vec::new();
        let reader = far.read_to_end(&mut got);
        let ((), read) = tokio::join!(writer, reader);
        read.unwrap();
        assert!(got == text, "{room}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_floods_is_read_in_turns_and_bursts_and_nothing_is_lost() {
    let (mut corked, cork, mut far) = pair(4 * pace::BURST);
    cork.keep_pace();
    let text: Vec<u8> = (0..=255).cycle().take(3 * pace::BURST).collect();
    far.write_all(&text).await.unwrap();
    drop(far);
    let began = tokio::time::Instant::now();
    let (mut got, mut turns, mut at_once) = (Vec::new(), 0, 0);
    poll_fn(|cx| {
        let before = got.len();
        let polled = cork.drive(cx, |cx| {
            loop {
                let mut room = [0; 10_000];
                let mut buf = ReadBuf::new(&mut room);
                ready!(Pin::new(&mut corked).poll_read(cx, &mut buf)).unwrap();
                if buf.filled().is_empty() {
                    return Poll::Ready(());
                }
                got.extend_from_slice(buf.filled());
            }
        });
        turns += 1;
        assert!(got.len() - before <= pace::TURN);
        if began.elapsed().is_zero() {
            at_once = got.len();
        }
        polled.unwrap()
    })
    .await;
    assert!(got == text);
    assert!(turns >= text.len() / pace::TURN, "{turns}");
    assert_eq!(at_once, pace::BURST);
    assert!(began.elapsed() >= std::time::Duration::from_millis(2));
}

#[tokio::test]
async fn a_goaway_that_a_failing_write_came_before_is_seen_all_the_same() {
    let (mut corked, cork, mut far) = pair(1 << 10);
    far.write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0]).await.unwrap();
    drop(far);
    let driven = poll_fn(|cx| {
        let write = |cx: &mut Context<'_>| Pin::new(&mut corked).poll_write(cx, b"too late");
        Poll::Ready(cork.drive(cx, write).map(|_| ()))
    });
    assert_eq!(driven.await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(cork.watch().goaway(), None);
    poll_fn(|cx| cork.poll_last_words(cx)).await;
    assert_eq!(cork.watch().goaway(), Some(5));
}
