"""A real version of a model as the shadow of another: callers cannot tell, its spans can, and the books balance."""

import secrets
import signal
import threading
import time

import grpc
import pytest

from echo import OPTIONS, call
from inference import SERVICE, ask, assert_same, own, request
from models import NEW, OLD, ModelServer
from processes import wait_for
from sidecar import OWN_RESPONSE_KEYS, Sidecar
from test_spans import INFER, prediction

# Of a copy: long enough for a slow machine, and a stopped shadow is found out soon.
DEADLINE = "1s"


@pytest.fixture(scope="module")
def shadow(folder, classifier, collector):
    server = ModelServer("shade", folder, {("digits", NEW): classifier.files[NEW]}, collector.port)
    server.start()
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def shadowed(folder, servers, shadow, collector):
    """The old version answers, and the new one gets a copy of every call."""
    model = {
        "variants": {
            "old": {"endpoint": f"http://{servers[OLD].address}", "version": OLD},
            "next": {"endpoint": f"http://{shadow.address}", "version": NEW},
        },
        "shadows": [{"variant": "next", "deadline": DEADLINE}],
    }
    config = {
        "models": {"digits": model},
        "telemetry": {"otlp": f"http://127.0.0.1:{collector.port}", "sample": "100%"},
    }
    with Sidecar(folder, config, "shadowed") as running:
        yield running


class Books:
    """What a sidecar has counted of its shadow since this was made."""

    def __init__(self, sidecar: Sidecar):
        self._sidecar = sidecar
        self._before = self._read()

    def _read(self) -> dict:
        counted = self._sidecar.counted
        return {
            "eligible": counted("parhelion_shadow_eligible_total"),
            "copied": counted("parhelion_shadow_copied_total"),
            "skipped": counted("parhelion_shadow_skipped_total", "reason"),
            "answered": counted("parhelion_shadow_calls_total", "code"),
        }

    def now(self) -> dict:
        return {name: counts - self._before[name] for name, counts in self._read().items()}

    def copied(self) -> int:
        return self.now()["copied"].total()

    def skipped(self) -> set[str]:
        return set(self.now()["skipped"])

    def closed(self) -> dict:
        """Once no copy is under way any more."""
        in_flight = "parhelion_shadow_calls_in_flight"
        wait_for("the end of all copies", lambda: self._sidecar.counted(in_flight).total() == 0, 10)
        return self.now()


def copy_of(collector, server):
    """The span of the copy of the call that `server` is the server span of."""
    (span,) = collector.wait_for(
        f"the copy of {server.id}", lambda span: span.attributes.get("parhelion.primary.span_id") == server.id
    )
    return span


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
def test_the_answer_is_the_one_without_a_shadow(shadowed, sidecar, servers, classifier, raw):
    books = Books(shadowed)
    for row in range(10):
        message = request(classifier.rows[row : row + 5], raw).SerializeToString(deterministic=True)
        alone = ask(servers[OLD].address, "ModelInfer", [message])
        assert alone.code == "OK"
        with_shadow = ask(shadowed.address, "ModelInfer", [message])
        without = ask(sidecar.address, "ModelInfer", [message], [("parhelion-variant", "old")])
        assert_same(with_shadow, alone)
        assert_same(without, alone)
        assert own(with_shadow).keys() == own(without).keys() == OWN_RESPONSE_KEYS
        assert own(with_shadow)["parhelion-variant"] == "old"
        assert own(with_shadow)["parhelion-model-version"] == OLD
    counts = books.closed()
    assert counts["eligible"].total() == counts["copied"].total() == 10
    assert counts["answered"] == {"OK": 10}


