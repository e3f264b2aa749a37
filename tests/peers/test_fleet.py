"""Three sidecars and a real redis-server: one rollout, decided once, whatever becomes of the store."""

import shutil
import signal

import pytest

from echo import EchoServer
from fleet import Breaking, Fleet, config, ctl
from processes import wait_for
from redisserver import WHERE, RedisServer
from sidecar import Sidecar

pytestmark = pytest.mark.skipif(not shutil.which("redis-server"), reason=WHERE)


def test_one_rollout_is_decided_once_for_all(tmp_path, stack, store):
    with EchoServer() as good, Breaking() as bad:
        fleet = Fleet(stack, tmp_path, store, {"v1": good, "v2": bad})
        fleet.wait_for_states("running")
        bad.broken = True
        calls = 0

        def out():
            nonlocal calls
            for number in range(3):
                fleet.call(number)
                calls += 1
            return fleet.states() == ["rolled_back"] * 3

        wait_for("all rolled back", out)
        trails = [one.audit("m") for one in fleet.sidecars]
        rolled = [[record for record in trail if record["action"] == "rolled_back"] for trail in trails]
        assert [len(records) for records in rolled] == [1, 1, 1], rolled
        assert len({(one[0]["at_unix_ms"], one[0]["epoch"]) for one in rolled}) == 1
        said = [fleet.status(number)["fleet"] for number in range(3)]
        assert {one["version"] for one in said} == {said[0]["version"]}
        assert len({one["holder"] for one in said}) == 1 and said[0]["holder"]


def test_a_command_at_any_replica_acts_for_all(tmp_path, stack, store, pair):
    fleet = Fleet(stack, tmp_path, store, pair)
    fleet.wait_for_states("running")
    for number, (command, state) in enumerate(
        [("pause", "paused"), ("resume", "running"), ("rollback", "rolled_back"), ("resume", "running")]
    ):
        done = ctl(fleet.sidecars[number % 3], command, "m", "--reason", "why not")
        assert done["rollout"]["state"] == state
        fleet.wait_for_states(state)


def test_what_all_count_is_counted_once_whatever_becomes_of_the_store(tmp_path, stack, store, pair):
    fleet = Fleet(stack, tmp_path, store, pair)
    fleet.wait_for_states("running")
    calls = 0

    def load(times: int):
        nonlocal calls
        for _ in range(times):
            for number in range(3):
                assert fleet.call(number)[1] == "OK"
                calls += 1

    def counted():
        def of(number):
            return sum(arm["calls"] for arm in fleet.status(number)["arms"])

        wait_for(f"{calls} are counted by whoever decides", lambda: max(map(of, range(3))) == calls)
        # The others know a little less until they ask; nobody knows more.
        assert all(of(number) <= calls for number in range(3))

    load(40)
    counted()
    store.command("FLUSHALL")
    load(40)
    counted()
    store.kill()
    load(40)
    store.start()
    load(5)
    counted()
    store.program.signal(signal.SIGSTOP)
    load(40)
    fleet.wait_until_parted()
    store.program.signal(signal.SIGCONT)
    load(5)
    counted()
    assert all(one.counted("parhelion_fleet_parts_lost_total")[""] == 0 for one in fleet.sidecars)


def test_a_rollback_of_a_parted_replica_is_everybodys_when_the_store_is_back(tmp_path, stack, store):
    with EchoServer() as good, Breaking() as bad:
        fleet = Fleet(stack, tmp_path, store, {"v1": good, "v2": bad})
        fleet.wait_for_states("running")
        store.kill()
        fleet.wait_until_parted()
        bad.broken = True

        def out():
            fleet.call(0)
            return fleet.status(0)["state"] == "rolled_back"

        wait_for("the one that sees it rolls back alone", out)
        assert fleet.states()[1:] == ["running"] * 2
        store.start()
        fleet.wait_for_states("rolled_back", 10.0)
        assert {fleet.call(number)[0] for number in range(3) for _ in range(20)} == {"v1"}
        wait_for(
            "the trail of all says so",
            lambda: all(any("parted" in record["why"] for record in one.audit("m")) for one in fleet.sidecars),
        )


def test_a_replica_that_starts_without_the_store_serves_the_last_plan(tmp_path, stack, store, pair):
    fleet = Fleet(stack, tmp_path, store, pair)
    fleet.wait_for_states("running")
    ctl(fleet.sidecars[0], "rollback", "m")
    fleet.wait_for_states("rolled_back")
    wait_for("it is on the disk", lambda: (tmp_path / "cache-1").is_dir())
    fleet.sidecars[1].program.stop()
    store.kill()
    again = config(store, pair, tmp_path / "cache-1")
    with Sidecar(tmp_path, again, "replica-1-again") as one:
        assert ctl(one, "status", "m")["state"] == "rolled_back"
