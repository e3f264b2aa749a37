"""Programs that the tests start: each is ended by its own process id, and what it printed is kept.

Every port is asked of the system first, and every wait is for something that can be seen, with a bound; nothing
sleeps and hopes.
"""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody held a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_for(what: str, check, seconds: float = 30.0, every: float = 0.02):
    """The first true answer of `check`; fails with `what` when there was none in `seconds`."""
    end = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(every)


class Program:
    """A started program. `stop` asks it to end and says its exit code; leaving a `with` ends it for certain."""

    def __init__(self, name: str, command: list, folder: Path, env: dict | None = None):
        self.name = name
        self.output = folder / f"{name}.log"
        with self.output.open("ab") as out:
            self._child = subprocess.Popen(
                [str(part) for part in command],
                cwd=folder,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._child.poll() is None:
            self.stop()

    @property
    def pid(self) -> int:
        return self._child.pid

    def said(self) -> str:
        """All it printed so far."""
        return self.output.read_text(errors="replace")

    def wait_until(self, what: str, check, seconds: float = 60.0):
        """As `wait_for`, but fails at once with its last words when the program ended."""

        def look():
            if self._child.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self._child.returncode}:\n{self.said()[-4000:]}")
            return check()

        try:
            return wait_for(f"{self.name}: {what}", look, seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.said()[-4000:]}") from None

    def signal(self, number: int):
        self._child.send_signal(number)

    def wait(self, seconds: float) -> int:
        """Its exit code, once it ended by itself."""
        return self._child.wait(seconds)

    def stop(self, seconds: float = 15.0) -> int:
        """SIGTERM, and SIGKILL when that was not enough. Returns the exit code."""
        self._child.terminate()
        try:
            return self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """Ends it without a word of warning."""
        self._child.send_signal(signal.SIGKILL)
        return self._child.wait(10)
