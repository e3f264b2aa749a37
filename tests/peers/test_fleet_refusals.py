"""Stores that cannot be used: each is named in status and metrics, and calls go on."""

import shutil
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from echo import EchoServer
from fleet import REPLICAS, Breaking, Fleet, config
from processes import wait_for
from redisserver import WHERE, RedisServer
from sidecar import Sidecar, binary

pytestmark = pytest.mark.skipif(not shutil.which("redis-server"), reason=WHERE)

CLOCK = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


def trouble(fleet: Fleet, number: int = 0) -> str:
    status = wait_for("it is named", lambda: (fleet.status(number)["fleet"]["trouble"] and fleet.status(number)))
    assert status["kept"] == "failing"
    return status["fleet"]["trouble"]


def assert_named(fleet: Fleet, cause: str, *words: str):
    """Status and metrics name it, and calls go on."""
    said = trouble(fleet)
    assert all(word in said for word in words), said
    assert fleet.call(0) == ("v1", "OK")
    assert fleet.sidecars[0].counted("parhelion_fleet_failures_total", "cause")[cause] > 0


def test_keys_of_another_product_are_named_and_a_command_refused(tmp_path, stack, store, pair):
    store.command("HSET", "{parhelion:m}:model", "made", "something else 7")
    fleet = Fleet(stack, tmp_path, store, pair)
    assert_named(fleet, "foreign", "something else 7", "`fleet.prefix`")
    refused = subprocess.run(
        [binary(), "ctl", "--admin", fleet.sidecars[0].admin, "pause", "m"], capture_output=True, text=True, timeout=20
    )
    assert refused.returncode == 1 and "something else 7" in refused.stderr
    store.command("DEL", "{parhelion:m}:model")
    fleet.wait_for_states("running")


@pytest.mark.parametrize("key", ["model", "audit", "replicas"])
def test_keys_of_another_type_are_named(tmp_path, stack, store, pair, key):
    store.command("SET", f"{{parhelion:m}}:{key}", "a text")
    fleet = Fleet(stack, tmp_path, store, pair)
    assert_named(fleet, "foreign", "WRONGTYPE", "`fleet.prefix`")
    store.command("DEL", f"{{parhelion:m}}:{key}")
    fleet.wait_for_states("running")


def test_a_password_that_is_missing_or_wrong_is_named_and_a_right_one_taken(tmp_path, stack, pair):
    store = stack.enter_context(RedisServer(tmp_path, "--requirepass", "right"))
    file = tmp_path / "password"
    file.write_text("wrong\n")
    fleet = Fleet(stack, tmp_path, store, pair, fleet={"password_file": str(file)})
    assert_named(fleet, "refused", "it refuses this replica", "`fleet.password_file`")
    without = stack.enter_context(Sidecar(tmp_path, config(store, pair, tmp_path / "without"), "without"))
    status = wait_for("it is named", lambda: (without.status("m")["fleet"]["trouble"] and without.status("m")))
    assert "it refuses this replica" in status["fleet"]["trouble"], status
    file.write_text("right\n")
    fleet.wait_for_states("running")


def test_a_user_of_few_rights_is_named_and_the_rights_of_the_page_are_enough(tmp_path, stack, store, pair):
    file = tmp_path / "password"
    file.write_text("secret\n")
    acl = ["ACL", "SETUSER", "parhelion", "on", ">secret", "~{parhelion:*", "&*"]
    store.command(*acl, "+ping")
    user = RedisUrl(f"redis://parhelion@127.0.0.1:{store.port}")
    fleet = Fleet(stack, tmp_path, user, pair, fleet={"password_file": str(file)})
    assert_named(fleet, "refused", "it refuses this replica")
    store.command(*acl, *rights())
    fleet.wait_for_states("running")
    store.command("ACL", "SETUSER", "parhelion", "-hset")
    wait_for("it is named", lambda: "refuses" in (fleet.status(0)["fleet"]["trouble"] or ""))


class RedisUrl:
    def __init__(self, url: str):
        self.url = url


