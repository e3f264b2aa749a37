"""Triton behind the sidecar: a second real server, whose versions live in one process and whose streams are real.

Four models, as callers see them: `sums` passes as it is; `steps` has a variant for each version of the server's;
`totals` and `walks` are the same two once more, under names that the server does not know.
"""

import itertools
import secrets
from collections import Counter
from queue import Queue

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2
from tritonclient.grpc import service_pb2 as pb

from conftest import half
from echo import OPTIONS, call
from inference import ask, ask_stream, assert_same, own, without_own
from sidecar import OWN_RESPONSE_KEYS, Sidecar
from test_spans import INFER, prediction
from tritonserver import VERSIONS, TritonServer

STREAM = "inference.GRPCInferenceService/ModelStreamInfer"
TRACER = "triton-tracer"
VARIANTS = {"1": "one", "2": "two"}
REAL_NAMES = {"steps": "steps", "totals": "sums", "walks": "steps"}
NUMBERS = [3.0, 1.0, 4.0]

both_versions = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture(scope="module")
def server(folder):
    with TritonServer(folder) as running:
        yield running


@pytest.fixture(scope="module")
def sidecar(folder, server, collector):
    with before(server, folder, collector) as running:
        yield running


@pytest.fixture
def tracing(folder, collector):
    """A sidecar before a Triton that traces."""
    with TritonServer(folder, TRACER, collector.http) as server, before(server, folder, collector) as running:
        yield running


def before(server, folder, collector) -> Sidecar:
    endpoint = {"endpoint": f"http://{server.address}"}

    def versions(**more) -> dict:
        variants = {VARIANTS[v]: {**endpoint, "version": v, "model_version": v, **more} for v in VERSIONS}
        return {
            "variants": variants,
            "unit": ["metadata:x-user-id"],
            "strategy": half("one", "two"),
            "force": "anyone",
        }

    config = {
        "default": "sums",
        "models": {
            "sums": {"variants": {"whole": {**endpoint, "version": "2"}}},
            "steps": versions(),
            "totals": versions(model_name="sums"),
            "walks": versions(model_name="steps"),
        },
        "telemetry": {"otlp": f"http://127.0.0.1:{collector.port}", "sample": "100%"},
    }
    return Sidecar(folder, config, f"before-{server.name}")


def request(model: str, numbers=NUMBERS, version: str = "", raw: bool = False, id: str = "request-7") -> bytes:
    message = pb.ModelInferRequest(model_name=model, model_version=version, id=id)
    tensor = message.inputs.add(name="x", datatype="FP64", shape=[len(numbers)])
    if raw:
        message.raw_input_contents.append(np.array(numbers).tobytes())
    else:
        tensor.contents.fp64_contents.extend(numbers)
    return message.SerializeToString(deterministic=True)


def requests(model: str, *lists, version: str = "") -> list[bytes]:
    return [request(model, numbers, version, id=f"message {count}") for count, numbers in enumerate(lists)]


def force(version: str) -> list:
    return [("parhelion-variant", VARIANTS[version])]


def numbers_of(answer: pb.ModelInferResponse) -> list[float]:
    return np.frombuffer(answer.raw_output_contents[0]).tolist()


def parsed(messages: list, name: str) -> list[pb.ModelStreamInferResponse]:
    """The answers of a stream; where one names its model it gets `name`, to compare those that differ in it only.

    Triton may interleave the answers of a decoupled model to several requests, another way each time: what is certain
    is the order of those to one request.
    """
    answers = [pb.ModelStreamInferResponse.FromString(message) for message in messages]
    for answer in answers:
        if answer.infer_response.model_name:
            answer.infer_response.model_name = name
    return sorted(answers, key=lambda answer: answer.infer_response.id)


def names(messages: list) -> set[str]:
    """What the answers of a stream call their model."""
    return {pb.ModelStreamInferResponse.FromString(message).infer_response.model_name for message in messages}


# One request at a time.


@pytest.mark.parametrize("version", ["", *VERSIONS])
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
def test_answers_are_byte_equal(sidecar, server, version, raw):
    message = request("sums", version=version, raw=raw)
    through = ask(sidecar.address, "ModelInfer", [message])
    alone = ask(server.address, "ModelInfer", [message])
    assert alone.code == "OK"
    assert_same(through, alone)
    assert own(through).keys() == OWN_RESPONSE_KEYS
    answer = pb.ModelInferResponse.FromString(through.messages[0])
    # However the tensor came, Triton answers raw; and each version has answers of its own.
    assert np.array_equal(numbers_of(answer), np.cumsum(NUMBERS) * int(version or "2"))


@pytest.mark.parametrize(
    "message",
    [
        request("sums", version="9"),
        request("sums", version="x"),
        request("sums", [-1.0]),
        request("steps"),
        b"\xff",
    ],
    ids=["unknown version", "no version", "refused by the model", "decoupled", "no message"],
)
def test_refusals_are_passed_on(sidecar, server, message):
    through = ask(sidecar.address, "ModelInfer", [message])
    alone = ask(server.address, "ModelInfer", [message])
    assert alone.code != "OK"
    assert_same(through, alone)


