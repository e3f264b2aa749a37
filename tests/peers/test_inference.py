"""MLServer behind the sidecar answers as MLServer alone: byte for byte, but for the documented metadata."""

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from echo import OPTIONS
from inference import SERVICE, VARIANTS, ask, assert_same, infer, own, request, without_own
from models import NEW, OLD
from sidecar import OWN_RESPONSE_KEYS

both_versions = pytest.mark.parametrize("version", [OLD, NEW])


@both_versions
def test_tensors_are_byte_equal(sidecar, servers, classifier, version):
    rows = classifier.rows[:64]
    through = infer(sidecar.address, rows, headers={"parhelion-variant": VARIANTS[version]})
    alone = infer(servers[version].address, rows)
    assert through.as_numpy("predict_proba").tobytes() == alone.as_numpy("predict_proba").tobytes()
    assert through.as_numpy("predict_proba").shape == (64, 10)
    assert through.get_response().model_version == version


def test_the_two_versions_differ_and_are_good(sidecar, classifier):
    rows, labels = classifier.rows, classifier.labels
    answers = [
        infer(sidecar.address, rows, headers={"parhelion-variant": name}).as_numpy("predict_proba")
        for name in VARIANTS.values()
    ]
    assert not np.array_equal(*answers)
    for answer in answers:
        assert np.mean(answer.argmax(axis=1) == labels) > 0.9


@both_versions
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
def test_messages_with_an_id_are_byte_equal(sidecar, servers, classifier, version, raw):
    message = request(classifier.rows[:5], raw).SerializeToString(deterministic=True)
    through = ask(sidecar.address, "ModelInfer", [message], [("parhelion-variant", VARIANTS[version])])
    alone = ask(servers[version].address, "ModelInfer", [message])
    assert alone.code == "OK" and alone.trailing["ce-id"] == ["request-7"]
    assert_same(through, alone)


def test_the_documented_keys_are_there(sidecar, classifier):
    message = request(classifier.rows[:1], raw=True).SerializeToString()
    answer = ask(sidecar.address, "ModelInfer", [message], [("parhelion-variant", "new")])
    keys = own(answer)
    assert keys.keys() == OWN_RESPONSE_KEYS
    assert keys["parhelion-variant"] == "new"
    assert keys["parhelion-model-version"] == NEW
    assert keys["parhelion-rollout"].startswith("digits")
    assert keys["parhelion-prediction-id"]


def test_prediction_ids_are_all_different(sidecar, classifier):
    message = request(classifier.rows[:1], raw=True).SerializeToString()
    ids = {own(ask(sidecar.address, "ModelInfer", [message]))["parhelion-prediction-id"] for _ in range(20)}
    assert len(ids) == 20


@pytest.mark.parametrize(
    "wrong",
    [{"version": "9.9.9"}, {"output": "no_such_output"}],
    ids=["unknown version", "unknown output"],
)
def test_refusals_are_passed_on(sidecar, servers, classifier, wrong):
    message = request(classifier.rows[:1], raw=True, **wrong).SerializeToString()
    through = ask(sidecar.address, "ModelInfer", [message], [("parhelion-variant", "old")])
    alone = ask(servers[OLD].address, "ModelInfer", [message])
    assert alone.code != "OK"
    assert_same(through, alone)
    assert own(through).keys() == OWN_RESPONSE_KEYS


@pytest.mark.parametrize("shape", [(1, 63), (0, 64)], ids=["too narrow", "no rows"])
def test_rows_that_the_model_cannot_take(sidecar, servers, shape):
    message = request(np.zeros(shape), raw=True).SerializeToString()
    through = ask(sidecar.address, "ModelInfer", [message], [("parhelion-variant", "new")])
    alone = ask(servers[NEW].address, "ModelInfer", [message])
    assert alone.code != "OK"
    assert_same(through, alone)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("ServerLive", pb.ServerLiveRequest()),
        ("ServerReady", pb.ServerReadyRequest()),
        ("ServerMetadata", pb.ServerMetadataRequest()),
        ("ModelReady", pb.ModelReadyRequest(name="digits")),
        ("ModelReady", pb.ModelReadyRequest(name="nobody")),
        ("ModelMetadata", pb.ModelMetadataRequest(name="digits")),
        ("ModelMetadata", pb.ModelMetadataRequest(name="nobody")),
        ("RepositoryIndex", pb.RepositoryIndexRequest()),
        ("NoSuchMethod", pb.ServerLiveRequest()),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value).strip() or "empty",
)
def test_other_rpcs_are_the_baselines(sidecar, servers, method, message):
    through = ask(sidecar.address, method, [message.SerializeToString()])
    alone = ask(servers[OLD].address, method, [message.SerializeToString()])
    assert_same(through, alone)
    assert (alone.code == "UNIMPLEMENTED") == (method == "NoSuchMethod")


@both_versions
def test_a_stream_of_one_request(sidecar, servers, classifier, version):
    def ask_stream(address, metadata):
        with grpc.insecure_channel(address, OPTIONS) as channel:
            stub = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")
            running = stub(iter([message]), metadata=metadata, timeout=20)
            got = []
            try:
                got.extend(running)
            except grpc.RpcError:
                pass
            return (running.code(), running.details(), got)

    message = request(classifier.rows[:2], raw=True).SerializeToString()
    through = ask_stream(sidecar.address, [("parhelion-variant", VARIANTS[version])])
    assert through == ask_stream(servers[version].address, [])


@both_versions
def test_a_renamed_model_keeps_the_callers_name(sidecar, servers, classifier, version):
    rows = classifier.rows[:8]
    message = request(rows, raw=True, model="numbers").SerializeToString()
    through = ask(sidecar.address, "ModelInfer", [message], [("parhelion-variant", VARIANTS[version])])
    message = request(rows, raw=True, model="digits-next", version=version).SerializeToString()
    alone = ask(servers[NEW].address, "ModelInfer", [message])
    assert through.code == alone.code == "OK"
    got, expected = (pb.ModelInferResponse.FromString(answer.messages[0]) for answer in (through, alone))
    assert (got.model_name, got.model_version) == ("numbers", version)
    got.model_name = expected.model_name
    assert got == expected
    assert without_own(through.trailing) == alone.trailing
