"""The soak: calls for hours, and faults by chance that a seed repeats. Memory, descriptors and threads stay, the books balance."""

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rows import config, ports, ready, twice
from stage import HERE, Process, callers, executed, free_ports, get, metric, model, resident, result, sidecar, until

# One piece: callers who end, and whose ids are then counted.
PIECE = 60.0
SAMPLE = 5.0


def seconds_of(text):
    """`90s`, `10m`, `2h`."""
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    if unit is None or not text[:-1].isdigit():
        raise SystemExit(f"--soak {text}: say how long as in 90s, 10m or 2h")
    return int(text[:-1]) * unit


class Street:
    """Two model servers, the second behind a proxy that does harm, and a shadow."""

    def __init__(self, folder, servers, between):
        self.folder, self.servers, self.lives = folder, servers, 0
        self.running = {name: model(folder, name, servers[name]).__enter__() for name in ("a", "shadow")}
        self.start_b()
        words = [sys.executable, HERE / "proxy.py", between, servers["b"]]
        self.proxy = Process(words, folder, "proxy", "serving", stdin=subprocess.PIPE).__enter__()

    def start_b(self):
        self.running["b"] = model(self.folder, f"b{self.lives}", self.servers["b"]).__enter__()
        self.lives += 1

    def tell(self, command):
        self.proxy.child.stdin.write(command + "\n")
        self.proxy.child.stdin.flush()

    def harm(self, chance, file, whole):
        """One fault, begun and ended."""
        what = chance.choice(["hang", "kill", "delay", "cut", "drip", "hold", "reload", "broken file"])
        if what == "hang":
            self.running["b"].signal(signal.SIGSTOP)
            time.sleep(chance.uniform(0.5, 4))
            self.running["b"].signal(signal.SIGCONT)
        elif what == "kill":
            self.running["b"].__exit__()
            time.sleep(chance.uniform(0.1, 2))
            self.start_b()
        elif what in ("delay", "drip", "hold"):
            self.tell({"delay": "delay 0.05", "drip": "drip 20000", "hold": "hold"}[what])
            time.sleep(chance.uniform(0.5, 4))
            self.tell("pass")
        elif what == "cut":
            self.tell("cut")
        elif what == "reload":
            whole["limits"] = {"streams": chance.randrange(500, 1000)}
            file.write_text(json.dumps(whole))
        else:
            file.write_text("models: [")
            time.sleep(2)
            file.write_text(json.dumps(whole))
        return what

    def end(self):
        for one in [self.proxy, *self.running.values()]:
            one.__exit__()


def settled(samples):
    """By how much each figure grew from the second quarter of the time to the last one, as a median."""
    quarter = len(samples) // 4
    first, last = samples[quarter : 2 * quarter], samples[-quarter:]
    return [statistics.median(one[at] for one in last) - statistics.median(one[at] for one in first) for at in range(3)]


def soak(folder, length, seed):
    chance = random.Random(seed)
    listen, health, admin = ports()
    servers = dict(zip(("a", "b", "shadow"), [f"127.0.0.1:{port}" for port in free_ports(3)]))
    between, collector = [f"127.0.0.1:{port}" for port in free_ports(2)]
    whole = config([servers["a"], between], listen, health, admin)
    variants = whole["models"]["m"]["variants"]
    variants["v2"] = {"endpoints": [f"http://{servers['shadow']}"]}
    whole["models"]["m"]["shadows"] = [{"variant": "v2", "sample": "100%"}]
    whole["services"] = {"faults.Model": "m"}
    whole["log"] = {"dir": str(folder / "log"), "flush": "200ms", "disk": "64MiB", "seal": {"size": "4MiB"}}
    whole["state"] = str(folder / "state")
    whole["telemetry"] = {"otlp": f"http://{collector}", "sample": "10%"}
    file = folder / "sidecar.yaml"
    street = Street(folder, servers, between)
    samples, faults, ok, failed, ids = [], {}, 0, 0, 0
    try:
        with sidecar(folder, "sidecar", whole) as one:
            ready(health)
            end, piece = time.monotonic() + length, 0
            while (left := end - time.monotonic()) > 1:
                until_then, sampled = time.monotonic() + min(PIECE, left), 0.0
                with callers(folder, f"callers{piece}", listen, 10**7, 16, 2.0) as load:
                    while time.monotonic() < until_then:
                        if time.monotonic() - sampled > SAMPLE:
                            sampled = time.monotonic()
                            samples.append((resident(one.pid), *(len(os.listdir(f"/proc/{one.pid}/{of}")) for of in ("fd", "task"))))
                        time.sleep(chance.uniform(1, 4))
                        what = street.harm(chance, file, whole)
                        faults[what] = faults.get(what, 0) + 1
                    load.signal(signal.SIGTERM)
                    load.ended(60)
                said = result(folder, f"callers{piece}")
                (folder / f"callers{piece}.json").unlink()
                ok, failed, piece = ok + len(said["ok"]), failed + len(said["failed"]), piece + 1
                print(f"  {time.monotonic() - end + length:5.0f} s: {ok} calls, {failed} failed, {samples[-1][0]:.0f} MiB, "
                      f"{samples[-1][1]} descriptors, {samples[-1][2]} threads", flush=True)

            def quiet():
                return metric(get(f"http://{health}/metrics")[1], "parhelion_shadow_calls_in_flight") == 0

            until("copies to end", quiet, 30)
            time.sleep(1)
            text = get(f"http://{health}/metrics")[1]
            one.signal(signal.SIGTERM)
            code = one.ended(60)
    finally:
        street.end()
    lives = [f"b{number}" for number in range(street.lives)]
    ran = executed(folder, "a", *lives)
    counted = metric(text, "parhelion_calls_total")
    eligible, copied, skipped = (metric(text, f"parhelion_shadow_{word}_total") for word in ("eligible", "copied", "skipped"))
    rows = metric(text, 'parhelion_log_rows_total{table="predictions"}')
    lost = metric(text, "parhelion_log_rows_lost_total")
    laws = {
        "each call ended once": counted == ok + failed,
        "none was executed twice": twice(ran) == 0,
        "copied + skipped = eligible": copied + skipped == eligible,
        # Copies are rows too, and what is lost is not told apart.
        "logged + lost = ended": rows <= counted <= rows + lost,
        "no task panicked": metric(text, "parhelion_panics_total") == 0,
        "exit 0": code == 0,
    }
    broken = [law for law, holds in laws.items() if not holds]
    memory, descriptors, threads = settled(samples)
    hours = length / 3600
    base = statistics.median(sample[0] for sample in samples)
    # Half the time lies between the two medians. Below 1 MiB and one descriptor there is nothing to be told apart.
    flat = memory <= max(1.0, 0.01 * base * hours / 2 * 1.5) and descriptors <= 2 and threads <= 0
    measured = (
        f"{length:.0f} s, seed {seed}, {sum(faults.values())} faults of {len(faults)} kinds, {failed} of {ok + failed} calls failed; from the second quarter to "
        f"the last {memory:+.1f} MiB of {base:.0f}, {descriptors:+.0f} descriptors, {threads:+.0f} threads; broken laws: {', '.join(broken) or 'none'}"
    )
    return measured, flat and not broken