def test_versions_of_one_server_are_routed(sidecar, collector):
    """100 users of a renamed model, through tritonclient: name, version and numbers are those of the user's variant."""
    variants, ids = Counter(), {}
    tensor = triton.InferInput("x", [len(NUMBERS)], "FP64")
    tensor.set_data_from_numpy(np.array(NUMBERS))
    message = request("totals")
    with triton.InferenceServerClient(sidecar.address) as client:
        for number in range(100):
            metadata = [("x-user-id", f"user-{number}")]
            got = client.infer("totals", [tensor], headers=dict(metadata))
            version = got.get_response().model_version
            assert got.get_response().model_name == "totals"
            assert np.array_equal(got.as_numpy("y"), np.cumsum(NUMBERS) * int(version))
            variants[version] += 1
            if number < 10:
                again = ask(sidecar.address, "ModelInfer", [message], metadata)
                assert own(again)["parhelion-variant"] == VARIANTS[version]
                assert own(again)["parhelion-model-version"] == version
                ids[own(again)["parhelion-prediction-id"]] = version
    # Five standard deviations of 100 fair draws.
    assert variants.keys() == set(VERSIONS) and variants["1"] in range(25, 76)
    spans = collector.wait_for(
        "the predictions",
        lambda span: span.attributes.get("parhelion.prediction_id") in ids and span.kind == "SPAN_KIND_SERVER",
        count=len(ids),
    )
    assert len(spans) == len(ids)
    for attributes in (span.attributes for span in spans):
        version = ids[attributes["parhelion.prediction_id"]]
        assert attributes["parhelion.version"] == attributes["parhelion.reported_version"] == version
        assert attributes["parhelion.variant"] == VARIANTS[version]


@both_versions
@pytest.mark.parametrize("gzip", [True, False], ids=["gzip", "plain"])
def test_a_renamed_model_keeps_the_callers_name(sidecar, server, version, gzip):
    squeezed = {"compression": grpc.Compression.Gzip} if gzip else {}
    with grpc.insecure_channel(sidecar.address, OPTIONS) as channel:
        path = "/inference.GRPCInferenceService/ModelInfer"
        message, call_of = channel.unary_unary(path).with_call(
            request("totals"), metadata=force(version), timeout=20, **squeezed
        )
    alone = ask(server.address, "ModelInfer", [request("sums", version=version)])
    assert call_of.code() == grpc.StatusCode.OK and alone.code == "OK"
    got, expected = pb.ModelInferResponse.FromString(message), pb.ModelInferResponse.FromString(alone.messages[0])
    assert (got.model_name, got.model_version) == ("totals", version)
    got.model_name = expected.model_name
    assert got == expected


def test_who_asks_for_a_version_is_answered_in_its_name(sidecar, collector):
    """A variant that is asked for version 2 serves it to who asked for 1; the span says what it was."""
    through = ask(sidecar.address, "ModelInfer", [request("totals", version="1")], force("2"))
    answer = pb.ModelInferResponse.FromString(through.messages[0])
    assert (answer.model_name, answer.model_version) == ("totals", "1")
    assert np.array_equal(numbers_of(answer), np.cumsum(NUMBERS) * 2)
    keys = own(through)
    assert keys["parhelion-model-version"] == "2"
    attributes = prediction(collector, keys["parhelion-prediction-id"]).attributes
    assert attributes["parhelion.version"] == attributes["parhelion.reported_version"] == "2"


# Streams.


@both_versions
def test_a_stream_is_byte_equal(sidecar, server, version):
    messages = requests("sums", *([float(count)] * count for count in range(1, 21)), version=version)
    through = ask_stream(sidecar.address, messages)
    alone = ask_stream(server.address, messages)
    assert alone.code == "OK" and len(alone.messages) == 20
    assert_same(through, alone)
    assert own(through).keys() == OWN_RESPONSE_KEYS


@both_versions
@pytest.mark.parametrize("model", REAL_NAMES)
def test_a_stream_of_a_routed_version(sidecar, server, collector, model, version):
    """Several answers for each message where the model is decoupled; names and versions go both ways."""
    lists = [NUMBERS, [5.0], [9.0, 2.0]]
    through = ask_stream(sidecar.address, requests(model, *lists), force(version))
    alone = ask_stream(server.address, requests(REAL_NAMES[model], *lists, version=version))
    assert through.code == alone.code == "OK"
    assert len(alone.messages) == (3 if REAL_NAMES[model] == "sums" else 6)
    assert names(through.messages) == {model}
    # In their order, and in each of their fields but the name.
    assert parsed(through.messages, model) == parsed(alone.messages, model)
    assert without_own(through.initial) == alone.initial and without_own(through.trailing) == alone.trailing

    keys = own(through)
    assert (keys["parhelion-variant"], keys["parhelion-model-version"]) == (VARIANTS[version], version)
    attributes = prediction(collector, keys["parhelion-prediction-id"]).attributes
    assert attributes["parhelion.reported_version"] == attributes["parhelion.version"] == version
    assert attributes["parhelion.request.messages"] == 3
    assert attributes["parhelion.response.messages"] == len(alone.messages)


