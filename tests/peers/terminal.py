"""A program in a terminal of its own: a pseudo-terminal whose other end is read here, and drawn by an emulator that
knows nothing of the program.

What a person would see is `rows()`; whether the terminal is as it was before is `assert_restored()`. Every wait is for
something on the screen, with a bound.
"""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time

import pyte

# What is left switched on, a shell would have to live with: the other screen, no cursor, no wrapping.
LEFT_ON = {"\x1b[?1049h": "\x1b[?1049l", "\x1b[?25l": "\x1b[?25h", "\x1b[?7l": "\x1b[?7h"}


class Terminal:
    """A started program, `columns` by `lines`. Leaving a `with` ends it for certain."""

    def __init__(self, command: list, columns: int = 80, lines: int = 24, env: dict | None = None, **redirected):
        self._own, theirs = pty.openpty()
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.output = b""
        self.resize(columns, lines)
        self.before = termios.tcgetattr(theirs)
        # Kept open, so that its settings can still be asked for when the program has ended.
        self._theirs = theirs
        kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
        self._child = subprocess.Popen(
            [str(part) for part in command],
            env={**kept, "TERM": "xterm-256color", **(env or {})},
            **{"stdin": theirs, "stdout": theirs, "stderr": theirs, **redirected},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0),
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait(10)
        os.close(self._theirs)
        os.close(self._own)

    def resize(self, columns: int, lines: int):
        """As a window does it: the size first, and the kernel tells whoever is in the foreground."""
        fcntl.ioctl(self._own, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._screen.resize(lines, columns)

    def read(self, seconds: float = 0.0):
        """Draws what the program has written."""
        end = time.monotonic() + seconds
        while True:
            left = max(0.0, end - time.monotonic())
            if not select.select([self._own], [], [], left)[0]:
                return
            piece = os.read(self._own, 65536)
            self.output += piece
            self._stream.feed(piece)

    def rows(self) -> list[str]:
        """What stands on the screen."""
        self.read()
        return [row.rstrip() for row in self._screen.display]

    def text(self) -> str:
        return "\n".join(self.rows()).rstrip()

    def row(self) -> int:
        """The row of the cursor, from 0."""
        return self._screen.cursor.y

    def piped(self):
        """Standard output, where that was redirected to a pipe."""
        return self._child.stdout

    def colours(self) -> set[str]:
        """All colours of what stands on the screen, but for the usual one."""
        self.read()
        cells = (cell for row in self._screen.buffer.values() for cell in row.values())
        return {cell.fg for cell in cells if cell.data != " "} - {"default"}

    def wait_until(self, what: str, check, seconds: float = 60.0):
        """Until `check` likes the text of the screen; fails with what stands there instead."""
        end = time.monotonic() + seconds
        while True:
            self.read(0.02)
            text = self.text()
            if check(text):
                return text
            if time.monotonic() > end:
                raise TimeoutError(f"{what}: not within {seconds} s; the screen shows\n{text}")
            if self._child.poll() is not None and not select.select([self._own], [], [], 0.1)[0]:
                raise RuntimeError(f"{what}: it ended with {self._child.returncode}; the screen shows\n{text}")

    def type(self, keys: str):
        """As from the keyboard: Ctrl-C is what the kernel or the program makes of it."""
        os.write(self._own, keys.encode())

    def signal(self, number: int):
        self._child.send_signal(number)

    def ended(self, seconds: float = 20.0) -> int:
        """Its exit code, once it ended, and all it wrote is read."""
        end = time.monotonic() + seconds
        while self._child.poll() is None:
            # Nobody ends who cannot write any more.
            self.read(0.02)
            if time.monotonic() > end:
                raise TimeoutError(f"it has not ended within {seconds} s; the screen shows\n{self.text()}")
        self.read(0.1)
        return self._child.returncode

    def assert_restored(self):
        """The terminal is as it was before: its settings, and whatever was switched on is off again."""
        assert termios.tcgetattr(self._theirs) == self.before
        written = self.output.decode(errors="replace")
        for on, off in LEFT_ON.items():
            assert written.rfind(on) <= written.rfind(off), f"{on!r} was the last word"
