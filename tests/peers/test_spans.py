"""The span of a prediction names the version that answered, and the model server's own span hangs below it."""

import secrets

import pytest

from inference import VARIANTS, ask, infer, own, reported_version, request
from models import NEW, OLD
from relay import Relay
from sidecar import Sidecar

INFER = "inference.GRPCInferenceService/ModelInfer"


def prediction(collector, prediction_id: str):
    """The sidecar's server span of that prediction."""
    (span,) = collector.wait_for(
        f"prediction {prediction_id}",
        lambda span: span.attributes.get("parhelion.prediction_id") == prediction_id
        and span.kind == "SPAN_KIND_SERVER",
    )
    return span


@pytest.mark.parametrize("version", [OLD, NEW])
@pytest.mark.parametrize("parent", [True, False], ids=["caller's trace", "own trace"])
def test_one_trace_from_the_caller_to_the_model(sidecar, servers, collector, classifier, version, parent):
    metadata = [("parhelion-variant", VARIANTS[version])]
    trace, caller = secrets.token_hex(16), secrets.token_hex(8)
    if parent:
        metadata.append(("traceparent", f"00-{trace}-{caller}-01"))
    message = request(classifier.rows[:1], raw=True).SerializeToString()
    keys = own(ask(sidecar.address, "ModelInfer", [message], metadata))

    server = prediction(collector, keys["parhelion-prediction-id"])
    assert server.name == INFER
    assert server.parent == (caller if parent else "")
    if parent:
        assert server.trace == trace

    (client,) = collector.wait_for(
        "the upstream attempt",
        lambda span: span.trace == server.trace and span.kind == "SPAN_KIND_CLIENT",
    )
    assert client.parent == server.id

    (model,) = collector.wait_for(
        "the model server",
        lambda span: span.trace == server.trace and span.resource.get("service.name") == servers[version].name,
    )
    assert model.parent == client.id
    assert model.name == f"/{INFER}"


@pytest.mark.parametrize("model", ["digits", "numbers"])
def test_the_routed_version_is_the_one_that_the_server_reports(sidecar, collector, classifier, model):
    # Nothing is forced here: 20 calls as they fall.
    answers = {}
    for row in classifier.rows[:20]:
        message = request(row[None], raw=True, model=model).SerializeToString()
        answer = ask(sidecar.address, "ModelInfer", [message])
        answers[own(answer)["parhelion-prediction-id"]] = answer
    for prediction_id, answer in answers.items():
        reported = reported_version(answer)
        attributes = prediction(collector, prediction_id).attributes
        assert attributes["parhelion.version"] == own(answer)["parhelion-model-version"] == reported
        assert attributes["parhelion.reported_version"] == reported
        assert attributes["parhelion.variant"] == own(answer)["parhelion-variant"] == VARIANTS[reported]
        assert attributes["parhelion.model"] == model


def test_both_attempts_of_a_failed_call_are_there(folder, servers, collector, classifier):
    """Two endpoints whose servers answer probes on connections that they have, and take no new ones."""
    port = servers[OLD].port
    message = request(classifier.rows[:1], raw=True).SerializeToString()
    with Relay(port) as first, Relay(port) as second:
        endpoints = [f"http://{relay.address}" for relay in (first, second)]
        config = {
            "models": {"digits": {"variants": {"away": {"endpoints": endpoints, "version": OLD}}}},
            "telemetry": {"otlp": f"http://127.0.0.1:{collector.port}", "sample": "100%"},
        }
        with Sidecar(folder, config, "in-vain") as sidecar:
            first.refuse()
            second.refuse()
            answer = ask(sidecar.address, "ModelInfer", [message])
    assert answer.code == "UNAVAILABLE"
    server = prediction(collector, own(answer)["parhelion-prediction-id"])
    assert server.attributes["parhelion.blame"] == "upstream"
    attempts = collector.wait_for("both attempts", lambda span: span.parent == server.id, count=2)
    attempts.sort(key=lambda span: span.attributes["parhelion.attempt"])
    assert [span.attributes["parhelion.attempt"] for span in attempts] == [1, 2]
    assert {span.attributes["server.port"] for span in attempts} == {int(at.rpartition(":")[2]) for at in endpoints}
    for span in (server, *attempts):
        assert span.trace == server.trace
        assert span.attributes["rpc.status_code"] == "UNAVAILABLE"
    assert server.attributes["parhelion.assigned"] == "away"
    # Nobody answered, but it was tried.
    assert "parhelion.variant" not in server.attributes
    assert {(span.attributes["parhelion.variant"], span.attributes["parhelion.version"]) for span in attempts} == {
        ("away", OLD)
    }


def test_a_caller_that_does_not_sample_is_heard(sidecar, collector, classifier):
    trace = secrets.token_hex(16)
    infer(sidecar.address, classifier.rows[:1], headers={"traceparent": f"00-{trace}-{secrets.token_hex(8)}-00"})
    # The next call's span is there, so the former's would be.
    message = request(classifier.rows[:1], raw=True).SerializeToString()
    prediction(collector, own(ask(sidecar.address, "ModelInfer", [message]))["parhelion-prediction-id"])
    assert [span for span in collector.spans() if span.trace == trace] == []
