"""What a hostile caller does, each bounded in frames and in time. Each returns the connections that it used."""

import struct

from frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    RST,
    SETTINGS,
    WINDOW,
    Connection,
    call,
    frame,
    literal,
)

CANCEL = struct.pack(">I", 8)
NAMES = {
    0: "NO_ERROR", 1: "PROTOCOL_ERROR", 2: "INTERNAL_ERROR", 3: "FLOW_CONTROL_ERROR", 5: "STREAM_CLOSED",
    7: "REFUSED_STREAM", 8: "CANCEL", 9: "COMPRESSION_ERROR", 11: "ENHANCE_YOUR_CALM",
}  # fmt: skip


def many(port, count, make, batch=10, wait=3.0):
    """Sends what `make` gives for each stream, a batch a write, until the peer has enough."""
    it = Connection(port)
    it.streams = 0
    for first in range(0, count, batch):
        data = b"".join(make(2 * number + 1) for number in range(first, min(first + batch, count)))
        if not it.write(data) or it.closed or it.goaway is not None:
            break
        it.streams = min(first + batch, count)
    it.read(wait, lambda: it.goaway is not None)
    return [it]


def opened(stream, *more):
    return frame(HEADERS, END_HEADERS, stream, call(*more))


def rapid_reset(port):
    return many(port, 20_000, lambda stream: opened(stream) + frame(RST, 0, stream, CANCEL))


def window_overflow(port):
    grow = struct.pack(">I", 0x7FFFFFFF)
    return many(port, 20_000, lambda stream: opened(stream) + frame(WINDOW, 0, stream, grow) * 2)


def priority_on_itself(port):
    def make(stream):
        return opened(stream) + frame(PRIORITY, 0, stream, struct.pack(">I", stream) + b"\x10")

    return many(port, 20_000, make)


def wrong_content_length(port):
    def make(stream):
        return opened(stream, (b"content-length", b"1")) + frame(DATA, END_STREAM, stream, b"too much")

    return many(port, 20_000, make)


def data_after_the_end(port):
    def make(stream):
        return frame(HEADERS, END_HEADERS | END_STREAM, stream, call()) + frame(DATA, 0, stream, b"x")

    return many(port, 20_000, make)


def open_streams(port):
    return many(port, 5_000, opened)


def empty_data(port):
    it = Connection(port)
    it.write(opened(1))
    it.streams = 0
    for _ in range(200):
        if not it.write(frame(DATA, 0, 1) * 100) or it.goaway is not None:
            break
        it.streams += 100
    it.read(3.0, lambda: it.goaway is not None)
    return [it]


def continuation(port):
    it = Connection(port)
    it.write(frame(HEADERS, 0, 1, call()))
    it.streams = 0
    for _ in range(2_000):
        if not it.write(frame(CONTINUATION, 0, 1, literal(b"x", b"y" * 1_000))) or it.closed or it.goaway is not None:
            break
        it.streams += 1
    it.read(3.0, lambda: it.goaway is not None or it.closed)
    return [it]


def hpack_bomb(port):
    """An entry of 4,000 bytes, remembered once and named 3,000 times in each block."""
    it = Connection(port)
    it.streams = 0
    for number in range(50):
        entry = literal(b"bomb", b"x" * 4_000, indexed=True) if number == 0 else b""
        block = call() + entry + b"\xbe" * 3_000
        if not it.write(frame(HEADERS, END_HEADERS, 2 * number + 1, block)) or it.closed or it.goaway is not None:
            break
        it.streams += 1
    it.read(3.0, lambda: it.goaway is not None)
    return [it]


def _flood(port, one, deaf=False):
    """50,000 of a frame that costs little."""
    it = Connection(port)
    it.streams = 0
    for _ in range(500):
        if not it.write(one * 100, deaf=deaf) or it.goaway is not None:
            break
        it.streams += 100
    if not deaf:
        it.read(1.0, lambda: it.goaway is not None)
    return [it]


def pings(port):
    return _flood(port, frame(PING, 0, 0, b"8 bytes."))


def deaf_pings(port):
    return _flood(port, frame(PING, 0, 0, b"8 bytes."), deaf=True)


def settings(port):
    return _flood(port, frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535)))


def window_updates(port):
    return _flood(port, frame(WINDOW, 0, 0, struct.pack(">I", 1)))


def priorities(port):
    return _flood(port, frame(PRIORITY, 0, 1001, struct.pack(">I", 0) + b"\x10"))


def lying_prefix(port):
    """A thousand messages that say they have 2 GiB, and stop there."""
    prefix = b"\0" + struct.pack(">I", 1 << 31)
    return many(port, 1_000, lambda stream: opened(stream) + frame(DATA, 0, stream, prefix), wait=1.0)


def _silent(port, first):
    """Twenty connections that send `first` and no more; they are watched for 13 s."""
    all = [Connection(port, greet=False) for _ in range(20)]
    for it in all:
        it.streams = 0
        it.write(first)
    for it in all:
        it.read(13.0 if it is all[0] else 0.5)
    return all


def say_nothing(port):
    return _silent(port, b"")


def half_a_preface(port):
    return _silent(port, PREFACE[:12])


def only_a_preface(port):
    return _silent(port, PREFACE)


def settings_never_acknowledged(port):
    return _silent(port, PREFACE + frame(SETTINGS, 0, 0))


def half_a_header_block(port):
    block = frame(HEADERS, END_HEADERS, 1, call())
    return _silent(port, PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0) + block[: len(block) // 2])


ALL = [
    rapid_reset,
    window_overflow,
    priority_on_itself,
    wrong_content_length,
    data_after_the_end,
    open_streams,
    empty_data,
    continuation,
    hpack_bomb,
    pings,
    deaf_pings,
    settings,
    window_updates,
    priorities,
    lying_prefix,
    say_nothing,
    half_a_preface,
    only_a_preface,
    settings_never_acknowledged,
    half_a_header_block,
]


def verdict(connections):
    """In a few words what the peer did."""
    if len(connections) > 1:
        closed = sum(it.closed for it in connections)
        return f"{closed} of {len(connections)} closed"
    (it,) = connections
    sent = f"after {it.streams:,}" if it.streams else "at once"
    if it.goaway is not None:
        return f"GOAWAY {NAMES.get(it.goaway, it.goaway)} {sent}"
    if it.closed:
        return f"closed {sent}"
    told = f", {len(it.resets):,} refused" if it.resets else ""
    return f"all {it.streams:,} taken{told}"
