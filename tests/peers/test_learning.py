"""What a bandit says of its variants, found again from the prediction log by the queries of its page."""

import json
import random
import re
from pathlib import Path

import duckdb
import grpc
import pytest

from echo import OPTIONS, call
from inference import SERVICE, own, request
from models import NEW, OLD
from processes import wait_for
from sidecar import Sidecar
from test_feedback import Reporter

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bandit.md"
CALLS = 400
# What users approve of: a fifth of the old one's answers, half of the new one's.
APPROVED = {"old": 0.2, "new": 0.5}


def config(folder: Path, servers) -> dict:
    at = {"old": OLD, "new": NEW}
    variants = {name: {"endpoint": f"http://{servers[of].address}", "version": of} for name, of in at.items()}
    strategy = {
        "kind": "bandit",
        "baseline": "old",
        "reward": {"name": "approved"},
        "min_units": 50,
        "floor": "10%",
        "stop": "off",
        "guards": {"errors": "off", "rejections": "off", "latency": "off"},
    }
    model = {"variants": variants, "unit": ["metadata:x-user-id"], "strategy": strategy}
    log = {"dir": str(folder / "log"), "flush": "50ms", "seal": {"every": "1s"}}
    return {"models": {"digits": {**model, "feedback": {"approved": {"kind": "binary"}}}}, "log": log}


def asked(folder: Path) -> list[list[tuple]]:
    """What each query of the page answers."""
    database = duckdb.connect()
    queries = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.S)
    words = {"/var/log/parhelion": str(folder / "log"), "'fraud'": "'digits'", "'v1'": "'old'"}
    for one, other in words.items():
        queries = [query.replace(one, other) for query in queries]
    return [database.execute(query).fetchall() for query in queries]


def test_every_number_that_is_said_of_variants_is_in_the_log(folder, servers, classifier):
    place = folder / "learning"
    place.mkdir()
    chance = random.Random(11)
    with Sidecar(place, config(place, servers), "learning") as sidecar:
        wait_for("it begins", lambda: sidecar.status("digits")["state"] == "running")
        with grpc.insecure_channel(sidecar.address, OPTIONS) as channel:
            reporter = Reporter(channel)
            for number in range(CALLS):
                message = request(classifier.rows[:1], raw=True).SerializeToString()
                answer = call(channel, "ModelInfer", [message], [("x-user-id", f"user-{number % 90}")], service=SERVICE)
                assert answer.code == "OK", answer
                told = own(answer)
                value = int(chance.random() < APPROVED[told["parhelion-variant"]])
                reporter.report(told["parhelion-prediction-id"], value)

        def known() -> dict:
            return {arm["variant"]: arm for arm in sidecar.status("digits")["learning"]["arms"]}

        wait_for("all is learnt", lambda: sum(arm["values"] for arm in known().values()) == CALLS)
        arms = known()
        wait_for("all is written", lambda: sidecar.counted("parhelion_log_rows_total")[""] >= 2 * CALLS)
        (finding,) = [one for one in sidecar.status("digits")["guards"] if one["name"] == "feedback approved"]
    values, effects = asked(place)
    assert {variant for variant, *_ in values} == set(APPROVED)
    for variant, count, mean in values:
        assert count == arms[variant]["values"], (variant, values, arms)
        assert mean == pytest.approx(arms[variant]["mean"], abs=1e-6), (variant, values, arms)
    # The same weights on values as they are: the interval that is said holds it.
    effect = dict(effects)["new"]
    harm = finding["harm"]
    assert harm is None or harm["low"] <= -effect <= harm["high"], (effect, json.dumps(finding))
    assert abs(effect - (APPROVED["new"] - APPROVED["old"])) < 0.25, effects