def test_the_copy_is_a_trace_of_its_own(shadowed, servers, shadow, collector, classifier):
    trace, caller = secrets.token_hex(16), secrets.token_hex(8)
    message = request(classifier.rows[:1], raw=True).SerializeToString()
    answer = ask(shadowed.address, "ModelInfer", [message], [("traceparent", f"00-{trace}-{caller}-01")])
    prediction_id = own(answer)["parhelion-prediction-id"]
    server = prediction(collector, prediction_id)
    assert (server.trace, server.parent, server.links) == (trace, caller, [])

    copy = copy_of(collector, server)
    assert (copy.kind, copy.name, copy.parent) == ("SPAN_KIND_CLIENT", INFER, "")
    assert copy.trace != trace
    assert copy.links == [(server.trace, server.id)]
    expected = {
        "parhelion.role": "shadow",
        "parhelion.prediction_uuid": server.attributes["parhelion.prediction_uuid"],
        "parhelion.model": "digits",
        "parhelion.variant": "next",
        "parhelion.version": NEW,
        "parhelion.reported_version": NEW,
        "parhelion.blame": "nobody",
        "parhelion.primary.trace_id": trace,
        "parhelion.primary.span_id": server.id,
        "parhelion.primary.variant": "old",
        "parhelion.primary.status_code": "OK",
        # Both name the version in their answers, if nothing else.
        "parhelion.comparison": "values",
    }
    assert {key: copy.attributes.get(key) for key in expected} == expected

    # The shadow's own server joins the copy's trace, and the server that answered the caller's.
    (model,) = collector.wait_for("the shadow's server", lambda span: span.parent == copy.id)
    assert (model.resource["service.name"], model.trace, model.name) == (shadow.name, copy.trace, f"/{INFER}")
    (answered,) = collector.wait_for(
        "the model server", lambda span: span.trace == trace and span.resource["service.name"] != "parhelion"
    )
    assert answered.resource["service.name"] == servers[OLD].name


def test_a_copy_that_disagrees_is_seen_though_its_caller_does_not_sample(shadowed, collector, classifier):
    trace = secrets.token_hex(16)
    message = request(classifier.rows[:1], raw=True).SerializeToString()
    ask(shadowed.address, "ModelInfer", [message], [("traceparent", f"00-{trace}-{secrets.token_hex(8)}-00")])
    # The next call's copy is there, so the former's would be.
    answer = ask(shadowed.address, "ModelInfer", [message])
    copy_of(collector, prediction(collector, own(answer)["parhelion-prediction-id"]))
    copies = [span for span in collector.spans() if span.attributes.get("parhelion.primary.trace_id") == trace]
    assert [span.attributes["parhelion.comparison"] for span in copies] == ["values"]


class Callers:
    """Two callers that call on until they are left; `codes` has a word for each call."""

    def __init__(self, address: str, message: bytes):
        self.codes: list[str] = []
        self._address, self._message = address, message
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(2)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self):
        with grpc.insecure_channel(self._address, OPTIONS) as channel:
            while not self._over.is_set():
                told = call(channel, "ModelInfer", [self._message], service=SERVICE)
                self.codes.append(f"{told.code} {told.details}".strip())
                time.sleep(0.01)

    def go_on(self, count: int):
        """Until that many more calls were made."""
        wanted = len(self.codes) + count
        wait_for(f"{count} more calls", lambda: len(self.codes) >= wanted)


def test_a_shadow_that_hangs_dies_and_comes_back_is_not_felt(shadowed, shadow, classifier):
    message = request(classifier.rows[:1], raw=True).SerializeToString()
    books = Books(shadowed)

    def copies_come(count: int):
        wanted = books.copied() + count
        wait_for(f"{count} more copies", lambda: books.copied() >= wanted, 20)

    with Callers(shadowed.address, message) as callers:
        copies_come(20)

        shadow.signal(signal.SIGSTOP)
        try:
            # Copies reach a process that does nothing with them; after five deadlines in a row it is left alone.
            wait_for("five late copies", lambda: books.now()["answered"]["DEADLINE_EXCEEDED"] >= 5, 10)
            wait_for("skips of a stopped shadow", lambda: books.skipped() & {"breaker", "not_ready"}, 10)
            callers.go_on(50)
        finally:
            shadow.signal(signal.SIGCONT)
        copies_come(20)

        shadow.kill()
        between = Books(shadowed)
        wait_for("skips of a dead shadow", lambda: between.skipped() & {"not_ready", "unreachable"}, 10)
        callers.go_on(50)
        shadow.start()
        shadow.wait_until_ready()
        copies_come(20)

    assert set(callers.codes) == {"OK"}
    assert len(callers.codes) >= 200
    counts = books.closed()
    assert counts["eligible"].total() == len(callers.codes)
    assert counts["eligible"].total() == counts["copied"].total() + counts["skipped"].total()
    assert counts["copied"].total() == counts["answered"].total()
    assert counts["copied"].total() >= 60
    reasons = {"not_ready", "breaker", "unreachable", "calls_cap", "deadline"}
    assert {"breaker"} <= set(counts["skipped"]) <= reasons
