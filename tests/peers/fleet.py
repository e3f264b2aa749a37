"""Three sidecars that share one rollout, by a real redis-server."""

import json
import subprocess
from contextlib import ExitStack
from pathlib import Path

import grpc

from echo import OPTIONS, SERVICE, EchoServer
from processes import wait_for
from redisserver import RedisServer
from sidecar import Sidecar, binary

REPLICAS = 3


class Breaking(EchoServer):
    """Fails every call once it is told to."""

    broken = False

    def _close(self, context, asked, seen):
        super()._close(context, asked, seen)
        if self.broken:
            context.set_code(grpc.StatusCode.INTERNAL)


class Fleet:
    """Sidecars that share a rollout between servers, `v1` and `v2`."""

    def __init__(self, stack: ExitStack, folder: Path, store: RedisServer, servers: dict, envs=({}, {}, {}), **how):
        def sidecar(number: int) -> Sidecar:
            file = config(store, servers, folder / f"cache-{number}", **how)
            return Sidecar(folder, file, f"replica-{number}", envs[number])

        self.sidecars = [stack.enter_context(sidecar(number)) for number in range(REPLICAS)]
        self.channels = [stack.enter_context(grpc.insecure_channel(one.address, OPTIONS)) for one in self.sidecars]

    def ask(self, number: int, unit: str = "") -> tuple[dict, str]:
        """What a call was told in its initial metadata, and its status."""
        method = self.channels[number].unary_unary(f"/{SERVICE}/Unary")
        try:
            _, call = method.with_call(b"x", timeout=10, metadata=[("x-user-id", unit)] if unit else [])
        except grpc.RpcError as error:
            call = error
        return dict(call.initial_metadata() or ()), call.code().name

    def call(self, number: int) -> tuple[str, str]:
        """Who got a call, and its status."""
        told, code = self.ask(number)
        return told.get("parhelion-variant", ""), code

    def status(self, number: int) -> dict:
        return self.sidecars[number].status("m")

    def states(self) -> list[str]:
        return [self.status(number)["state"] for number in range(REPLICAS)]

    def wait_for_states(self, state: str, seconds: float = 20.0):
        wait_for(f"all are {state}", lambda: self.states() == [state] * REPLICAS, seconds)

    def wait_until_parted(self):
        parted = lambda number: self.status(number)["fleet"]["parted"]  # noqa: E731
        wait_for("they know that they are parted", lambda: all(map(parted, range(REPLICAS))))

    def counted_at(self, number: int, name: str) -> float:
        return self.sidecars[number].counted(name)[""]

    def counted(self, name: str, by: str = "") -> dict:
        """A metric, all replicas together."""
        total: dict = {}
        for sidecar in self.sidecars:
            for key, count in sidecar.counted(name, by).items():
                total[key] = total.get(key, 0) + count
        return total


def config(store, servers, cache, strategy=None, model=None, fleet=None, **top) -> dict:
    """A canary of the echo service, where `strategy` and `model` say nothing else."""
    variants = {name: {"endpoint": f"http://{server.address}", "version": name} for name, server in servers.items()}
    canary = {"kind": "canary", "baseline": "v1", "candidate": "v2", "salt": "s", "steps": [{"share": "50%"}]}
    plain = {"variants": variants, "strategy": strategy or canary, "fallback": "off"}
    return {
        "state": store.url,
        "fleet": {"cache": str(cache), **(fleet or {})},
        "services": {SERVICE: "m"},
        "models": {"m": {**plain, **(model or {})}},
        **top,
    }


def keys(folder: Path) -> str:
    """A key file for all replicas."""
    path = folder / "keys"
    path.write_text(f"fleet {'1f' * 32}\n")
    path.chmod(0o600)
    return str(path)


def ctl(sidecar, *words: str):
    command = [binary(), "ctl", "--json", "--admin", sidecar.admin, *words]
    said = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)
