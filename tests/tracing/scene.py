"""What tests/tracing/phoenix plays inside the network namespace: two versions of a model, calls, and the checks.

Each check makes its own calls, reads back from Phoenix what became of them, and returns what it saw in words; a check
that is added needs a function and its name in `CHECKS`.
"""

import argparse
import contextlib
import fcntl
import os
import signal
import socket
import struct
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"

from backend import Phoenix, Span  # noqa: E402
from inference import ask, own, reported_version, request  # noqa: E402
from models import NEW, OLD, Classifier, ModelServer, train  # noqa: E402
from relay import Relay  # noqa: E402
from sidecar import Sidecar  # noqa: E402

INFER = "inference.GRPCInferenceService/ModelInfer"


@dataclass
class Scene:
    """What runs."""

    phoenix: Phoenix
    sidecar: Sidecar
    classifier: Classifier
    # Ways to a model server that can be closed.
    relays: list[Relay]

    def ask(self, row: int, metadata=(), model: str = "digits"):
        message = request(self.classifier.rows[row : row + 1], raw=True, model=model).SerializeToString()
        return ask(self.sidecar.address, "ModelInfer", [message], metadata)

    def prediction(self, answer) -> Span:
        """The sidecar's server span of an answer, found by the id that the caller was told."""
        wanted = own(answer)["parhelion-prediction-id"]
        (span,) = self.phoenix.wait_for(
            f"prediction {wanted}",
            lambda span: span.attributes.get("parhelion.prediction_id") == wanted,
        )
        return span

    def children(self, parent: Span, count: int = 1) -> list[Span]:
        found = self.phoenix.wait_for(f"spans below {parent.id}", lambda span: span.parent == parent.id, count)
        assert all(span.trace == parent.trace for span in found), "a trace is torn apart"
        assert len(found) == count, [span.name for span in found]
        return found


def check_predictions(scene: Scene) -> str:
    """Each prediction names its variant and version, and leads to the span of the server that made it."""
    seen, trace = Counter(), ""
    for number in range(20):
        answer = scene.ask(number, [("x-user-id", f"user-{number}")])
        assert answer.code == "OK", answer
        told, span = own(answer), scene.prediction(answer)
        assert span.name == INFER and span.parent is None
        assert span.attributes["feature_flag.key"] == span.attributes["parhelion.model"] == "digits"
        assert span.attributes["parhelion.variant"] == told["parhelion-variant"]
        assert span.attributes["parhelion.version"] == told["parhelion-model-version"]
        assert span.attributes["parhelion.reported_version"] == reported_version(answer)
        assert reported_version(answer) == told["parhelion-model-version"]
        (attempt,) = scene.children(span)
        assert attempt.attributes["parhelion.attempt"] == 1
        assert attempt.attributes["parhelion.version"] == told["parhelion-model-version"]
        (server,) = scene.children(attempt)
        assert server.name == f"/{INFER}" and not any(key.startswith("parhelion.") for key in server.attributes)
        seen[told["parhelion-variant"], told["parhelion-model-version"]] += 1
        trace = span.trace
    assert seen.keys() == {("old", OLD), ("new", NEW)}
    counts = ", ".join(f"{count} by {variant} ({version})" for (variant, version), count in seen.items())
    return f"20 predictions, {counts}; the model server's own span ends each trace, such as {trace}"


def check_attempts(scene: Scene) -> str:
    """A call whose endpoints take no connection any more: both attempts, and whose fault it was."""
    for relay in scene.relays:
        relay.refuse()
    answer = scene.ask(0, [("parhelion-variant", "away")])
    assert answer.code == "UNAVAILABLE", answer
    span = scene.prediction(answer)
    assert span.status == "ERROR"
    assert span.attributes["parhelion.assigned"] == "away" and span.attributes["parhelion.blame"] == "upstream"
    attempts = sorted(scene.children(span, 2), key=lambda attempt: attempt.attributes["parhelion.attempt"])
    assert [attempt.attributes["parhelion.attempt"] for attempt in attempts] == [1, 2]
    places = [f"{attempt.attributes['server.address']}:{attempt.attributes['server.port']}" for attempt in attempts]
    assert sorted(places) == sorted(relay.address for relay in scene.relays)
    for attempt in attempts:
        assert attempt.status == "ERROR" and attempt.attributes["rpc.status_code"] == "UNAVAILABLE"
        assert (attempt.attributes["parhelion.variant"], attempt.attributes["parhelion.version"]) == ("away", OLD)
    return f"a failed call with its attempts at {places[0]} and {places[1]}, trace {span.trace}"


