"""Four real model servers are replaced one after the other under constant calls: none fails, and three always answer."""

import json
import subprocess
import threading

import grpc

from echo import OPTIONS, call
from inference import SERVICE, own, reported_version, request
from models import NEW, OLD, ModelServer
from processes import wait_for
from sidecar import Sidecar, binary

SERVERS = 4
MIN_READY = 3
CALLERS = 4


def config(servers: list, version: str) -> dict:
    endpoints = [f"http://{server.address}" for server in servers]
    strategy = {
        "kind": "rolling",
        "variant": "all",
        "min_ready": MIN_READY,
        "hold": "1s",
        "warmup": {"requests": 5},
        "guards": {"errors": {"at_most": "5%"}},
    }
    variants = {"all": {"endpoints": endpoints, "version": version}}
    return {"models": {"digits": {"variants": variants, "strategy": strategy}}}


class Callers:
    """They call without a pause until they are stopped, and keep what is not as it must be."""

    def __init__(self, address: str, message: bytes):
        self.wrong, self.seen = [], []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(address, message)) for _ in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def _call(self, address: str, message: bytes):
        with grpc.insecure_channel(address, OPTIONS) as channel:
            while not self._stop.is_set():
                answer = call(channel, "ModelInfer", [message], service=SERVICE)
                if answer.code != "OK":
                    self.wrong.append((answer.code, answer.details))
                    continue
                said, was = own(answer)["parhelion-model-version"], reported_version(answer)
                self.seen.append(was)
                if said != was:
                    self.wrong.append(f"{said} is said of an answer of {was}")

    def end(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


class Watch:
    """`parhelion ctl watch --json`: every status that is news, as it comes."""

    def __init__(self, admin: str):
        command = [binary(), "ctl", "watch", "digits", "--json", "--admin", admin]
        self._program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.statuses = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self._program.stdout:
            self.statuses.append(json.loads(line))

    def __enter__(self):
        wait_for("the first status", lambda: self.statuses)
        return self

    def __exit__(self, *_):
        self._program.terminate()
        self._program.wait(10)
        self._reader.join(10)

    def drained(self):
        """(address, wanted version) of the endpoint that waits to be replaced, if one does."""
        found = [one for one in self.statuses[-1]["endpoints"] if one["place"] == "drained" and one["wanted"]]
        return (found[0]["address"], found[0]["wanted"]) if found else None

    def fewest(self) -> int:
        # Before the servers were looked at for the first time none is listed.
        told = [status["endpoints"] for status in self.statuses if status["endpoints"]]
        return min(sum(one["place"] == "serving" and one["ready"] for one in endpoints) for endpoints in told)


def test_four_servers_are_replaced_and_no_call_fails(folder, classifier, collector):
    files = classifier.files
    servers = [
        ModelServer(f"rolled-{number}", folder, {("digits", OLD): files[OLD]}, collector.port)
        for number in range(SERVERS)
    ]
    message = request(classifier.rows[:1], raw=True).SerializeToString()
    try:
        for server in servers:
            server.start()
        for server in servers:
            server.wait_until_ready()
        with Sidecar(folder, config(servers, OLD), "rolling") as sidecar, Watch(sidecar.admin) as watch:
            wait_for("every server is known", lambda: watch.statuses[-1]["state"] == "steady")
            callers = Callers(sidecar.address, message)
            try:
                sidecar.rewrite(config(servers, NEW))
                replaced = []
                for _ in range(SERVERS):
                    address, wanted = wait_for("a drained server", watch.drained, 60)
                    assert wanted == NEW
                    server = next(one for one in servers if one.address == address)
                    server.become({("digits", NEW): files[NEW]})
                    replaced.append(server)
                    wait_for(
                        "its readmission",
                        lambda: all(
                            one["place"] == "serving" and one["runs"] == NEW
                            for one in watch.statuses[-1]["endpoints"]
                            if one["address"] == address
                        ),
                        90,
                    )
                wait_for("the end", lambda: watch.statuses[-1]["state"] == "promoted", 30)
            finally:
                callers.end()
            assert sorted(one.name for one in replaced) == sorted(one.name for one in servers)
            assert callers.wrong == []
            assert {OLD, NEW} == set(callers.seen) and len(callers.seen) > 100
            assert watch.fewest() >= MIN_READY
            last = watch.statuses[-1]
            assert last["verdict"] == "pass", last
            print(f"{len(callers.seen)} calls, 0 failed; fewest serving {watch.fewest()}")
    finally:
        for server in servers:
            server.stop()
