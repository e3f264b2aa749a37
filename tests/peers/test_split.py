"""Half of the users get each version, and every user keeps it."""

from collections import Counter

import grpc
from tritonclient.grpc import service_pb2 as pb

from echo import OPTIONS, call
from inference import SERVICE, VARIANTS, infer, own, request

# Five standard deviations of 200 fair draws: a right split is outside once in two million runs.
NEAR_HALF = range(100 - 36, 100 + 37)


def variants(address: str, message: bytes, metadatas: list) -> list[str]:
    with grpc.insecure_channel(address, OPTIONS) as channel:
        return [
            own(call(channel, "ModelInfer", [message], metadata, service=SERVICE))["parhelion-variant"]
            for metadata in metadatas
        ]


def test_users_keep_their_variant(sidecar, classifier):
    message = request(classifier.rows[:1], raw=True).SerializeToString()
    users = [[("x-user-id", f"user-{number}")] for number in range(200)]
    first = variants(sidecar.address, message, users)
    assert variants(sidecar.address, message, users) == first
    assert Counter(first)["old"] in NEAR_HALF
    assert set(first) == {"old", "new"}


def test_calls_without_a_user_are_drawn_one_by_one(sidecar, classifier):
    message = request(classifier.rows[:1], raw=True).SerializeToString()
    drawn = variants(sidecar.address, message, [[]] * 200)
    assert Counter(drawn)["old"] in NEAR_HALF


def test_the_server_that_answers_is_the_one_that_was_named(sidecar, servers, classifier):
    """The probabilities themselves tell which version computed them."""
    row = classifier.rows[:1]
    expected = {
        version: infer(server.address, row).as_numpy("predict_proba").tobytes() for version, server in servers.items()
    }
    assert len(set(expected.values())) == 2
    message = request(row, raw=True).SerializeToString()
    with grpc.insecure_channel(sidecar.address, OPTIONS) as channel:
        for number in range(40):
            told = call(channel, "ModelInfer", [message], [("x-user-id", f"user-{number}")], service=SERVICE)
            response = pb.ModelInferResponse.FromString(told.messages[0])
            assert response.raw_output_contents[0] == expected[response.model_version]
            assert own(told)["parhelion-variant"] == VARIANTS[response.model_version]