def check_shadow(scene: Scene) -> str:
    """The copy of a call is a trace of its own, found by the ids of the prediction that it is a copy of."""
    answer = scene.ask(0, [("x-user-id", "user-0")], model="shadowed")
    assert answer.code == "OK" and own(answer)["parhelion-variant"] == "old", answer
    span = scene.prediction(answer)
    # The call's own trace is as without a shadow: one attempt, and below it the server that answered.
    (attempt,) = scene.children(span)
    scene.children(attempt)
    wanted = {"parhelion.primary.trace_id": span.trace, "parhelion.primary.span_id": span.id}
    (copy,) = scene.phoenix.wait_for(
        f"the copy of {span.id}", lambda other: wanted.items() <= other.attributes.items()
    )
    assert copy.parent is None and copy.trace != span.trace and copy.name == INFER
    expected = {
        "parhelion.role": "shadow",
        "parhelion.prediction_uuid": span.attributes["parhelion.prediction_uuid"],
        "parhelion.variant": "next",
        "parhelion.version": NEW,
        "parhelion.reported_version": NEW,
        "parhelion.primary.variant": "old",
        "parhelion.primary.status_code": "OK",
    }
    assert {key: copy.attributes.get(key) for key in expected} == expected, copy.attributes
    (server,) = scene.children(copy)
    assert server.name == f"/{INFER}"
    return f"a copy of a call to version {OLD}, made by {NEW}: trace {copy.trace}, found by its call's {span.trace}"


# The attempts come last, for they leave a variant without endpoints.
CHECKS = [check_predictions, check_shadow, check_attempts]


def configuration(servers: dict, relays: list[Relay], phoenix: Phoenix) -> dict:
    def variant(version: str, *addresses: str, **more) -> dict:
        return {"endpoints": [f"http://{address}" for address in addresses], "version": version, **more}

    model = {
        "variants": {
            "old": variant(OLD, servers[OLD].address),
            "new": variant(NEW, servers[NEW].address),
            "away": variant(OLD, *[relay.address for relay in relays]),
        },
        "unit": ["metadata:x-user-id"],
        "strategy": {"kind": "ab", "weights": {"old": "50%", "new": "50%", "away": "0%"}},
        "force": "anyone",
    }
    # The same servers under a name of their own, the new version as the shadow of the old one.
    shadowed = {
        "variants": {
            "old": variant(OLD, servers[OLD].address, model_name="digits"),
            "next": variant(NEW, servers[NEW].address, model_name="digits"),
        },
        "shadows": [{"variant": "next"}],
    }
    return {
        "default": "digits",
        "models": {"digits": model, "shadowed": shadowed},
        "telemetry": {"otlp": f"http://127.0.0.1:{phoenix.otlp}", "sample": "100%"},
    }


@contextlib.contextmanager
def playing(phoenix_program: Path, folder: Path):
    """Everything started, and ended whatever happens."""
    # Model servers make spans of sampled calls alone, so those of probes are not in the way.
    os.environ["OTEL_TRACES_SAMPLER"] = "parentbased_always_off"
    with contextlib.ExitStack() as stack:
        phoenix = stack.enter_context(Phoenix(phoenix_program, folder))
        classifier = train(folder)
        servers = {}
        for name, version in (("east", OLD), ("west", NEW)):
            files = {("digits", version): classifier.files[version]}
            servers[version] = ModelServer(name, folder, files, phoenix.otlp)
            servers[version].start()
            stack.callback(servers[version].stop)
        for server in servers.values():
            server.wait_until_ready()
        phoenix.wait_until_ready()
        del os.environ["OTEL_TRACES_SAMPLER"]
        relays = [stack.enter_context(Relay(servers[OLD].port)) for _ in range(2)]
        sidecar = stack.enter_context(Sidecar(folder, configuration(servers, relays, phoenix)))
        yield Scene(phoenix, sidecar, classifier, relays)


def raise_loopback():
    """A new namespace has a loopback interface that is down."""
    name, get, put, up = b"lo", 0x8913, 0x8914, 0x1
    with socket.socket() as any_socket:
        (flags,) = struct.unpack("16xH14x", fcntl.ioctl(any_socket, get, struct.pack("16s16x", name)))
        fcntl.ioctl(any_socket, put, struct.pack("16sH14x", name, flags | up))


def keep(scene: Scene, door: int):
    """Lets a browser in until Ctrl-C."""
    with Relay(scene.phoenix.port, socket.socket(fileno=door)) as relay:
        print(
            f"\nPhoenix is at http://{relay.address} until Ctrl-C: open the project `default`, then a trace.\n"
            "In its filter, a prediction is found by the id that its caller was told:\n"
            "    parhelion.prediction_id == '…'\n"
            f"The rest is in a network namespace; from another terminal: nsenter -t {os.getpid()} -n COMMAND\n"
            f"    there Parhelion is at {scene.sidecar.address}, OTLP over gRPC at 127.0.0.1:{scene.phoenix.otlp}",
            flush=True,
        )
        signal.pause()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--phoenix", type=Path, required=True)
    parser.add_argument("--door", type=int, required=True)
    parser.add_argument("--keep", action="store_true")
    chosen = parser.parse_args()
    # The exception unwinds what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    raise_loopback()
    with tempfile.TemporaryDirectory(prefix="parhelion-phoenix-") as folder:
        with playing(chosen.phoenix, Path(folder)) as scene:
            for check in CHECKS:
                print(f"ok  {check(scene)}", flush=True)
            if chosen.keep:
                keep(scene, chosen.door)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        pass
