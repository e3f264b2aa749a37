"""What the tests share: one collector, two model servers, one echo server, and the sidecar before them.

None of the peers was written for this project, but for the echo server, which is a few lines on top of grpcio.
"""

import os
import signal
import sys
from contextlib import ExitStack

import grpc
import pytest

# Nothing here goes further than loopback, whatever proxy the environment names.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"

# An `assert` in there says as much as one in a test.
pytest.register_assert_rewrite("inference")

from collector import Collector  # noqa: E402
from echo import OPTIONS, EchoServer  # noqa: E402
from models import NEW, OLD, ModelServer, train  # noqa: E402
from redisserver import RedisServer  # noqa: E402
from sidecar import Sidecar  # noqa: E402


def pytest_configure():
    # A terminated run ends its programs too: the exception unwinds the fixtures.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("peers")


@pytest.fixture(scope="session")
def classifier(folder):
    return train(folder)


@pytest.fixture(scope="session")
def collector(folder):
    with Collector(folder) as running:
        yield running


@pytest.fixture(scope="session")
def servers(folder, classifier, collector):
    """`east` has the old version of digits, `west` the new one, and both of them again under another name."""
    files = classifier.files
    east = ModelServer("east", folder, {("digits", OLD): files[OLD]}, collector.port)
    west = ModelServer(
        "west",
        folder,
        {("digits", NEW): files[NEW], ("digits-next", OLD): files[OLD], ("digits-next", NEW): files[NEW]},
        collector.port,
    )
    try:
        east.start()
        west.start()
        east.wait_until_ready()
        west.wait_until_ready()
        yield {OLD: east, NEW: west}
    finally:
        east.stop()
        west.stop()


@pytest.fixture(scope="session")
def echo():
    with EchoServer() as server:
        yield server


@pytest.fixture(scope="module")
def pair():
    """Two servers that a fleet's rollout is between."""
    with EchoServer() as one, EchoServer() as other:
        yield {"v1": one, "v2": other}


@pytest.fixture
def stack():
    """What a test enters here ends with it, the last first."""
    with ExitStack() as entered:
        yield entered


@pytest.fixture
def store(tmp_path):
    """A redis-server of a test's own."""
    with RedisServer(tmp_path) as running:
        yield running


def half(first: str, second: str, **more) -> dict:
    return {"kind": "ab", "weights": {first: "50%", second: "50%"}, **more}


@pytest.fixture(scope="session")
def sidecar(folder, servers, echo, collector):
    """All models behind one sidecar.

    `digits` has a server for each version, `numbers` has both in one server under a name of its own, and what
    belongs to no model (any other service) goes to `echo`.
    """
    west = f"http://{servers[NEW].address}"
    config = {
        "default": "echo",
        "services": {"inference.GRPCInferenceService": "digits"},
        "models": {
            "digits": {
                "variants": {
                    "old": {"endpoint": f"http://{servers[OLD].address}", "version": OLD},
                    "new": {"endpoint": west, "version": NEW},
                },
                "unit": ["metadata:x-user-id"],
                "strategy": half("old", "new"),
                "force": "anyone",
                "feedback": {"approved": {"kind": "binary"}},
            },
            "numbers": {
                "variants": {
                    "old": {"endpoint": west, "version": OLD, "model_name": "digits-next", "model_version": OLD},
                    "new": {"endpoint": west, "version": NEW, "model_name": "digits-next", "model_version": NEW},
                },
                "strategy": half("old", "new"),
                "force": "anyone",
            },
            "echo": {
                "variants": {"only": {"endpoint": f"http://{echo.address}", "version": "1"}},
                "strategy": {"kind": "pinned", "variant": "only"},
            },
        },
        "telemetry": {"otlp": f"http://127.0.0.1:{collector.port}", "sample": "100%"},
    }
    with Sidecar(folder, config) as running:
        yield running


@pytest.fixture(scope="session")
def through(sidecar):
    """A channel to the sidecar."""
    with grpc.insecure_channel(sidecar.address, OPTIONS) as channel:
        yield channel


@pytest.fixture(scope="session")
def direct(echo):
    """A channel to the echo server itself."""
    with grpc.insecure_channel(echo.address, OPTIONS) as channel:
        yield channel
