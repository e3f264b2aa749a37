"""What a person sees: `parhelion ctl watch` and the demo's live block on a terminal, drawn by an emulator.

The rollout that is watched is the demo's own: real calls, real verdicts. A screen is right when whoever looks at it can
read the share and, for every guard, the interval against its margin, whatever the size of the window.
"""

import re
import signal
import subprocess

import pytest

from processes import Program
from sidecar import binary
from terminal import Terminal

GUARDS = ["errors", "rejections", "latency p50", "feedback right"]
GREEN = "00cd00"  # the second of the 256 colours
SIZES = [(80, 24), (120, 40), (40, 10)]
# An interval, with the margin that it is held against: at least a middle or an end, then or before it the margin.
INTERVAL = re.compile(r"(?=[^┃]*┃)(?=.*[●├┤◄►])[·0┼─●├┤┃◄►]{9,}")


class Demo(Program):
    """A scenario that goes on after its end, with the admin port it says."""

    def __init__(self, scenario: str, folder):
        super().__init__(f"demo-{scenario}", [binary(), "demo", "--scenario", scenario, "--stay"], folder)

    def admin(self) -> str:
        self.wait_until("says where to look", lambda: "--admin" in self.said())
        return re.search(r"--admin (\S+)", self.said())[1]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A rollout that ended well, so that its guards stand still and all of them know something."""
    with Demo("canary-good", tmp_path_factory.mktemp("terminal")) as running:
        running.wait_until("is promoted", lambda: "the story is over" in running.said(), 120)
        yield running


def watch(admin: str, *more, **how) -> Terminal:
    return Terminal([binary(), "ctl", "--admin", admin, "watch", *more], **how)


def drawn(text: str) -> bool:
    return all(part in text for part in ["digits: canary", "q ends", *GUARDS])


def of_guard(rows: list[str], name: str) -> str:
    """The row of a guard and the one below it."""
    found = [index for index, row in enumerate(rows) if row.strip().startswith(name)]
    assert len(found) == 1, f"{name} stands in {len(found)} rows of\n" + "\n".join(rows)
    return " ".join(rows[found[0] : found[0] + 2])


def assert_whole(rows: list[str], columns: int):
    """All that a person must find at any size, each once."""
    text = "\n".join(rows)
    assert rows[0].startswith("digits: canary, promoted"), text
    assert text.count("digits: canary") == 1 and "v2 100 %" in text, text
    for name in GUARDS:
        row = of_guard(rows, name)
        assert INTERVAL.search(row) and "pass" in row, f"{row!r} in\n{text}"
    assert rows[-1].startswith("q ends"), text
    if columns >= 80:
        for word in ["where", "sure", "next", "file", "VERDICT", "┃ allowed"]:
            assert word in text, f"{word} is not in\n{text}"


@pytest.mark.parametrize(("columns", "lines"), SIZES)
def test_watch_fits_the_window(demo, columns, lines):
    with watch(demo.admin(), columns=columns, lines=lines) as terminal:
        terminal.wait_until("is drawn", drawn)
        rows = terminal.rows()
        assert_whole(rows, columns)
        plotted = re.search(r"[\u2801-\u28ff]{5,}", "\n".join(rows))
        assert bool(plotted) == (columns == 120), "shares over time are drawn where there is room"
        assert GREEN in terminal.colours(), "what passes is green"


def test_watch_follows_the_window(demo):
    with watch(demo.admin(), columns=80, lines=24) as terminal:
        terminal.wait_until("is drawn", drawn)
        for columns, lines in [(40, 10), (120, 40), (60, 16), (100, 30), (80, 24)]:
            terminal.resize(columns, lines)
            terminal.wait_until("is drawn anew", lambda _: terminal.rows()[-1].startswith("q ends"))
            terminal.read(0.5)
            assert_whole(terminal.rows(), columns)


def test_watch_draws_only_what_changed(demo):
    with watch(demo.admin(), columns=80, lines=24) as terminal:
        terminal.wait_until("is drawn", drawn)
        terminal.read(0.5)
        before = len(terminal.output)
        for _ in range(40):
            terminal.read(0.05)
            assert_whole(terminal.rows(), 80)
        later = terminal.output[before:]
        assert b"\x1b[2J" not in later and b"\x1b[J" not in later, "a cleared screen flickers"
        # A whole screen each tenth of a second would be some 30,000.
        assert len(later) < 8000, f"{len(later)} bytes in 2 s"


@pytest.mark.parametrize("how", ["q", "\x1b", "\x03", signal.SIGINT, signal.SIGTERM])
def test_watch_leaves_the_terminal_as_it_was(demo, how):
    with watch(demo.admin()) as terminal:
        terminal.wait_until("is drawn", drawn)
        assert b"\x1b[?1049h" in terminal.output and b"\x1b[?25l" in terminal.output
        terminal.signal(how) if isinstance(how, signal.Signals) else terminal.type(how)
        assert terminal.ended() == 0
        terminal.assert_restored()


def test_watch_survives_a_sidecar_that_goes(tmp_path):
    with Demo("canary-broken", tmp_path) as demo:
        admin = demo.admin()
        with watch(admin) as terminal, watch(admin, env={"TERM": "dumb"}) as plain:
            terminal.wait_until("is drawn", drawn)
            plain.wait_until("says a line", lambda text: "digits" in text)
            demo.kill()
            terminal.wait_until("says so", lambda text: f"{admin} is not reached" in text)
            rows = terminal.rows()
            assert rows[0].endswith("when it was last seen"), rows[0]
            assert rows[-1].startswith("q ends"), "and how to get out"
            terminal.type("q")
            assert terminal.ended() == 0
            terminal.assert_restored()
            # Lines are for scripts: they end where no sidecar comes back.
            assert plain.ended() == 3
            assert "was not reached" in plain.text()


def test_without_colours_every_sign_is_there(demo):
    with watch(demo.admin(), columns=120, lines=40, env={"NO_COLOR": "1"}) as terminal:
        terminal.wait_until("is drawn", drawn)
        assert_whole(terminal.rows(), 120)
        assert terminal.colours() == set()


def test_a_dumb_terminal_and_a_pipe_get_plain_lines(demo):
    with watch(demo.admin(), env={"TERM": "dumb"}) as terminal:
        terminal.wait_until("says a line", lambda text: "promoted" in text)
        assert b"\x1b" not in terminal.output
        terminal.type("\x03")
        assert terminal.ended() == -signal.SIGINT
        terminal.assert_restored()
    with watch(demo.admin(), stdout=subprocess.PIPE) as terminal:
        line = terminal.piped().readline()
        assert re.match(rb"\S+Z digits promoted 3/3: v2 100 %; pass\n", line), line
    with watch(demo.admin(), "--json", stdout=subprocess.PIPE) as terminal:
        assert terminal.piped().readline().startswith(b'{"model":"digits","kind":"canary","state":"promoted"')


def assert_block(rows: list[str], lines: int):
    """The block of a scenario, or its end where the window is low."""
    text = "\n".join(rows)
    assert text.count("Ctrl-C ends it") == 1, text
    # A step that was told a moment ago stands above it, with guards of its own.
    heads = [row for row, said in enumerate(rows) if said.strip().startswith("harm is how much")]
    rows = rows[heads[-1] :] if heads else rows
    for name in GUARDS:
        assert sum(row.strip().startswith(f"{name} ") and "v1" in row for row in rows) == 1, f"{name} in\n{text}"
    if lines > 20:
        assert re.search(r"v1 1\.0\.0  █+·+ +\d+\.\d %", text) and "callers made" in text, text


@pytest.mark.parametrize(("columns", "lines"), SIZES)
def test_the_demos_block_stands_still(columns, lines):
    with Terminal([binary(), "demo", "--scenario", "canary-good"], columns, lines) as terminal:
        terminal.wait_until("draws its block", lambda text: "Ctrl-C ends it" in text)
        calls = set()
        for _ in range(60):
            terminal.read(0.05)
            text = terminal.text()
            # A step that is told stands above: the block is drawn again at its next turn.
            if "Ctrl-C ends it" in text:
                assert_block(terminal.rows(), lines)
                calls.add(text)
        assert len(calls) > 4, "it is drawn again and again"
        terminal.type("\x03")
        assert terminal.ended() == 1
        assert terminal.rows()[terminal.row()].strip() == "" and "interrupted" in terminal.text()
        terminal.assert_restored()


def test_the_demos_block_goes_with_its_window():
    with Terminal([binary(), "demo", "--scenario", "canary-good"], 80, 40) as terminal:
        terminal.wait_until("draws its block", lambda text: "Ctrl-C ends it" in text)
        for columns, lines in [(60, 40), (120, 40)]:
            terminal.resize(columns, lines)
            terminal.read(0.8)
            assert_block(terminal.rows(), lines)
        terminal.type("\x03")
        terminal.ended()
        terminal.assert_restored()


def test_the_demo_on_a_dumb_terminal_says_lines():
    with Terminal([binary(), "demo", "--scenario", "canary-broken"], env={"TERM": "dumb"}) as terminal:
        terminal.wait_until("says how far it is", lambda text: "calls, 0 failed" in text)
        assert b"\x1b" not in terminal.output
        assert terminal.ended(90) == 0
        assert "canary-broken: rolled back" in terminal.output.decode() and b"\x1b" not in terminal.output
