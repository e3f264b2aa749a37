"""Shadows of real models are told apart: the same version twice is equivalent, whatever jitters, and others are different."""

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

import verdicts
from echo import OPTIONS, call
from inference import SERVICE
from models import ModelServer
from processes import wait_for
from sidecar import Sidecar

ROWS = 8
LABELS = [{"output": "predict", "as": "class"}]
SCORES = [*LABELS, {"output": "predict_proba", "as": "scores", "tolerance": 0.001}]
# Of each model: what is asked for, and what is proven of each version beside version 1.
EXPECTED = {
    "forest": {"same": "equivalent", "seed": "different", "features": "different"},
    "linear": {"quantised": "equivalent", "coarse": "different"},
    "unsure": {"same": "equivalent", "worse": "different"},
}
# More than it takes by far.
MOST = 1500


def shadowed(name: str, served: str, beside: str) -> dict:
    """Version 1 at one server answers, and the versions at the other get copies: version 1 among them, as `same`."""

    def variant(address: str, version: str) -> dict:
        version = "1" if version == "same" else version
        return {"endpoint": f"http://{address}", "version": version, "model_name": name, "model_version": version}

    shadows = [
        {"variant": version, "compare": SCORES, "disagreement": "5%", "deadline": "10s"} for version in EXPECTED[name]
    ]
    if name == "unsure":
        # What the served version does not agree with itself in is no difference.
        for shadow in shadows:
            shadow |= {"compare": LABELS, "control": {"to": "v1", "sample": "100%"}, "disagreement": "15%"}
    variants = {version: variant(beside, version) for version in EXPECTED[name]}
    return {"variants": {"v1": variant(served, "1"), **variants}, "shadows": shadows}


@pytest.fixture(scope="module")
def judged(folder, collector):
    files = verdicts.train(folder)
    served = ModelServer(
        "served", folder, {(name, version): files[name, version] for name, version in files if version == "1"}, collector.port
    )
    beside = ModelServer("beside", folder, files, collector.port)
    try:
        served.start()
        beside.start()
        served.wait_until_ready()
        beside.wait_until_ready()
        models = {name: shadowed(name, served.address, beside.address) for name in EXPECTED}
        with Sidecar(folder, {"default": "forest", "models": models, "workers": 1}, "judged") as running:
            yield running
    finally:
        served.stop()
        beside.stop()


def said(sidecar: Sidecar, model: str) -> dict:
    return {shadow["variant"]: shadow for shadow in sidecar.status(model)["shadows"]}


def question(model: str, rows) -> bytes:
    message = pb.ModelInferRequest(model_name=model)
    message.inputs.add(name="rows", datatype="FP64", shape=rows.shape)
    message.raw_input_contents.append(rows.tobytes())
    for output in ["predict"] if model == "unsure" else ["predict", "predict_proba"]:
        message.outputs.add(name=output)
    return message.SerializeToString()


@pytest.mark.parametrize("model", EXPECTED)
def test_each_version_is_judged_as_it_is(judged, classifier, model):
    def verdicts_of() -> dict:
        return {name: shadow["verdict"] for name, shadow in said(judged, model).items()}

    with grpc.insecure_channel(judged.address, OPTIONS) as channel:
        for number in range(MOST):
            at = number * ROWS % (len(classifier.rows) - ROWS)
            told = call(channel, "ModelInfer", [question(model, classifier.rows[at : at + ROWS])], service=SERVICE)
            assert told.code == "OK", told
            if number % 50 == 49 and "not_enough_data" not in verdicts_of().values():
                break
    wait_for("every verdict", lambda: "not_enough_data" not in verdicts_of().values(), 10)
    assert verdicts_of() == EXPECTED[model], said(judged, model)
    for name, shadow in said(judged, model).items():
        outputs = {output["name"]: output for output in shadow["outputs"]}
        assert outputs["predict"]["measure"] == "class" and not outputs["predict"]["inferred"], outputs
        if EXPECTED[model][name] == "different":
            assert shadow["since_unix_ms"] and shadow["offenders"], shadow
        if model == "unsure":
            # It jitters, and its control as well.
            assert shadow["triples"] and 0 < outputs["predict"]["noise"] < 0.3, outputs
