"""Three sidecars and a real redis-server: one rollout, decided once, whatever becomes of the store."""

import json
import shutil
import signal
import subprocess
from contextlib import ExitStack

import grpc
import pytest

from echo import OPTIONS, SERVICE, EchoServer
from processes import wait_for
from redisserver import WHERE, RedisServer
from sidecar import Sidecar, binary

pytestmark = pytest.mark.skipif(not shutil.which("redis-server"), reason=WHERE)


class Breaking(EchoServer):
    """Fails every call once it is told to."""

    broken = False

    def _close(self, context, asked, seen):
        super()._close(context, asked, seen)
        if self.broken:
            context.set_code(grpc.StatusCode.INTERNAL)


class Fleet:
    """Sidecars that share a rollout between two echo servers."""

    def __init__(self, stack: ExitStack, folder, store: RedisServer, servers, steps=None, **more):
        self.sidecars = [
            stack.enter_context(
                Sidecar(folder, config(store, servers, folder / f"cache-{number}", steps, **more), f"replica-{number}")
            )
            for number in range(3)
        ]
        self.channels = [stack.enter_context(grpc.insecure_channel(one.address, OPTIONS)) for one in self.sidecars]

    def call(self, number: int) -> tuple[str, str]:
        """Who got a call, and its status."""
        method = self.channels[number].unary_unary(f"/{SERVICE}/Unary")
        try:
            _, call = method.with_call(b"x", timeout=10)
        except grpc.RpcError as error:
            call = error
        variant = dict(call.initial_metadata() or ()).get("parhelion-variant", "")
        return variant, call.code().name

    def status(self, number: int) -> dict:
        return ctl(self.sidecars[number], "status", "m")

    def states(self) -> list[str]:
        return [self.status(number)["state"] for number in range(3)]

    def wait_for_states(self, state: str, seconds: float = 20.0):
        wait_for(f"all are {state}", lambda: self.states() == [state] * 3, seconds)


def config(store, servers, cache, steps, **more) -> dict:
    variants = {name: {"endpoint": f"http://{server.address}", "version": name} for name, server in servers.items()}
    steps = steps or [{"share": "50%"}]
    canary = {"kind": "canary", "baseline": "v1", "candidate": "v2", "salt": "s", "steps": steps, **more}
    return {
        "state": store.url,
        "fleet": {"cache": str(cache)},
        "services": {SERVICE: "m"},
        "models": {"m": {"variants": variants, "strategy": canary, "fallback": "off"}},
    }


def ctl(sidecar, *words: str):
    command = [binary(), "ctl", "--json", "--admin", sidecar.admin, *words]
    said = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


@pytest.fixture(scope="module")
def servers():
    with EchoServer() as one, EchoServer() as other:
        yield {"v1": one, "v2": other}


@pytest.fixture
def stack():
    with ExitStack() as entered:
        yield entered


@pytest.fixture
def store(tmp_path):
    with RedisServer(tmp_path) as running:
        yield running


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


def test_a_command_at_any_replica_acts_for_all(tmp_path, stack, store, servers):
    fleet = Fleet(stack, tmp_path, store, servers)
    fleet.wait_for_states("running")
    for number, (command, state) in enumerate(
        [("pause", "paused"), ("resume", "running"), ("rollback", "rolled_back"), ("resume", "running")]
    ):
        done = ctl(fleet.sidecars[number % 3], command, "m", "--reason", "why not")
        assert done["rollout"]["state"] == state
        fleet.wait_for_states(state)


def test_what_all_count_is_counted_once_whatever_becomes_of_the_store(tmp_path, stack, store, servers):
    fleet = Fleet(stack, tmp_path, store, servers)
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
    wait_for("they know that they are parted", lambda: all(fleet.status(n)["fleet"]["parted"] for n in range(3)))
    store.program.signal(signal.SIGCONT)
    load(5)
    counted()
    assert all(one.counted("parhelion_fleet_parts_lost_total")[""] == 0 for one in fleet.sidecars)


def test_a_rollback_of_a_parted_replica_is_everybodys_when_the_store_is_back(tmp_path, stack, store):
    with EchoServer() as good, Breaking() as bad:
        fleet = Fleet(stack, tmp_path, store, {"v1": good, "v2": bad})
        fleet.wait_for_states("running")
        store.kill()
        wait_for("they are parted", lambda: all(fleet.status(n)["fleet"]["parted"] for n in range(3)))
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


def test_a_store_that_cannot_be_used_is_named_and_calls_go_on(tmp_path, stack, store, servers):
    store.command("HSET", "{parhelion:m}:model", "made", "something else 7")
    fleet = Fleet(stack, tmp_path, store, servers)
    status = wait_for("it is named", lambda: (fleet.status(0)["fleet"]["trouble"] and fleet.status(0)))
    assert "something else 7" in status["fleet"]["trouble"] and status["kept"] == "failing"
    assert fleet.call(0) == ("v1", "OK")
    refused = subprocess.run(
        [binary(), "ctl", "--admin", fleet.sidecars[0].admin, "pause", "m"], capture_output=True, text=True, timeout=20
    )
    assert refused.returncode == 1 and "something else 7" in refused.stderr
    assert fleet.sidecars[0].counted("parhelion_fleet_failures_total", "cause")["foreign"] > 0
    store.command("DEL", "{parhelion:m}:model")
    fleet.wait_for_states("running")


def test_a_replica_that_starts_without_the_store_serves_the_last_plan(tmp_path, stack, store, servers):
    fleet = Fleet(stack, tmp_path, store, servers)
    fleet.wait_for_states("running")
    ctl(fleet.sidecars[0], "rollback", "m")
    fleet.wait_for_states("rolled_back")
    wait_for("it is on the disk", lambda: (tmp_path / "cache-1").is_dir())
    fleet.sidecars[1].program.stop()
    store.kill()
    again = config(store, servers, tmp_path / "cache-1", None)
    with Sidecar(tmp_path, again, "replica-1-again") as one:
        assert ctl(one, "status", "m")["state"] == "rolled_back"
