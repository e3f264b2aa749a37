"""Calls as CloudEvents, as the CloudEvents SDK for Python reads them: a receiver of a few lines, gRPC calls to MLServer,
and the prediction log's own rows beside them."""

import json
from datetime import timezone

import joblib
import numpy as np
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event

from models import NEW, OLD
from processes import wait_for
from sidecar import Sidecar
from test_log import CALLS, config, rows, work
from web import Handler, Server

TYPES = {side: f"org.kubeflow.serving.inference.{side}" for side in ("request", "response")}


class Receiver(Server):
    """Takes events; what the SDK refuses to read is answered with 400."""

    def __init__(self):
        self.events, self.refused = [], []
        super().__init__(Event)


class Event(Handler):
    def do_POST(self):
        body = self.body()
        try:
            self.server.events.append(from_http_event(HTTPMessage(dict(self.headers), body)))
            status = 202
        except Exception as error:
            self.server.refused.append(error)
            status = 400
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture(scope="module")
def told(folder, servers, classifier):
    """All events of a sidecar's calls, and its log's rows of them."""
    place = folder / "told"
    place.mkdir()
    with Receiver() as receiver:
        address = f"http://127.0.0.1:{receiver.port}/models/default"
        more = {"payloads": {"sample": "100%", "as": "decoded"}, "cloudevents": {"url": address, "namespace": "shop"}}
        with Sidecar(place, config(place, servers, **more), "told") as sidecar:
            work(sidecar, classifier)
            told = lambda: sidecar.counted("parhelion_log_events_total")[""]  # noqa: E731
            wait_for("all is told", lambda: told() >= 2 * CALLS + 1)
            lost = sidecar.counted("parhelion_log_events_lost_total", "cause")
            assert sum(lost.values()) == 0, (lost, receiver.refused)
        logged = {row["prediction_uuid"]: row for row in rows(place, "predictions")}
    return receiver.events, logged


def of(events, side: str):
    return {event.get_id(): event for event in events if event.get_type() == TYPES[side]}


def test_the_sdk_reads_every_event_and_each_has_its_row(told):
    events, logged = told
    asked, answered = of(events, "request"), of(events, "response")
    calls = {one: row for one, row in logged.items() if row["assigned"]}
    assert set(asked) == set(calls)
    assert set(answered) == {one for one, row in calls.items() if row["rpc_status_code"] == "OK"}
    assert len(answered) == CALLS
    # The one that the other stood in for was refused by both.
    assert sum(row["role"] == "fallback" for row in calls.values()) <= 1
    for one, event in [*asked.items(), *answered.items()]:
        row = calls[one]
        side = "assigned" if event.get_type() == TYPES["request"] else "variant"
        version = {"old": OLD, "new": NEW}[row[side]]
        assert (event.get_specversion(), event.get_source()) == ("1.0", "/parhelion")
        assert (event.get_extension("variant"), event.get_extension("version")) == (row[side], version)
        assert event.get_extension("inferenceservicename") == "digits" and event.get_extension("namespace") == "shop"
        assert event.get_extension("endpoint") == ("default" if version == OLD else "canary")
        assert event.get_extension("traceparent").split("-")[1] == row["trace_id"]
    for one, event in asked.items():
        assert event.get_time().astimezone(timezone.utc) == calls[one]["time"]
    for event in answered.values():
        assert event.get_extension("reportedversion") == event.get_extension("version")


def test_the_data_are_the_messages_that_the_model_was_sent_and_answered(told, classifier):
    events, logged = told
    for one, event in of(events, "response").items():
        request, response = (of(events, side)[one].get_data() for side in TYPES)
        request, response = (json.loads(one) if isinstance(one, (bytes, str)) else one for one in (request, response))
        (tensor,) = request["inputs"]
        assert tensor["name"] == "rows" and request["outputs"] == [{"name": "predict_proba"}]
        known = np.array(tensor["data"]).reshape(tensor["shape"])
        (output,) = response["outputs"]
        model = joblib.load(classifier.files[event.get_extension("version")])
        found = np.array(output["data"]).reshape(output["shape"])
        assert np.allclose(found, model.predict_proba(known)), one
        assert json.loads(logged[one]["response_json"]) == response