def test_a_stream_answers_while_it_is_open(sidecar):
    """By tritonclient, which sends the next number after it got the former answer."""
    answers = Queue()
    with triton.InferenceServerClient(sidecar.address) as client:
        client.start_stream(lambda result, error: answers.put(error or result), headers=dict(force("2")))
        for number in range(10):
            tensor = triton.InferInput("x", [1], "FP64")
            tensor.set_data_from_numpy(np.array([float(number)]))
            client.async_stream_infer("walks", [tensor], request_id=f"{number}")
            answer = answers.get(timeout=20)
            assert answer.as_numpy("y").tolist() == [2.0 * number]
            assert answer.get_response().id == f"{number}"
        client.stop_stream()


@pytest.mark.parametrize("model", ["sums", *REAL_NAMES])
def test_an_error_in_a_stream_is_the_servers_fault(sidecar, server, collector, model):
    """The status says OK, as it was sent; the span says what the answer in between said."""
    real = REAL_NAMES.get(model, model)
    lists = [NUMBERS, [-1.0], [5.0]]
    # An error echoes the version that was asked for; who is routed need not ask for any.
    asked = {"version": "2"} if model == "sums" else {}
    through = ask_stream(sidecar.address, requests(model, *lists, **asked), force("2"))
    alone = ask_stream(server.address, requests(real, *lists, version="2"))
    assert through.code == alone.code == "OK"
    assert parsed(through.messages, real) == parsed(alone.messages, real)
    errors = [pb.ModelStreamInferResponse.FromString(message).error_message for message in through.messages]
    assert [error for error in errors if error] == ["no such numbers"]
    # The server's own name of the model does not get out, not with an error either.
    assert names(through.messages) == {model}

    span = prediction(collector, own(through)["parhelion-prediction-id"])
    assert span.attributes["rpc.status_code"] == "OK"
    assert span.attributes["parhelion.blame"] == "upstream"


# All else.


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("ServerLive", pb.ServerLiveRequest()),
        ("ServerReady", pb.ServerReadyRequest()),
        ("ServerMetadata", pb.ServerMetadataRequest()),
        ("ModelReady", pb.ModelReadyRequest(name="sums", version="2")),
        ("ModelReady", pb.ModelReadyRequest(name="sums", version="9")),
        ("ModelMetadata", pb.ModelMetadataRequest(name="sums")),
        ("ModelMetadata", pb.ModelMetadataRequest(name="nobody")),
        ("ModelConfig", pb.ModelConfigRequest(name="steps", version="1")),
        ("RepositoryIndex", pb.RepositoryIndexRequest()),
        ("NoSuchMethod", pb.ServerLiveRequest()),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value).strip().replace("\n", " ") or "empty",
)
def test_other_rpcs_pass(sidecar, server, method, message):
    through = ask(sidecar.address, method, [message.SerializeToString()])
    alone = ask(server.address, method, [message.SerializeToString()])
    assert_same(through, alone)


def test_health_passes(sidecar, server):
    message = health_pb2.HealthCheckRequest(service="whatever").SerializeToString()
    with grpc.insecure_channel(sidecar.address) as through, grpc.insecure_channel(server.address) as alone:
        answers = [call(channel, "Check", [message], service="grpc.health.v1.Health") for channel in (through, alone)]
    assert answers[1].code == "OK"
    assert_same(*answers)


# Traces.


def traced(sidecar, collector, version, stream):
    """A call with a trace: the trace, and the sidecar's client span below its server span."""
    trace, caller = secrets.token_hex(16), secrets.token_hex(8)
    metadata = [*force(version), ("traceparent", f"00-{trace}-{caller}-01")]
    if stream:
        answer = ask_stream(sidecar.address, requests("walks", NUMBERS), metadata)
    else:
        answer = ask(sidecar.address, "ModelInfer", [request("totals")], metadata)
    assert answer.code == "OK"
    server = prediction(collector, own(answer)["parhelion-prediction-id"])
    assert (server.name, server.trace, server.parent) == (STREAM if stream else INFER, trace, caller)
    (client,) = collector.wait_for(
        "the upstream attempt", lambda span: span.trace == trace and span.kind == "SPAN_KIND_CLIENT"
    )
    assert client.parent == server.id
    return trace, client


def test_the_servers_spans_continue_the_trace(tracing, collector):
    for version, stream in itertools.product(VERSIONS, (False, True)):
        # A span of Triton's that never reaches the collector proves nothing about the sidecar, so the call is made
        # again. A trace that is not continued would be missing every time.
        for patience in (10, 10, 30):
            trace, client = traced(tracing, collector, version, stream)
            try:
                (model,) = collector.wait_for(
                    "Triton",
                    lambda span: span.resource.get("service.name") == TRACER and span.parent == client.id,
                    seconds=patience,
                )
                break
            except TimeoutError as error:
                missing = error
        else:
            raise missing
        assert model.trace == trace
        (compute,) = collector.wait_for("the model", lambda span: span.parent == model.id)
        assert compute.name == ("steps" if stream else "sums")
        assert compute.attributes["triton.model_version"] == int(version)
