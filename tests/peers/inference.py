"""How the tests ask for a prediction, and what they read from the answer."""

import grpc
import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as pb

from echo import OPTIONS, Told, call, told
from models import NEW, OLD
from sidecar import OWN_RESPONSE_KEYS

SERVICE = "inference.GRPCInferenceService"
# Only where another variant was asked first, and failed.
FALLBACK_FROM = "parhelion-fallback-from"
VARIANTS = {OLD: "old", NEW: "new"}


def infer(address: str, rows: np.ndarray, model: str = "digits", **options) -> triton.InferResult:
    """Probabilities of every digit for each of the rows, by tritonclient."""
    tensor = triton.InferInput("rows", rows.shape, "FP64")
    tensor.set_data_from_numpy(rows)
    wanted = [triton.InferRequestedOutput("predict_proba")]
    with triton.InferenceServerClient(address) as client:
        return client.infer(model, [tensor], outputs=wanted, **options)


def request(rows: np.ndarray, raw: bool, model: str = "digits", output: str = "predict_proba", version: str = ""):
    """The same request as a message of its own, with an id, in either form that a tensor may have."""
    message = pb.ModelInferRequest(model_name=model, model_version=version, id="request-7")
    tensor = message.inputs.add(name="rows", datatype="FP64", shape=rows.shape)
    message.outputs.add(name=output)
    if raw:
        message.raw_input_contents.append(rows.tobytes())
    else:
        tensor.contents.fp64_contents.extend(rows.ravel())
    return message


def ask(address: str, method: str, messages: list, metadata=()) -> Told:
    with grpc.insecure_channel(address, OPTIONS) as channel:
        return call(channel, method, messages, metadata, service=SERVICE)


def ask_stream(address: str, messages: list, metadata=(), method: str = "ModelStreamInfer") -> Told:
    """All messages are sent before the first answer is waited for."""
    with grpc.insecure_channel(address, OPTIONS) as channel:
        running = channel.stream_stream(f"/{SERVICE}/{method}")(iter(messages), metadata=tuple(metadata), timeout=20)
        got = []
        try:
            got.extend(running)
        except grpc.RpcError:
            pass
        return told(running, got)


def without_own(metadata: dict) -> dict:
    added = {*OWN_RESPONSE_KEYS, FALLBACK_FROM}
    return {key: values for key, values in metadata.items() if key not in added}


def own(answer: Told) -> dict:
    """The sidecar's keys, one value each, wherever they stand."""
    pairs = {**answer.initial, **answer.trailing}
    return {key: values[0] for key, values in pairs.items() if key in OWN_RESPONSE_KEYS}


def assert_same(got: Told, expected: Told):
    assert (got.code, got.details) == (expected.code, expected.details)
    assert got.messages == expected.messages
    assert without_own(got.initial) == expected.initial
    assert without_own(got.trailing) == expected.trailing


def reported_version(answer: Told) -> str:
    """The version that the model server itself put into its answer."""
    return pb.ModelInferResponse.FromString(answer.messages[0]).model_version
