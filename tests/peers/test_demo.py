"""The demo of three replicas, as a user starts it: with a redis-server, and where there is none."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from processes import Program, wait_for
from redisserver import WHERE
from sidecar import binary


def command() -> list:
    return [binary(), "demo", "--scenario", "fleet"]


@pytest.mark.skipif(not shutil.which("redis-server"), reason=WHERE)
def test_three_replicas_leave_a_broken_candidate_as_one_and_without_their_store(tmp_path):
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    ended = subprocess.run([*command(), "--json"], capture_output=True, text=True, timeout=150, env=env)
    assert ended.returncode == 0, ended.stderr[-8000:]
    said = json.loads(ended.stdout)
    assert (said["scenario"], said["action"], said["verdict"]) == ("fleet", "rolled_back", "fail"), said
    assert said["replicas"] == 3 and said["caller_failures"] == 0 and said["decided_after_calls"] > 0, said
    for act, decisions in [("together", 1), ("alone", 3)]:
        assert said[act]["decisions"] == decisions, said
        assert said[act]["candidate_failures"] > 0 and said[act]["candidate_calls_after"] == 0, said
        assert said[act]["calls_after"] > 100, said
    failures = said["together"]["candidate_failures"] + said["alone"]["candidate_failures"]
    assert failures == said["candidate_failures"], said
    order = [
        "trouble ",
        "rolled back: v2 gets 0 %: ",
        "parhelion ctl resume",
        "store       killed",
        "(here alone, for the store is away)",
        "started again, empty",
        "filled again by those who know",
        "fleet: all left v2 twice, as it should be.",
    ]
    places = [ended.stderr.find(part) for part in order]
    assert -1 not in places and places == sorted(places), (places, ended.stderr)
    assert list(tmp_path.iterdir()) == [], "it leaves nothing behind"


@pytest.mark.skipif(not shutil.which("redis-server"), reason=WHERE)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_its_store_when_it_is_told_to_end(tmp_path, number):
    with Program("demo", command(), tmp_path, {"TMPDIR": str(tmp_path)}) as demo:
        demo.wait_until("calls are made", lambda: "began" in demo.said())
        (child,) = children(demo.pid)
        assert Path(f"/proc/{child}/comm").read_text().strip() == "redis-server"
        demo.signal(number)
        assert demo.wait(20) == 1, demo.said()
    wait_for("the store is gone", lambda: not Path(f"/proc/{child}").exists())
    assert [path.name for path in tmp_path.iterdir()] == ["demo.log"], "it leaves nothing behind"


def children(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


def test_where_there_is_no_redis_server_it_says_how_to_get_one(tmp_path):
    ended = subprocess.run(command(), capture_output=True, text=True, timeout=20, env={"PATH": str(tmp_path)})
    assert ended.returncode == 2, ended
    assert "redis-server" in ended.stderr and "apt-get install redis-server" in ended.stderr, ended.stderr
    assert ended.stdout == ""
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.0.16 sha=00000000:0 malloc=libc'\n")
    old.chmod(0o755)
    ended = subprocess.run(command(), capture_output=True, text=True, timeout=20, env={"PATH": f"{tmp_path}:/bin"})
    assert ended.returncode == 2 and "is of version 6.0.16" in ended.stderr, ended
