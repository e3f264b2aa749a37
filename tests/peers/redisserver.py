"""A redis-server of a test's own: nothing on a disk, nothing but loopback."""

import shutil
import subprocess
from pathlib import Path

import pytest

from processes import Program, free_ports

WHERE = "redis-server is not installed; on Debian: apt-get install redis-server"


class RedisServer:
    """Can be killed and started again, empty; `command` asks it something."""

    def __init__(self, folder: Path, *settings: str):
        if not shutil.which("redis-server"):
            pytest.skip(WHERE)
        (self.port,) = free_ports(1)
        self._folder = folder
        self._settings = settings
        self.program = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if self.program:
            self.program.__exit__()

    def start(self):
        command = ["redis-server", "--port", self.port, "--bind", "127.0.0.1", "--save", "", *self._settings]
        self.program = Program(f"redis-{self.port}", command, self._folder)
        try:
            self.program.wait_until("answers", lambda: self.command("PING").startswith(("PONG", "NOAUTH")))
        except BaseException:
            # Nobody leaves a `with` that was never entered.
            self.program.kill()
            raise

    def kill(self):
        self.program.kill()

    def command(self, *words: str) -> str:
        asked = ["redis-cli", "-p", str(self.port), *words]
        return subprocess.run(asked, capture_output=True, text=True, timeout=10).stdout.strip()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"
