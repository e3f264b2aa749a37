"""The store as it stands in production: behind TLS, behind sentinels, as a cluster. One machine, real redis-servers."""

import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from fleet import REPLICAS, Fleet, config, ctl
from processes import Program, free_ports, wait_for
from redisserver import WHERE, RedisServer
from sidecar import Sidecar

pytestmark = pytest.mark.skipif(not shutil.which("redis-server"), reason=WHERE)

ROOT = Path(__file__).resolve().parents[2]


class At:
    """Where a fleet meets."""

    def __init__(self, url: str):
        self.url = url


def assert_shared(fleet: Fleet):
    """What one counts or is told all know."""
    fleet.wait_for_states("running")
    for _ in range(20):
        for number in range(REPLICAS):
            assert fleet.call(number)[1] == "OK"

    def counted(number: int) -> int:
        return sum(arm["calls"] for arm in fleet.status(number)["arms"])

    wait_for("all calls are counted", lambda: max(map(counted, range(REPLICAS))) == 20 * REPLICAS)
    ctl(fleet.sidecars[1], "rollback", "m", "--reason", "tried")
    fleet.wait_for_states("rolled_back", 5.0)


@pytest.fixture(scope="module")
def certificates(folder):
    made = folder / "tls-of-stores"
    subprocess.run([ROOT / "examples/tls/certificates", made], check=True, capture_output=True)
    return made


def secure(certificates, port: int) -> list[str]:
    files = {"cert": "tls.crt", "key": "tls.key", "ca-cert": "ca.crt"}
    named = [word for name, file in files.items() for word in (f"--tls-{name}-file", str(certificates / file))]
    return ["--tls-port", str(port), *named]


def test_tls_with_a_certificate_of_its_own(tmp_path, stack, pair, certificates):
    (port,) = free_ports(1)
    try:
        store = stack.enter_context(RedisServer(tmp_path, *secure(certificates, port), "--tls-auth-clients", "yes"))
    except RuntimeError as error:
        pytest.skip(f"this redis-server has no TLS: {error}")
    at, ca = At(f"rediss://localhost:{port}"), str(certificates / "ca.crt")
    shown = {"cert": str(certificates / "tls.crt"), "key": str(certificates / "tls.key")}
    assert_shared(Fleet(stack, tmp_path, at, pair, fleet={"ca": ca, **shown}))
    for name, more in [("unknown", {"ca": ca}), ("unbelieved", shown)]:
        with Sidecar(tmp_path, config(at, pair, tmp_path / name, fleet=more), name) as one:
            wait_for("it is named", lambda one=one: one.status("m")["fleet"]["trouble"])
    assert store.command("PING") == "PONG"


class Sentinels:
    """A server, its copy, and three sentinels that agree by two."""

    def __init__(self, folder: Path, stack: ExitStack):
        self.first = stack.enter_context(RedisServer(folder))
        self.copy = stack.enter_context(RedisServer(folder, "--replicaof", f"127.0.0.1 {self.first.port}"))
        wait_for("it copies", lambda: "master_link_status:up" in self.copy.command("INFO", "replication"))
        self.ports = free_ports(3)
        for port in self.ports:
            file = folder / f"sentinel-{port}.conf"
            file.write_text(
                f"port {port}\nbind 127.0.0.1\nsentinel monitor models 127.0.0.1 {self.first.port} 2\n"
                "sentinel down-after-milliseconds models 1000\nsentinel failover-timeout models 5000\n"
            )
            program = Program(f"sentinel-{port}", ["redis-server", file, "--sentinel"], folder)
            stack.enter_context(program)
            program.wait_until("watches", lambda port=port: "num-slaves" in self.ask(port, "SENTINEL", "MASTER", "models"))
        wait_for("they know each other and the copy", self._settled)

    def _settled(self) -> bool:
        def of(port: int) -> dict:
            words = self.ask(port, "SENTINEL", "MASTER", "models").split("\n")
            return dict(zip(words[::2], words[1::2]))

        return all((of(one)["num-slaves"], of(one)["num-other-sentinels"]) == ("1", "2") for one in self.ports)

    def ask(self, port: int, *words: str) -> str:
        asked = ["redis-cli", "-p", str(port), *words]
        return subprocess.run(asked, capture_output=True, text=True, timeout=10).stdout.strip()

    @property
    def url(self) -> str:
        return f"redis-sentinel://{','.join(f'127.0.0.1:{port}' for port in self.ports)}/models"


def test_sentinels_and_a_failover(tmp_path, stack, pair):
    sentinels = Sentinels(tmp_path, stack)
    fleet = Fleet(stack, tmp_path, sentinels, pair)
    fleet.wait_for_states("running")
    version = max(fleet.status(number)["fleet"]["version"] for number in range(REPLICAS))
    sentinels.first.kill()
    wait_for("the copy is the server", lambda: "role:master" in sentinels.copy.command("INFO", "replication"), 60)
    wait_for("all use it", lambda: all(not fleet.status(n)["fleet"]["trouble"] for n in range(REPLICAS)), 30)
    assert max(fleet.status(number)["fleet"]["version"] for number in range(REPLICAS)) >= version
    assert_shared(fleet)


class Cluster:
    """Three servers, each with a third of the keys."""

    def __init__(self, folder: Path, stack: ExitStack):
        self.nodes = []
        for bus in free_ports(3):
            inside = folder / f"node-{bus}"
            inside.mkdir()
            node = RedisServer(inside, "--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "2000")
            self.nodes.append(stack.enter_context(node))
        addresses = [f"127.0.0.1:{node.port}" for node in self.nodes]
        made = ["redis-cli", "--cluster", "create", *addresses, "--cluster-yes"]
        told = subprocess.run(made, capture_output=True, text=True, timeout=60)
        assert told.returncode == 0, told.stdout + told.stderr
        wait_for("it stands", lambda: all("cluster_state:ok" in node.command("CLUSTER", "INFO") for node in self.nodes))

    @property
    def url(self) -> str:
        return f"redis-cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}"


def test_a_cluster(tmp_path, stack, pair):
    cluster = Cluster(tmp_path, stack)
    assert_shared(Fleet(stack, tmp_path, cluster, pair))
    homes = [node for node in cluster.nodes if node.command("KEYS", "*").split()]
    assert len(homes) == 1, "all keys of a model are in one place"
