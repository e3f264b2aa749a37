"""Triton as the shadow of another Triton: its copies are renamed, judged by what it answers, and never felt.

Callers know three models, which one process answers in version 1 and others get copies of: `twins` asks both for the
same, `totals` and `walks` ask the shadow for version 2. The shadow of `walks`, whose calls are streams, does not trace.
"""

import signal

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from inference import ask, ask_stream, assert_same, own
from processes import wait_for
from sidecar import OWN_RESPONSE_KEYS, Sidecar
from test_shadow import Books, Callers, copy_of
from test_spans import prediction
from test_triton import NUMBERS, names, numbers_of, parsed, request, requests
from tritonserver import TritonServer

SHADE = "triton-shade"
# What both servers call it, and the version that the shadow is asked for.
MODELS = {"twins": ("sums", "1"), "totals": ("sums", "2"), "walks": ("steps", "2")}


@pytest.fixture(scope="module")
def live(folder):
    with TritonServer(folder, "triton-live") as running:
        yield running


@pytest.fixture(scope="module")
def shade(folder, collector):
    with TritonServer(folder, SHADE, collector.http) as running:
        yield running


@pytest.fixture(scope="module")
def streaming_shade(folder):
    with TritonServer(folder, "triton-streaming-shade") as running:
        yield running


@pytest.fixture(scope="module")
def shadowed(folder, live, shade, streaming_shade, collector):
    def model(name: str, version: str) -> dict:
        shadow = streaming_shade if name == "steps" else shade
        return {
            "variants": {
                "live": {"endpoint": f"http://{live.address}", "model_name": name, "model_version": "1", "version": "1"},
                "next": {
                    "endpoint": f"http://{shadow.address}",
                    "model_name": name,
                    "model_version": version,
                    "version": version,
                },
            },
            "shadows": [{"variant": "next", "deadline": "1s"}],
        }

    config = {
        "default": "twins",
        "models": {known: model(*asked) for known, asked in MODELS.items()},
        "telemetry": {"otlp": f"http://127.0.0.1:{collector.port}", "sample": "100%"},
    }
    with Sidecar(folder, config, "shadowed-triton") as running:
        yield running


def copied(shadowed, collector, answer):
    """The span of the copy of the call that was answered so."""
    assert own(answer).keys() == OWN_RESPONSE_KEYS
    assert own(answer)["parhelion-variant"] == "live"
    return copy_of(collector, prediction(collector, own(answer)["parhelion-prediction-id"]))


@pytest.mark.parametrize(("model", "comparison"), [("twins", "same"), ("totals", "values")])
def test_a_copy_asks_for_what_the_shadow_has(shadowed, live, collector, model, comparison):
    """And is held against the answer that the caller got, both as their servers sent them."""
    name, version = MODELS[model]
    through = ask(shadowed.address, "ModelInfer", [request(model)])
    alone = ask(live.address, "ModelInfer", [request(name, version="1")])
    got, expected = (pb.ModelInferResponse.FromString(one.messages[0]) for one in (through, alone))
    assert got.model_name == model
    got.model_name = name
    assert got == expected and np.array_equal(numbers_of(got), np.cumsum(NUMBERS))

    attributes = (copy := copied(shadowed, collector, through)).attributes
    assert attributes["parhelion.comparison"] == comparison
    assert attributes["parhelion.reported_version"] == version
    assert (attributes["rpc.status_code"], attributes["parhelion.blame"]) == ("OK", "nobody")
    # The server's own span of the model says which version it was asked for.
    (infer,) = collector.wait_for("the shadow's server", lambda span: span.parent == copy.id)
    assert (infer.resource["service.name"], infer.trace) == (SHADE, copy.trace)
    (compute,) = collector.wait_for("the shadow's model", lambda span: span.parent == infer.id)
    assert (compute.name, compute.attributes["triton.model_version"]) == (name, int(version))


def test_a_stream_is_copied_under_the_shadows_name(shadowed, live, collector):
    lists = [NUMBERS, [5.0], [9.0, 2.0]]
    through = ask_stream(shadowed.address, requests("walks", *lists))
    alone = ask_stream(live.address, requests("steps", *lists, version="1"))
    assert names(through.messages) == {"walks"}
    assert parsed(through.messages, "steps") == parsed(alone.messages, "steps")
    attributes = copied(shadowed, collector, through).attributes
    assert attributes["parhelion.reported_version"] == "2"
    assert attributes["parhelion.response.messages"] == len(alone.messages) == 6
    assert (attributes["parhelion.blame"], attributes["parhelion.comparison"]) == ("nobody", "values")


def test_an_error_in_the_shadows_stream_is_the_shadows_fault(shadowed, live, collector):
    """Its status says OK, as ever with Triton; the call, which went well, stays so."""
    books = Books(shadowed)
    # The last of them is too much for version 2 alone.
    lists = [NUMBERS, [101.0]]
    through = ask_stream(shadowed.address, requests("walks", *lists))
    alone = ask_stream(live.address, requests("steps", *lists, version="1"))
    assert through.code == "OK" and parsed(through.messages, "steps") == parsed(alone.messages, "steps")
    server = prediction(collector, own(through)["parhelion-prediction-id"])
    assert server.attributes["parhelion.blame"] == "nobody"
    attributes = copied(shadowed, collector, through).attributes
    found = [attributes[key] for key in ("rpc.status_code", "parhelion.blame", "parhelion.cause")]
    assert found == ["OK", "upstream", "in_band"]
    assert attributes["parhelion.response.messages"] == len(alone.messages)
    assert books.closed()["answered"] == {"OK": 1}


def test_a_refusal_of_both_is_equal(shadowed, live, collector):
    through = ask(shadowed.address, "ModelInfer", [request("twins", [-1.0])])
    alone = ask(live.address, "ModelInfer", [request("sums", [-1.0], version="1")])
    assert alone.code == "INVALID_ARGUMENT"
    assert_same(through, alone)
    attributes = copied(shadowed, collector, through).attributes
    assert (attributes["rpc.status_code"], attributes["parhelion.comparison"]) == ("INVALID_ARGUMENT", "same")


def test_a_triton_that_hangs_dies_and_comes_back_is_not_felt(shadowed, shade):
    books = Books(shadowed)

    def copies_come(count: int):
        wanted = books.copied() + count
        wait_for(f"{count} more copies", lambda: books.copied() >= wanted, 20)

    with Callers(shadowed.address, request("totals")) as callers:
        copies_come(20)

        shade.signal(signal.SIGSTOP)
        try:
            wait_for("skips of a stopped shadow", lambda: books.skipped() & {"breaker", "not_ready"}, 20)
            callers.go_on(50)
        finally:
            shade.signal(signal.SIGCONT)
        copies_come(20)

        shade.kill()
        between = Books(shadowed)
        wait_for("skips of a dead shadow", lambda: between.skipped() & {"not_ready", "unreachable"}, 10)
        callers.go_on(50)
        shade.start()
        shade.wait_until_ready()
        copies_come(20)

    assert set(callers.codes) == {"OK"}
    counts = books.closed()
    assert counts["eligible"].total() == len(callers.codes)
    assert counts["eligible"].total() == counts["copied"].total() + counts["skipped"].total()
    assert counts["copied"].total() == counts["answered"].total() >= 60
    assert set(counts["skipped"]) <= {"not_ready", "breaker", "unreachable", "calls_cap", "deadline"}
