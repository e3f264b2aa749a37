"""Any service behind the sidecar looks as it does without it.

Each case is one call, made to the echo server itself and then through the sidecar; what the caller was told and
what the server saw must be equal, but for the documented keys.
"""

import os
import threading
import time
from dataclasses import dataclass, field

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from echo import SERVICE, Seen, Told, call, told
from processes import wait_for
from sidecar import OWN_REQUEST_KEYS, OWN_RESPONSE_KEYS

KINDS = ["Unary", "Collect", "Expand", "Talk"]
PERCENT = "100 % ünïcøde: \u2713 \"quoted\"\ttab\nnew line"


@dataclass
class Case:
    """One call. `method` None: one of each kind."""

    name: str
    method: str | None = None
    messages: list = field(default_factory=lambda: [b"hello"])
    metadata: list = field(default_factory=list)
    options: dict = field(default_factory=dict)


def one_or_many(name: str, **more) -> list[Case]:
    """The case for each of the four kinds of RPC; the streaming ones send three messages."""
    many = [b"first", b"second", b"third"]
    return [
        Case(f"{name}, {kind}", kind, many if kind in ("Collect", "Talk") else many[:1], **more) for kind in KINDS
    ]


CASES = [
    *one_or_many("plain"),
    *one_or_many(
        "metadata of all sorts",
        metadata=[
            ("echo-a", "1"),
            ("echo-a", "2"),
            ("echo-a", "1"),
            ("echo-empty", ""),
            ("echo-commas", "a, b,,c"),
            ("echo-all-bin", bytes(range(256))),
            ("echo-all-bin", b"\x00"),
            ("echo-odd-bin", b"1"),
            ("trail-a", "x"),
            ("trail-a", "y"),
            ("trail-all-bin", bytes(reversed(range(256)))),
        ],
    ),
    *one_or_many("trailers of 8 KiB", metadata=[(f"trail-{n}", "t" * 1000) for n in range(8)] + [("trail-8-bin", b"b" * 192)]),
    *one_or_many("initial metadata of 8 KiB", metadata=[("echo-long", "e" * 8192)]),
    *one_or_many(
        "status details",
        metadata=[
            ("do-code", "9"),
            ("do-message-bin", b"no"),
            ("do-details-bin", b"\x08\x09\x12\x02no\x1a\x03\xff\x00\x01"),
        ],
    ),
    *one_or_many("compressed both ways", metadata=[("do-gzip", "1")], options={"compression": grpc.Compression.Gzip}),
    *one_or_many("compressed request", options={"compression": grpc.Compression.Deflate}),
    *one_or_many("compressed answer", metadata=[("do-gzip", "1")]),
    *one_or_many("early answer", metadata=[("do-early", "1")]),
    *[
        Case(f"status {code}", "Unary", metadata=[("do-code", str(code)), ("do-message-bin", f"this is {code}".encode())])
        for code in range(17)
    ],
    *[
        Case(f"status {code} after messages", "Talk", [b"a", b"b"], [("do-code", str(code)), ("do-message-bin", PERCENT.encode())])
        for code in range(17)
    ],
    *one_or_many("percent-encoded message", metadata=[("do-code", "3"), ("do-message-bin", PERCENT.encode())]),
    *one_or_many("long status message", metadata=[("do-code", "13"), ("do-message-bin", b"m" * 4000)]),
    Case("aborted in the middle", "Talk", [b"a", b"b", b"c"], [("do-abort", "2")]),
    Case("aborted at once", "Talk", [b"a"], [("do-abort", "0"), ("trail-a", "1")]),
    Case("no message", "Collect", []),
    Case("no message in, none out", "Talk", []),
    Case("empty message", "Unary", [b""]),
    Case("empty messages", "Talk", [b""] * 5),
    Case("message of 3 MiB", "Unary", [os.urandom(3 << 20)]),
    Case("messages of 1 MiB", "Talk", [os.urandom(1 << 20) for _ in range(8)]),
    Case("a thousand small messages", "Talk", [str(n).encode() for n in range(1000)]),
    Case("a thousand messages in, one out", "Collect", [str(n).encode() for n in range(1000)]),
    Case("unknown method", "NoSuchMethod"),
]


def observe(channel: grpc.Channel, echo, case: Case) -> tuple[Told, Seen | None]:
    """Both ends of one call; `None` where the server has no such method."""
    echo.seen.clear()
    answer = call(channel, case.method, case.messages, [*case.metadata, ("call", "it")], **case.options)
    seen = echo.seen.get("it")
    if seen:
        # After an early answer or a refusal the last messages may still be under way, and nobody reads them.
        wait_for("the end of the call at the server", lambda: seen.half_closed, 5)
    return answer, seen


def less(metadata: dict, keys: set) -> dict:
    return {key: values for key, values in metadata.items() if key not in keys}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_as_without_the_sidecar(direct, through, echo, case):
    expected, expected_seen = observe(direct, echo, case)
    got, seen = observe(through, echo, case)

    assert (got.code, got.details) == (expected.code, expected.details)
    assert got.messages == expected.messages
    assert less(got.initial, OWN_RESPONSE_KEYS) == expected.initial
    assert less(got.trailing, OWN_RESPONSE_KEYS) == expected.trailing
    assert OWN_RESPONSE_KEYS <= got.initial.keys() | got.trailing.keys()

    assert (seen is None) == (expected_seen is None)
    if seen:
        assert less(seen.metadata, OWN_REQUEST_KEYS) == expected_seen.metadata
        assert seen.messages == expected_seen.messages
        # C-core rounds what it sends up, by half a percent at most.
        assert seen.remaining <= 20.1
        assert seen.remaining == pytest.approx(expected_seen.remaining, abs=1.0)


