"""HTTP/2 down to the frame, as an attacker writes it: no library, so nothing holds it back."""

import select
import socket
import struct
import time

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, ACK = 1, 4, 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PATH = b"/peers.Echo/Unary"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value, indexed=False):
    """A header field with its name and value as they are; `indexed`: to be remembered by the peer."""
    return (b"\x40" if indexed else b"\x00") + _text(name) + _text(value)


def _text(text):
    number = len(text)
    if number < 127:
        return bytes([number]) + text
    out, number = b"\x7f", number - 127
    while number >= 128:
        out, number = out + bytes([number % 128 + 128]), number // 128
    return out + bytes([number]) + text


def call(*more, path=PATH):
    """The header block of a call in good order, with more fields behind."""
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"test"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    ]
    return b"".join(literal(*field) for field in [*fields, *more])


def message(payload):
    return b"\0" + struct.pack(">I", len(payload)) + payload


class Connection:
    """One connection, and everything that came back."""

    def __init__(self, port, greet=True):
        self.socket = socket.create_connection(("127.0.0.1", port), 5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.buffer = b""
        self.closed = False
        self.goaway = None
        self.resets = []
        self.ended = set()
        self.sent = 0
        if greet:
            self.write(PREFACE + frame(SETTINGS, 0, 0))
            self.read(0.5, lambda: self.greeted)
            self.write(frame(SETTINGS, ACK, 0))

    greeted = False

    def write(self, data, deaf=False, patience=2.0):
        """Sends it all, reading meanwhile; False where the peer takes no more."""
        end = time.monotonic() + patience
        while data and not self.closed:
            if not deaf:
                self._take()
            try:
                n = self.socket.send(data)
                data, self.sent = data[n:], self.sent + n
                end = time.monotonic() + patience
            except BlockingIOError:
                if time.monotonic() > end:
                    return False
                select.select([] if deaf else [self.socket], [self.socket], [], 0.1)
            except OSError:
                self.closed = True
        return not data

    def read(self, seconds, enough=lambda: False):
        """Reads until `enough`, the peer's end, or the time is over."""
        end = time.monotonic() + seconds
        while not self.closed and not enough() and (left := end - time.monotonic()) > 0:
            select.select([self.socket], [], [], min(left, 0.2))
            self._take()
        return enough()

    def _take(self):
        while not self.closed:
            try:
                data = self.socket.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.closed = True
            self.buffer += data
        while len(self.buffer) >= 9:
            length = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + length:
                break
            kind, flags = self.buffer[3], self.buffer[4]
            stream = int.from_bytes(self.buffer[5:9], "big") & 0x7FFFFFFF
            payload, self.buffer = self.buffer[9 : 9 + length], self.buffer[9 + length :]
            if kind == SETTINGS and not flags & ACK:
                self.greeted = True
            elif kind == GOAWAY:
                self.goaway = int.from_bytes(payload[4:8], "big")
            elif kind == RST:
                self.resets.append(int.from_bytes(payload[:4], "big"))
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                self.ended.add(stream)

    def close(self):
        self.socket.close()
