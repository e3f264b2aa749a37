"""Strategies that learn, at three replicas: one snapshot for all, and the same draw for the same unit at each of them."""

import base64
import random
import shutil
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc
from tritonclient.grpc import service_pb2 as pb

from echo import OPTIONS
from fleet import REPLICAS, Fleet, keys
from inference import SERVICE
from processes import wait_for
from redisserver import WHERE

pytestmark = pytest.mark.skipif(not shutil.which("redis-server"), reason=WHERE)

OFF = {"errors": "off", "rejections": "off", "latency": "off"}
USERS = 60
# What users approve of.
APPROVED = {"v1": 0.1, "v2": 0.9}


def epoch(prediction: str) -> int:
    """Of the split that a prediction was made in, as its id says."""
    raw = base64.urlsafe_b64decode(prediction + "=" * (-len(prediction) % 4))
    return int.from_bytes(raw[30:34], "big")


def test_a_bandit_draws_the_same_for_a_unit_at_every_replica(tmp_path, stack, store, pair):
    bandit = {"kind": "bandit", "baseline": "v1", "reward": {"name": "approved"}, "min_units": 30, "floor": "10%"}
    bandit |= {"stop": "off", "guards": OFF}
    model = {"unit": ["metadata:x-user-id"], "feedback": {"approved": {"kind": "binary", "window": "1h"}}}
    fleet = Fleet(stack, tmp_path, store, pair, strategy=bandit, model=model, keys=keys(tmp_path))
    fleet.wait_for_states("running")
    chance = random.Random(5)
    drawn = defaultdict(dict)

    def share(number: int) -> float:
        (arm,) = [one for one in fleet.status(number)["arms"] if one["variant"] == "v2"]
        return arm["share"]

    def learnt() -> bool:
        for user in range(USERS):
            for number in range(REPLICAS):
                told, code = fleet.ask(number, f"user-{user}")
                assert code == "OK"
                variant, prediction = told["parhelion-variant"], told["parhelion-prediction-id"]
                before = drawn[f"user-{user}", epoch(prediction)].setdefault(number, variant)
                assert before == variant
            # The one of them that is reported on goes to any replica.
            value = int(chance.random() < APPROVED[variant])
            to = fleet.sidecars[chance.randrange(REPLICAS)]
            to.report({"prediction_id": prediction, "name": "approved", "value": value})
        return all(share(number) > 0.8 for number in range(REPLICAS))

    wait_for("every replica gives more to the better one", learnt, 90)
    wrong = {key: by for key, by in drawn.items() if len(set(by.values())) > 1}
    assert not wrong, wrong
    everywhere = [key for key, by in drawn.items() if len(by) == REPLICAS]
    epochs = {number for _, number in everywhere}
    assert len(everywhere) >= USERS and len(epochs) >= 2, (len(everywhere), epochs)
    assert {variant for by in drawn.values() for variant in by.values()} == {"v1", "v2"}
    # The evidence of all is behind it, at whoever decides.
    (leads,) = [number for number in range(REPLICAS) if fleet.counted_at(number, "parhelion_fleet_leads") == 1]
    arms = fleet.status(leads)["learning"]["arms"]
    counted = fleet.counted("parhelion_fleet_reports_total", "result")["counted"]
    wait_for(
        "it knows them all",
        lambda: sum(arm["values"] for arm in fleet.status(leads)["learning"]["arms"]) >= counted,
    )
    assert len(arms) == 2


class RankerServer:
    """Ranks what it is given, whoever asks."""

    def __init__(self, items: list[int]):
        self._server = grpc.server(ThreadPoolExecutor(8), options=[*OPTIONS, ("grpc.so_reuseport", 0)])
        answer = pb.ModelInferResponse(model_name="films", model_version="1")
        one = answer.outputs.add(name="items", datatype="INT64", shape=[len(items)])
        one.contents.int64_contents.extend(items)
        one = answer.outputs.add(name="scores", datatype="FP32", shape=[len(items)])
        one.contents.fp32_contents.extend(float(len(items) - rank) for rank in range(len(items)))
        infer = grpc.unary_unary_rpc_method_handler(
            lambda _, __: answer, pb.ModelInferRequest.FromString, pb.ModelInferResponse.SerializeToString
        )
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": infer})])
        health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *_):
        self._server.stop(None).wait(10)


def test_rankers_are_merged_alike_at_every_replica_and_their_votes_add_up(tmp_path, stack, store):
    rankers = {
        "v1": stack.enter_context(RankerServer(list(range(1, 11)))),
        "v2": stack.enter_context(RankerServer(list(range(11, 21)))),
    }
    interleave = {
        "kind": "interleave",
        "baseline": "v1",
        "draft": "metadata:x-search-id",
        "ranking": {"items": "items", "scores": "scores"},
        "credit": {"feedback": "clicks", "session_gap": "300ms"},
        "on_pass": "promote",
    }
    model = {"unit": ["metadata:x-user-id"], "feedback": {"clicks": {"kind": "clicks", "window": "1m"}}}
    fleet = Fleet(
        stack, tmp_path, store, rankers, strategy=interleave, model=model, keys=keys(tmp_path), services={SERVICE: "m"}
    )
    fleet.wait_for_states("running")
    stubs = [
        channel.unary_unary(
            f"/{SERVICE}/ModelInfer", pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
        )
        for channel in fleet.channels
    ]

    def shown(number: int, search: int) -> tuple[list[int], str]:
        metadata = [("x-user-id", f"user-{search}"), ("x-search-id", f"search-{search}")]
        answer, call = stubs[number].with_call(pb.ModelInferRequest(model_name="m"), timeout=10, metadata=metadata)
        prediction = dict(call.initial_metadata())["parhelion-prediction-id"]
        return list(answer.outputs[0].contents.int64_contents), prediction

    starts = set()
    for search in range(24):
        lists = [shown(number, search)[0] for number in range(REPLICAS)]
        assert lists[0] == lists[1] == lists[2], (search, lists)
        assert any(item > 10 for item in lists[0]) and any(item <= 10 for item in lists[0])
        starts.add(lists[0][0] > 10)
    assert starts == {True, False}, "chance says who drafts first"

    searches = iter(range(1_000, 3_000))

    def decided() -> bool:
        for _ in range(REPLICAS):
            search = next(searches)
            items, prediction = shown(search % REPLICAS, search)
            slot = next(place for place, item in enumerate(items) if item > 10)
            to = fleet.sidecars[(search // REPLICAS) % REPLICAS]
            to.report({"prediction_id": prediction, "name": "clicks", "value": 1, "slot": slot})
        return fleet.states() == ["promoted"] * REPLICAS

    wait_for("all promote what people click on", decided, 90)
    trails = [[record for record in one.audit("m") if record["action"] == "promoted"] for one in fleet.sidecars]
    assert [len(records) for records in trails] == [1] * REPLICAS, trails
    assert len({(one[0]["at_unix_ms"], one[0]["epoch"]) for one in trails}) == 1