def test_no_deadline_stays_none(direct, through, echo):
    for channel in (direct, through):
        call(channel, "Unary", [b"x"], [("call", "patient")], timeout=None)
        # C-core says "none" as a time that no clock reaches.
        remaining = echo.seen.pop("patient").remaining
        assert remaining is None or remaining > 1e8


@pytest.mark.parametrize("where", ["direct", "through"])
def test_a_conversation_in_lockstep(request, where):
    """Every message waits for the answer to the one before it, so nothing may be held back for more."""
    channel = request.getfixturevalue(where)
    answered = threading.Semaphore(1)

    def speak():
        for number in range(50):
            assert answered.acquire(timeout=10)
            yield str(number).encode()

    running = channel.stream_stream(f"/{SERVICE}/Talk")(speak(), timeout=20)
    for number in range(50):
        assert next(running) == str(number).encode()
        answered.release()
    assert list(running) == []
    assert running.code() == grpc.StatusCode.OK


@pytest.mark.parametrize("where", ["direct", "through"])
def test_the_half_close_is_passed_on_and_not_before(request, echo, where):
    channel = request.getfixturevalue(where)
    close = threading.Event()

    def speak():
        yield b"one"
        close.wait(10)

    running = channel.stream_unary(f"/{SERVICE}/Collect").future(speak(), metadata=[("call", where)], timeout=20)
    seen = wait_for("the call at the server", lambda: echo.seen.get(where), 5)
    wait_for("the message at the server", lambda: seen.messages == [b"one"], 5)
    assert not running.done() and not seen.half_closed
    close.set()
    assert running.result(10) == b"one"


@pytest.mark.parametrize("where", ["direct", "through"])
def test_an_answer_before_the_request_ended(request, where):
    channel = request.getfixturevalue(where)
    end = threading.Event()

    def speak():
        yield b"one"
        # The answer must come while this is still open.
        end.wait(10)

    running = channel.stream_unary(f"/{SERVICE}/Collect").future(speak(), metadata=[("do-early", "1")], timeout=20)
    try:
        assert running.result(5) == b"one"
        assert told(running, []).code == "OK"
        assert not end.is_set()
    finally:
        end.set()


@pytest.mark.parametrize("where", ["direct", "through"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_deadline_ends_the_call_on_both_sides(request, echo, where, kind):
    channel = request.getfixturevalue(where)
    name = f"late {where} {kind}"
    start = time.monotonic()
    answer = call(channel, kind, [b"x"], [("do-sleep", "10"), ("call", name)], timeout=0.3)
    took = time.monotonic() - start
    assert answer.code == "DEADLINE_EXCEEDED"
    assert 0.25 < took < 1.0
    seen = echo.seen[name]
    # C-core rounds what it sends up, by a few milliseconds at most.
    assert seen.remaining <= 0.31
    assert seen.cancelled.wait(1.0)


@pytest.mark.parametrize("where", ["direct", "through"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_callers_cancel_reaches_the_server(request, echo, where, kind):
    channel = request.getfixturevalue(where)
    name = f"cancel {where} {kind}"
    options = {"metadata": [("do-sleep", "10"), ("call", name)], "timeout": 20}
    running = {
        "Unary": lambda: channel.unary_unary(f"/{SERVICE}/Unary").future(b"x", **options),
        "Collect": lambda: channel.stream_unary(f"/{SERVICE}/Collect").future(iter([b"x"]), **options),
        "Expand": lambda: channel.unary_stream(f"/{SERVICE}/Expand")(b"x", **options),
        "Talk": lambda: channel.stream_stream(f"/{SERVICE}/Talk")(iter([b"x"]), **options),
    }[kind]()
    seen = wait_for("the call at the server", lambda: echo.seen.get(name), 5)
    assert not seen.cancelled.is_set()
    running.cancel()
    assert seen.cancelled.wait(1.0)
    assert running.code() == grpc.StatusCode.CANCELLED


@pytest.mark.parametrize("kind", KINDS)
def test_the_servers_cancel_reaches_the_caller(direct, through, kind):
    start = time.monotonic()
    got = [call(channel, kind, [b"x"], [("do-cancel", "1")]) for channel in (direct, through)]
    assert [answer.code for answer in got] == ["CANCELLED", "CANCELLED"]
    assert time.monotonic() - start < 5


def test_a_thousand_calls_at_once(through):
    stub = through.unary_unary(f"/{SERVICE}/Unary")
    bodies = [f"call {number} ".encode() * 50 for number in range(1000)]
    running = [stub.future(body, timeout=60) for body in bodies]
    assert [one.result() for one in running] == bodies


def test_health_of_the_server_behind_it(direct, through, echo):
    """grpc.health.v1 on the data port is the server's own, not the sidecar's."""
    echo.health.set("toaster", health_pb2.HealthCheckResponse.NOT_SERVING)
    for channel in (direct, through):
        stub = health_pb2_grpc.HealthStub(channel)
        check = stub.Check(health_pb2.HealthCheckRequest(service="toaster"), timeout=5)
        assert check.status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as unknown:
            stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=5)
        assert unknown.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_watch_tells_each_change(through, echo):
    echo.health.set("kettle", health_pb2.HealthCheckResponse.SERVING)
    watch = health_pb2_grpc.HealthStub(through).Watch(health_pb2.HealthCheckRequest(service="kettle"), timeout=10)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    echo.health.set("kettle", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()
