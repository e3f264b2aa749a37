"""A gRPC service that does what the call's own metadata asks of it, and writes down what it saw.

`Echo` has one method of each of the four kinds; messages are raw bytes. Metadata of a request:

    echo-KEY        sent back in the initial metadata, as are further values of it and `-bin` keys
    trail-KEY       sent back in the trailing metadata
    do-code         ends the call with this status number and `do-message-bin`, which is UTF-8
    do-details-bin  as `grpc-status-details-bin`
    do-sleep        waits that many seconds before the first answer
    do-early        answers after the first message, without reading the others
    do-abort        after this many answers ends the call with ABORTED
    do-cancel       the server cancels the call
    do-gzip         answers are compressed
    call            the name under which `seen` keeps what the server saw
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
from grpc_health.v1 import health, health_pb2_grpc

SERVICE = "peers.Echo"
OPTIONS = [("grpc.max_metadata_size", 64 * 1024), ("grpc.absolute_max_metadata_size", 64 * 1024)]
OPTIONS += [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
CODES = {code.value[0]: code for code in grpc.StatusCode}


def grouped(metadata) -> dict[str, list]:
    """Key to its values in their order: gRPC promises the order of one key's values, not that of the keys."""
    result = {}
    for key, value in metadata or ():
        result.setdefault(key, []).append(value)
    return result


@dataclass
class Seen:
    """What the server saw of one call."""

    metadata: dict = field(default_factory=dict)
    messages: list = field(default_factory=list)
    half_closed: bool = False
    remaining: float | None = None
    started: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)


class EchoServer:
    """Runs in this process; `seen[NAME]` is there as soon as a call of that name was started."""

    def __init__(self, port: int = 0, threads: int = 64, credentials: grpc.ServerCredentials | None = None):
        self.seen: dict[str, Seen] = {}
        # No reuse of the port: two servers on one port would answer in turn.
        self._server = grpc.server(
            ThreadPoolExecutor(threads), options=[*OPTIONS, ("grpc.so_reuseport", 0)], maximum_concurrent_rpcs=None
        )
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler(lambda one, context: self._last(iter([one]), context)),
            "Collect": grpc.stream_unary_rpc_method_handler(self._last),
            "Expand": grpc.unary_stream_rpc_method_handler(lambda one, context: self._each(iter([one] * 3), context)),
            "Talk": grpc.stream_stream_rpc_method_handler(self._each),
        }
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, kinds)])
        self.health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        at = f"127.0.0.1:{port}"
        self.port = self._server.add_secure_port(at, credentials) if credentials else self._server.add_insecure_port(at)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *_):
        self._server.stop(None).wait(10)

    def _open(self, context) -> tuple[dict, Seen]:
        """Takes down what came, and does what is asked of the start of a call."""
        asked = grouped(context.invocation_metadata())
        seen = Seen(metadata=asked, remaining=context.time_remaining())
        self.seen[asked.get("call", ["?"])[0]] = seen
        # The callback comes at the end of any call; before the end of the handler it means cancellation.
        context.add_callback(lambda: seen.cancelled.set() if not seen.half_closed else None)
        seen.started.set()
        if "do-gzip" in asked:
            context.set_compression(grpc.Compression.Gzip)
        pairs = [(key, value) for key, values in asked.items() for value in values]
        context.send_initial_metadata([pair for pair in pairs if pair[0].startswith("echo-")])
        trailing = [pair for pair in pairs if pair[0].startswith("trail-")]
        trailing += [("grpc-status-details-bin", value) for value in asked.get("do-details-bin", [])]
        context.set_trailing_metadata(trailing)
        end = time.monotonic() + float(asked.get("do-sleep", ["0"])[0])
        while context.is_active() and time.monotonic() < end:
            time.sleep(0.005)
        if "do-cancel" in asked:
            seen.half_closed = True
            context.cancel()
        return asked, seen

    def _close(self, context, asked: dict, seen: Seen):
        if context.is_active():
            # From here on the end of the call is ours.
            seen.half_closed = True
        if "do-code" in asked:
            context.set_code(CODES[int(asked["do-code"][0])])
            context.set_details(asked.get("do-message-bin", [b""])[0].decode())

    def _last(self, messages, context) -> bytes:
        asked, seen = self._open(context)
        for message in messages:
            seen.messages.append(message)
            if "do-early" in asked:
                break
        self._close(context, asked, seen)
        return b"|".join(seen.messages)

    def _each(self, messages, context):
        asked, seen = self._open(context)
        abort = int(asked.get("do-abort", ["-1"])[0])
        for number, message in enumerate(messages):
            if number == abort:
                seen.half_closed = True
                context.abort(grpc.StatusCode.ABORTED, f"after {abort}")
            seen.messages.append(message)
            yield message
            if "do-early" in asked:
                break
        self._close(context, asked, seen)


@dataclass
class Told:
    """All that a caller can see of one call."""

    code: str
    details: str
    initial: dict
    messages: list
    trailing: dict


def call(channel: grpc.Channel, method: str, messages, metadata=(), timeout=20.0, service=SERVICE, **options) -> Told:
    """Makes a call of any kind by its name and notes what came of it."""
    path = f"/{service}/{method}"
    if method in ("Collect", "Talk"):
        sent = iter(messages)
    else:
        (sent,) = messages
    kind = {
        "Collect": channel.stream_unary,
        "Expand": channel.unary_stream,
        "Talk": channel.stream_stream,
    }.get(method, channel.unary_unary)
    stub = kind(path)
    options = {"metadata": tuple(metadata), "timeout": timeout, **options}
    got = []
    if method in ("Expand", "Talk"):
        running = stub(sent, **options)
        try:
            got.extend(running)
        except grpc.RpcError:
            pass
    else:
        running = stub.future(sent, **options)
        try:
            got.append(running.result())
        except (grpc.RpcError, grpc.FutureCancelledError):
            pass
    return told(running, got)


def told(running, got: list) -> Told:
    """What an ended call said."""
    return Told(
        code=running.code().name,
        details=running.details() or "",
        initial=grouped(running.initial_metadata()),
        messages=got,
        trailing=grouped(running.trailing_metadata()),
    )
