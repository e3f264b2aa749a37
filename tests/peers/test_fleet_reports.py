"""Reports of feedback at any of three replicas: each counts once, whichever of them it is sent to."""

import shutil

import pytest

from fleet import REPLICAS, Fleet, keys
from processes import wait_for
from redisserver import WHERE

pytestmark = pytest.mark.skipif(not shutil.which("redis-server"), reason=WHERE)

FEEDBACK = {"approved": {"kind": "binary", "window": "1h"}, "spent": {"kind": "real", "window": "1h", "join": "sum"}}
CANARY = {
    "kind": "canary",
    "baseline": "v1",
    "candidate": "v2",
    "steps": [{"share": "50%"}],
    "guards": {"feedback": [{"name": name, "absolute": "50%"} for name in FEEDBACK]},
}
CANARY["guards"]["feedback"][1]["absolute"] = 1000


@pytest.fixture
def fleet(tmp_path, stack, store, pair):
    model = {"unit": ["metadata:x-user-id"], "feedback": FEEDBACK}
    running = Fleet(stack, tmp_path, store, pair, strategy=CANARY, model=model, keys=keys(tmp_path))
    running.wait_for_states("running")
    return running


def predictions(fleet: Fleet, count: int) -> list[str]:
    told = [fleet.ask(number % REPLICAS, f"user-{number}")[0] for number in range(count)]
    return [one["parhelion-prediction-id"] for one in told]


def report(fleet: Fleet, number: int, prediction: str, name: str = "approved", value: float = 1, **more) -> dict:
    return fleet.sidecars[number].report({"prediction_id": prediction, "name": name, "value": value, **more})


def known(fleet: Fleet, name: str) -> tuple[int, float]:
    """Predictions with a value, and the sum of all values, as whoever decides knows them."""

    def of(number: int) -> tuple[int, float]:
        (guard,) = [one for one in fleet.status(number)["guards"] if one["name"] == f"feedback {name}"]
        arms = [guard["baseline"], guard["candidate"]]
        return sum(arm["n"] for arm in arms), sum(arm["n"] * (arm["value"] or 0) for arm in arms)

    return max(map(of, range(REPLICAS)))


def test_a_report_that_goes_to_every_replica_counts_once(fleet):
    ids = predictions(fleet, 30)
    for prediction in ids:
        for number in range(REPLICAS):
            assert report(fleet, number, prediction)["result"] == "first", "nobody waits for the store"
    results = lambda: fleet.counted("parhelion_fleet_reports_total", "result")  # noqa: E731
    wait_for("the store was told of all", lambda: sum(results().values()) == REPLICAS * len(ids))
    assert results() == {"counted": len(ids), "repeated": (REPLICAS - 1) * len(ids), "full": 0}
    wait_for("whoever decides knows them", lambda: known(fleet, "approved") == (len(ids), len(ids)))
    # What a replica knows itself it says at once.
    assert report(fleet, 0, ids[0])["result"] == "unchanged"
    wait_for("none waits", lambda: sum(fleet.counted("parhelion_fleet_reports_waiting").values()) == 0)
    assert known(fleet, "approved") == (len(ids), len(ids))


def test_what_is_summed_adds_up_over_replicas_by_its_ids(fleet):
    (prediction,) = predictions(fleet, 1)
    for number, value, name in [(0, 2, "a"), (1, 3, "b"), (2, 2, "a"), (2, 4, "c"), (0, 3, "b")]:
        report(fleet, number, prediction, "spent", value, id=name)
    count, total = wait_for("all is summed", lambda: (known(fleet, "spent")[1] >= 9) and known(fleet, "spent"))
    assert (count, total) == (1, pytest.approx(9))
    results = fleet.counted("parhelion_fleet_reports_total", "result")
    assert (results["counted"], results["repeated"]) == (3, 2)


def test_without_the_store_reports_are_answered_and_wait(fleet, store):
    before = predictions(fleet, 9)
    for prediction in before:
        report(fleet, 0, prediction)
    wait_for("they count", lambda: known(fleet, "approved")[0] == len(before))
    store.kill()
    fleet.wait_until_parted()
    ids = predictions(fleet, 30)
    for prediction in ids:
        for number in range(2):
            assert report(fleet, number, prediction)["result"] == "first"
    waiting = fleet.counted("parhelion_fleet_reports_waiting")
    assert sum(waiting.values()) == 2 * len(ids)
    assert known(fleet, "approved")[0] == len(before), "none counts before the store has answered"
    store.start()
    wait_for("none waits", lambda: sum(fleet.counted("parhelion_fleet_reports_waiting").values()) == 0)
    wait_for("they count", lambda: known(fleet, "approved")[0] >= len(before) + len(ids))
    assert known(fleet, "approved") == (len(before) + len(ids),) * 2


def test_what_reports_cost_the_store(fleet, store):
    """Bytes of the wire and of memory for each: the page says no less."""
    store.command("CONFIG", "RESETSTAT")
    info = lambda: dict(line.split(":", 1) for line in store.command("INFO").split() if ":" in line)  # noqa: E731
    before = info()
    ids = predictions(fleet, 400)
    for prediction in ids:
        report(fleet, 1, prediction)
    wait_for("they count", lambda: fleet.counted("parhelion_fleet_reports_total", "result")["counted"] == len(ids))
    after = info()
    moved = {key: int(after[key]) - int(before[key]) for key in ("total_net_input_bytes", "total_net_output_bytes")}
    keys = store.command("KEYS", "*:reports:*").split()
    memory = sum(int(store.command("MEMORY", "USAGE", key, "SAMPLES", "0")) for key in keys)
    print(f"\n{len(ids)} reports: {moved}, {memory / len(ids):.0f} bytes of memory each, {len(keys)} keys")
    assert memory / len(ids) < 200