def rights() -> list[str]:
    """The commands that the page says a user needs."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "fleet.md").read_text()
    sentence = page[page.index("The user needs") :].split("on keys", 1)[0]
    found = [word for part in sentence.split("`")[1::2] for word in part.split()]
    assert len(found) > 5, sentence
    return found


def test_a_full_store_is_named_and_used_again_when_it_has_room(tmp_path, stack, store, pair):
    fleet = Fleet(stack, tmp_path, store, pair)
    fleet.wait_for_states("running")
    store.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    store.command("CONFIG", "SET", "maxmemory", "1")
    said = trouble(fleet)
    assert said.startswith("it is full: ") and "OOM" in said, said
    assert all(fleet.call(number)[1] == "OK" for number in range(REPLICAS))
    assert fleet.sidecars[0].counted("parhelion_fleet_failures_total", "cause")["full"] > 0
    fleet.wait_until_parted()
    store.command("CONFIG", "SET", "maxmemory", "0")
    wait_for("it is used again", lambda: all(not fleet.status(n)["fleet"]["trouble"] for n in range(REPLICAS)))
    assert fleet.states() == ["running"] * REPLICAS


class Page(BaseHTTPRequestHandler):
    """Another product."""

    def do_GET(self):
        self.send_error(404)

    def log_message(self, *_):
        pass


@contextmanager
def web():
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield RedisUrl(f"redis://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()


def test_another_product_at_the_port_is_named(tmp_path, stack, pair):
    fleet = Fleet(stack, tmp_path, stack.enter_context(web()), pair)
    assert_named(fleet, "stranger", "neither Redis 7 nor Valkey", "`state`")


def test_a_model_server_at_the_port_is_named(tmp_path, stack, pair):
    fleet = Fleet(stack, tmp_path, RedisUrl(f"redis://{pair['v1'].address}"), pair)
    assert_named(fleet, "stranger", "neither Redis 7 nor Valkey")


def test_a_copy_of_another_server_and_a_database_that_is_not_there_are_named(tmp_path, stack, store, pair):
    copy = stack.enter_context(RedisServer(tmp_path, "--replicaof", f"127.0.0.1 {store.port}"))
    wait_for("it copies", lambda: "master_link_status:up" in copy.command("INFO", "replication"))
    fleet = Fleet(stack, tmp_path, copy, pair)
    assert_named(fleet, "unable", "it cannot do what is asked of it", "read only")
    none = config(RedisUrl(f"{store.url}/99"), pair, tmp_path / "none")
    with Sidecar(tmp_path, none, "none") as one:
        wait_for("it is named", lambda: "out of range" in (one.status("m")["fleet"]["trouble"] or ""))


def test_two_fleets_of_one_prefix_with_different_files_name_each_other(tmp_path, stack, store, pair):
    fleet = Fleet(stack, tmp_path, store, pair)
    fleet.wait_for_states("running")
    other = config(store, pair, tmp_path / "other")
    other["models"]["m"]["strategy"]["steps"] = [{"share": "10%"}]
    with Sidecar(tmp_path, other, "other") as one:
        wait_for("it runs", lambda: one.status("m")["state"] == "running")
        apart = lambda sidecar: sidecar.counted("parhelion_fleet_replicas_apart")[""]  # noqa: E731
        wait_for("each names the others", lambda: (apart(one), apart(fleet.sidecars[0])) == (REPLICAS, 1), 30)
        said = subprocess.run(
            [binary(), "ctl", "--admin", one.admin, "status", "m"], capture_output=True, text=True, timeout=20
        ).stdout
        assert f"{REPLICAS} have another file" in said, said
        # Each has a rollout of its own.
        assert fleet.states() == ["running"] * REPLICAS
        assert all(fleet.call(number)[1] == "OK" for number in range(REPLICAS))


@pytest.mark.skipif(not CLOCK.exists(), reason="libfaketime is not installed; on Debian: apt-get install libfaketime")
def test_clocks_an_hour_apart_are_named_and_all_goes_on(tmp_path, stack, store):
    def clock(offset: str) -> dict:
        return {"LD_PRELOAD": str(CLOCK), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    with EchoServer() as good, Breaking() as bad:
        envs = (clock("+1h"), clock("-1h"), {})
        fleet = Fleet(stack, tmp_path, store, {"v1": good, "v2": bad}, envs=envs)
        fleet.wait_for_states("running")
        skews = [fleet.counted_at(number, "parhelion_fleet_clock_skew_seconds") for number in range(REPLICAS)]
        assert [round(skew / 600) for skew in skews] == [-6, 6, 0], skews
        said = subprocess.run(
            [binary(), "ctl", "--admin", fleet.sidecars[0].admin, "status", "m"],
            capture_output=True,
            text=True,
            timeout=20,
        ).stdout
        assert "the store's clock is -3600 s from this one's" in said, said
        bad.broken = True

        def out():
            for number in range(REPLICAS):
                fleet.call(number)
            return fleet.states() == ["rolled_back"] * REPLICAS

        wait_for("all roll back", out)
