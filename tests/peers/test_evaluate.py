"""`parhelion evaluate` beside the Open Bandit Pipeline: the estimates of its own code, on the data that it brings.

The rounds of those data become a prediction log, written by pyarrow. The pipeline's estimators are imported alone: all
that the package imports beside them (and its neural networks) is not needed.
"""

import csv
import importlib
import json
import subprocess
import sys
import types
import uuid
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sidecar import binary

PARTS = 256
EXACT = {"rel": 1e-9, "abs": 1e-9}


def pipeline() -> Path:
    """Where the package lies."""
    folders = Path(__file__).parents[2].glob(".venv-obp/lib/python3*/site-packages/obp")
    return next(folders)


@pytest.fixture(scope="module")
def estimators():
    """Its module of estimators; torch only stands for itself in type hints there."""
    root = pipeline()
    stood_in = {name: types.ModuleType(name) for name in ("torch", "obp", "obp.ope") if name not in sys.modules}
    if "torch" in stood_in:
        stood_in["torch"].Tensor = stood_in["torch"].tensor = type("Tensor", (), {})
    for name, folder in (("obp", root), ("obp.ope", root / "ope")):
        if name in stood_in:
            stood_in[name].__path__ = [str(folder)]
    sys.modules.update(stood_in)
    yield importlib.import_module("obp.ope.estimators")
    for name in [name for name in sys.modules if name in stood_in or name.startswith("obp.")]:
        del sys.modules[name]


class Rounds:
    """The rounds of one of the bundled data sets, each with a prediction of its own."""

    def __init__(self, policy: str, campaign: str):
        with open(pipeline() / "dataset" / "obd" / policy / campaign / f"{campaign}.csv") as file:
            rows = list(csv.DictReader(file))
        self.action = np.array([int(row["item_id"]) for row in rows])
        self.reward = np.array([float(row["click"]) for row in rows])
        self.pscore = np.array([float(row["propensity_score"]) for row in rows])
        draw = np.random.default_rng(7)
        self.ids = [uuid.UUID(bytes=draw.bytes(16), version=4) for _ in rows]
        self.actions = int(self.action.max()) + 1

    def log(self, folder: Path) -> Path:
        """A prediction log that has them."""
        at = datetime(2026, 11, 29, 7, tzinfo=timezone.utc)
        times = pa.array([at] * len(self.ids), pa.timestamp("us", "UTC"))
        ids = pa.array([str(one) for one in self.ids])
        tables = {
            "predictions": {
                "time": times,
                "prediction_uuid": ids,
                "assigned": pa.array([f"item{action}" for action in self.action]),
                "reason": pa.array(["draw"] * len(self.ids)),
                "propensity": pa.array(self.pscore),
                "unit_hash": pa.nulls(len(self.ids), pa.string()),
            },
            "feedback": {
                "time": times,
                "prediction_uuid": ids,
                "name": pa.array(["click"] * len(self.ids)),
                "joined": pa.array(self.reward),
            },
        }
        hour = int(at.timestamp()) // 3600
        for name, columns in tables.items():
            place = folder / name / "model=shop" / "date=2026-11-29" / "hour=07"
            place.mkdir(parents=True)
            said = {"parhelion.schema": "1", "parhelion.table": name, "parhelion.hour": str(hour), "parhelion.model": "shop"}
            table = pa.table(columns).replace_schema_metadata(said)
            pq.write_table(table, place / f"{uuid.UUID(int=1)}-{len(self.ids)}.parquet", compression="zstd")
        (folder / "schema.json").write_text('{"parhelion_log": 1}')
        return folder

    def rewards(self) -> np.ndarray:
        """Of every round the mean reward of each action outside of the round's own part, as docs/log.md has it."""
        part = np.array([one.int & 0xFF for one in self.ids])
        count, total = (np.zeros((PARTS, self.actions)) for _ in range(2))
        np.add.at(count, (part, self.action), 1)
        np.add.at(total, (part, self.action), self.reward)
        rest, earned = count.sum(0) - count, total.sum(0) - total
        means = np.divide(earned, rest, out=np.zeros_like(earned), where=rest > 0)
        return means[part]


def evaluate(log: Path, policy: str, *words) -> dict:
    command = [binary(), "evaluate", "--log", log, "--feedback", "click", "--policy", policy, "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def chances(rounds: Rounds, name: str) -> np.ndarray:
    """What a policy would give each round: everywhere the same, or of its own for each."""
    draw = np.random.default_rng(11)
    logged = np.bincount(rounds.action, minlength=rounds.actions) > 0
    many = 1 if name == "shares" else len(rounds.ids)
    drawn = draw.gamma(0.5, size=(many, rounds.actions)) * logged
    drawn /= drawn.sum(1, keepdims=True)
    return np.broadcast_to(drawn, (len(rounds.ids), rounds.actions))


@pytest.mark.parametrize("name", ["shares", "of its own for each round"])
@pytest.mark.parametrize("data", ["random", "bts"])
def test_the_estimates_are_those_of_the_pipeline_s_own_code_on_its_own_data(data, name, estimators, tmp_path):
    rounds = Rounds(data, "all")
    policy = chances(rounds, name)
    file = tmp_path / "policy.csv"
    with open(file, "w") as out:
        out.write("prediction_uuid," + ",".join(f"item{action}" for action in range(rounds.actions)) + "\n")
        for one, row in zip(rounds.ids, policy, strict=True):
            out.write(f"{one}," + ",".join(repr(float(chance)) for chance in row) + "\n")
    exported = tmp_path / "rounds.json"
    found = evaluate(rounds.log(tmp_path / "log"), f"file:{file}", "--export", exported)
    assert found["rounds"] == len(rounds.ids) == 10_000
    given = {"reward": rounds.reward, "action": rounds.action, "action_dist": policy[:, :, None], "position": None}
    predicted = rounds.rewards()[:, :, None]
    expected = {
        "ips": estimators.InverseProbabilityWeighting().estimate_policy_value(**given, pscore=rounds.pscore),
        "snips": estimators.SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(
            **given, pscore=rounds.pscore
        ),
        "dm": estimators.DirectMethod().estimate_policy_value(**given, estimated_rewards_by_reg_model=predicted),
        "dr": estimators.DoublyRobust().estimate_policy_value(
            **given, pscore=rounds.pscore, estimated_rewards_by_reg_model=predicted
        ),
    }
    for estimate, value in expected.items():
        assert found["estimates"][estimate]["value"] == pytest.approx(value, **EXACT), estimate
    assert found["logged"]["value"] == pytest.approx(rounds.reward.mean(), **EXACT)

    # The pipeline reads what was exported, and says the same of it.
    read = json.loads(exported.read_text())
    assert (read["n_rounds"], read["n_actions"]) == (10_000, len(read["action_names"]))
    column = {f"item{action}": action for action in range(rounds.actions)}
    order = {str(one): row for row, one in enumerate(rounds.ids)}
    rows = [order[one] for one in read["prediction_uuid"]]
    again = policy[np.ix_(rows, [column[action] for action in read["action_names"]])]
    value = estimators.InverseProbabilityWeighting().estimate_policy_value(
        reward=np.array(read["reward"]),
        action=np.array(read["action"]),
        pscore=np.array(read["pscore"]),
        action_dist=again[:, :, None],
        position=read["position"],
    )
    assert value == pytest.approx(expected["ips"], **EXACT)
