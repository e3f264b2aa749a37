"""Feedback by grpcio: the id of a real answer, reported alone and in a stream, and a forged one."""

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from echo import OPTIONS, call
from inference import SERVICE, own, request

FIELD = descriptor_pb2.FieldDescriptorProto
# What of proto/parhelion/v1/feedback.proto is used here: number, name, type.
MESSAGES = {
    "FeedbackReport": [
        (1, "prediction_id", FIELD.TYPE_STRING),
        (2, "name", FIELD.TYPE_STRING),
        (3, "number", FIELD.TYPE_DOUBLE),
    ],
    "FeedbackReceipt": [
        (1, "result", FIELD.TYPE_INT32),
        (2, "evidence", FIELD.TYPE_INT32),
        (3, "value", FIELD.TYPE_DOUBLE),
    ],
    "FeedbackSummary": [
        (1, "received", FIELD.TYPE_UINT64),
        (2, "counted", FIELD.TYPE_UINT64),
        (3, "repeated", FIELD.TYPE_UINT64),
        (4, "refused", FIELD.TYPE_UINT64),
    ],
}
FIRST, UNCHANGED = 1, 3
NOW = 1


def classes() -> dict:
    file = descriptor_pb2.FileDescriptorProto(name="feedback.proto", package="parhelion.v1", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field, kind in fields:
            added = message.field.add(number=number, name=field, type=kind, label=FIELD.LABEL_OPTIONAL)
            if kind == FIELD.TYPE_DOUBLE:
                # Of a oneof, so that 0 is sent as well.
                message.oneof_decl.add(name="only")
                added.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = {name: pool.FindMessageTypeByName(f"parhelion.v1.{name}") for name in MESSAGES}
    return {name: message_factory.GetMessageClass(descriptor) for name, descriptor in found.items()}


PB = classes()


class Reporter:
    """The methods of `parhelion.v1.Feedback`, as generated code would have them."""

    def __init__(self, channel: grpc.Channel):
        write = PB["FeedbackReport"].SerializeToString
        path = "/parhelion.v1.Feedback"
        self._one = channel.unary_unary(f"{path}/Report", write, PB["FeedbackReceipt"].FromString)
        self._many = channel.stream_unary(f"{path}/ReportStream", write, PB["FeedbackSummary"].FromString)

    def report(self, prediction_id: str, number: float = 1):
        return self._one(report(prediction_id, number), timeout=20)

    def report_stream(self, reports: list):
        return self._many(iter(reports), timeout=20)


def report(prediction_id: str, number: float = 1):
    return PB["FeedbackReport"](prediction_id=prediction_id, name="approved", number=number)


@pytest.fixture
def reporter(sidecar):
    with grpc.insecure_channel(sidecar.address, OPTIONS) as channel:
        yield Reporter(channel)


@pytest.fixture
def predict(through, classifier):
    message = request(classifier.rows[:1], raw=True).SerializeToString()
    return lambda: own(call(through, "ModelInfer", [message], service=SERVICE))["parhelion-prediction-id"]


def test_feedback_about_an_answer_counts_once(reporter, predict):
    prediction = predict()
    receipt = reporter.report(prediction)
    assert (receipt.result, receipt.evidence, receipt.value) == (FIRST, NOW, 1.0)
    assert reporter.report(prediction).result == UNCHANGED


def test_feedback_streams_say_how_much_of_it_counted(reporter, predict):
    known = predict()
    reporter.report(known)
    new = [report(predict(), number % 2) for number in range(20)]
    summary = reporter.report_stream([*new, report(known), report("me"), report(known, 2)])
    assert (summary.received, summary.counted, summary.repeated, summary.refused) == (23, 20, 1, 2)


def test_forged_feedback_is_refused(reporter, predict):
    prediction = predict()
    with pytest.raises(grpc.RpcError) as refused:
        reporter.report(prediction[:-22] + "A" * 22)
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert "forged or altered" in refused.value.details()
    assert reporter.report(prediction).result == FIRST, "the refused one counted nothing"
