"""The rows of the table: which work through which proxies, and what of it is held to a bound.

A row's rounds measure all its targets one after the other; a check is a number taken from one round, so that only
runs that stood next to each other are compared. Its median over the rounds is held to the bound.
"""

from typing import Callable, NamedTuple, Optional

from setups import CAPS, KEEPING, TROUBLES


class Work(NamedTuple):
    """What is sent. `calls` is per run; the answer to a call has 300 bytes, one of a stream's 100. `users` is how many
    callers are told apart by `x-user-id`. `rate` makes it an open loop, as part of what the slowest proxy of the row carries
    in a closed one: calls cost more there than in the large batches of a full machine, so half is a busy machine."""
    connections: int
    streams: int
    calls: int
    payload: int = 300
    method: str = "unary"
    messages: int = 1000
    users: int = 0
    rate: Optional[float] = None


class Target(NamedTuple):
    """A proxy, by the name of its setup, and what is sent through it."""
    setup: str
    work: Work


class Check(NamedTuple):
    """A number of a round. `at_most` is its bound, None: it is only told. `unit` stands behind it. `noise` is the same number
    of two runs that should not differ: the bound is not below what that is off by in half of the rounds."""
    label: str
    at_most: Optional[float]
    of: Callable
    unit: str = ""
    digits: int = 2
    noise: Optional[Callable] = None


class Row(NamedTuple):
    """One row: targets by their labels, and what is asked of them."""
    title: str
    targets: dict
    checks: list
    rounds: int = 5


def ratio(ours, theirs, key="cpu_us_per_call"):
    return lambda one: one[ours][key] / one[theirs][key]


def added(quantile, ours, theirs):
    """What a proxy adds to a latency, as part of what another one adds; None where that one adds nothing."""
    def of(one):
        latency = {label: run["latency_us"][quantile] - one["direct"]["latency_us"][quantile]
                   for label, run in one.items()}
        return latency[ours] / latency[theirs] if latency[theirs] > 0 else None
    return of


def mirror_cost(ours, theirs):
    """What a copy of each call adds to a proxy's CPU, as part of what it adds to another's."""
    def of(one):
        cpu = {label: run["cpu_us_per_call"] for label, run in one.items()}
        return (cpu[ours + "/mirror"] - cpu[ours]) / (cpu[theirs + "/mirror"] - cpu[theirs])
    return of


def of_run(label, key):
    return lambda one: one[label][key]


def later(quantile, label, base):
    """Microseconds that a latency is longer than another."""
    return lambda one: one[label]["latency_us"][quantile] - one[base]["latency_us"][quantile]


def more_memory(label, base):
    """MiB that a proxy held at its highest beyond another."""
    return lambda one: one[label]["highest_rss_mib"] - one[base]["highest_rss_mib"]


def beside_trouble(size, work):
    """A shadow in each trouble, and what callers feel of it. Of a flood the CPU is only told: reading costs what it costs."""
    shadow = "parhelion/{} shadow".format
    noise = later("p99", "again", "parhelion")
    checks = [check for trouble in TROUBLES for check in (
        Check(f"{trouble}: calls that failed", 0, of_run(shadow(trouble), "failed"), "", 0),
        Check(f"{trouble}: CPU ÷ without a shadow", None if trouble == "flooding" else 1.05,
              ratio(shadow(trouble), "parhelion")),
        Check(f"{trouble}: p99 later by", 200, later("p99", shadow(trouble), "parhelion"), "µs", 0, noise=noise),
    )]
    # The same sidecar once more says how much of it is noise.
    checks += [Check("again: CPU ÷ itself", None, ratio("again", "parhelion")),
               Check("again: p99 later by", None, noise, "µs", 0)]
    targets = through(work, "parhelion", "again", *map(shadow, TROUBLES))
    return Row(f"{size}, open loop at a fifth of the peak, a shadow in trouble", targets, checks, rounds=15)


def kept(size, work):
    """Copies that nobody takes or ends, until a cap is reached: the memory that this takes."""
    labels = {f"parhelion/{trouble}, {cap} MiB": cap for trouble in KEEPING for cap in CAPS}
    checks = [Check(f"{label.split('/')[1]}: memory beyond that without a shadow", cap * 1.1,
                    more_memory(label, "parhelion"), "MiB", 1) for label, cap in labels.items()]
    return Row(f"{size}, copies that are kept up to a cap", through(work, "parhelion", *labels), checks, rounds=5)


def through(work, *setups):
    return {setup: Target(setup, work) for setup in setups}


SMALL = Work(8, 16, 40_000)
MANY = Work(64, 1, 40_000)
FULL = Work(8, 16, 25_000, users=1_000)
LARGE = Work(4, 2, 1_200, payload=600_000)
ONE = Work(1, 1, 4_000)
OPEN = Work(8, 16, 30_000, rate=1 / 2)
LEISURE = Work(8, 16, 25_000, rate=1 / 5)
LARGE_LEISURE = Work(4, 2, 1_200, payload=600_000, rate=1 / 5)
KEPT = Work(8, 16, 60_000)
SERVER_STREAM = Work(8, 4, 400, method="server-stream")
BIDI = Work(8, 4, 400, method="bidi")
NOTHING = Work(0, 0, 0)

ROWS = {
    "forward": Row(
        "300 B, 8 × 16, forward only", through(SMALL, "parhelion", "again", "envoy", "haproxy"), [
            Check("÷ Envoy", 0.40, ratio("parhelion", "envoy")),
            Check("÷ HAProxy", 0.75, ratio("parhelion", "haproxy")),
            Check("÷ itself once more (noise)", None, ratio("parhelion", "again")),
        ]),
    "many": Row(
        "300 B, 64 × 1, forward only", through(MANY, "parhelion", "envoy", "haproxy"), [
            Check("÷ Envoy", 0.50, ratio("parhelion", "envoy")),
            Check("÷ HAProxy", 0.60, ratio("parhelion", "haproxy")),
        ]),
    "everything": Row(
        "300 B, 8 × 16, everything on", through(FULL, "parhelion/everything", "parhelion/default", "envoy/everything"), [
            Check("÷ Envoy with everything on", 0.35, ratio("parhelion/everything", "envoy/everything")),
            Check("at default telemetry ÷ the same Envoy", 0.25, ratio("parhelion/default", "envoy/everything")),
            Check("highest memory", 25, of_run("parhelion/everything", "highest_rss_mib"), "MiB", 1),
        ]),
    "large": Row(
        "600 KB, 4 × 2", through(LARGE, "parhelion", "envoy", "nginx", "parhelion/mirror", "envoy/mirror"), [
            Check("forward ÷ Envoy", 0.85, ratio("parhelion", "envoy")),
            Check("forward ÷ nginx", 1.15, ratio("parhelion", "nginx")),
            Check("with mirror ÷ Envoy with mirror", 0.75, ratio("parhelion/mirror", "envoy/mirror")),
            Check("what the mirror adds ÷ what Envoy's adds", 0.50, mirror_cost("parhelion", "envoy")),
            Check("highest memory with mirror", 64, of_run("parhelion/mirror", "highest_rss_mib"), "MiB", 1),
        ]),
    "mirror": Row(
        "300 B, 8 × 16, mirror", through(SMALL, "parhelion", "parhelion/mirror", "envoy", "envoy/mirror"), [
            Check("what the mirror adds ÷ what Envoy's adds", 0.50, mirror_cost("parhelion", "envoy")),
        ]),
    "server-stream": Row(
        "server stream of 1,000 messages of 100 B, 8 × 4", through(SERVER_STREAM, "parhelion", "envoy"), [
            Check("÷ Envoy", 0.50, ratio("parhelion", "envoy")),
        ]),
    "bidi": Row(
        "bidi stream of 1,000 messages of 100 B, 8 × 4", through(BIDI, "parhelion", "envoy"), [
            Check("÷ Envoy", 0.50, ratio("parhelion", "envoy")),
        ]),
    "latency": Row(
        "300 B, 1 × 1", through(ONE, "direct", "parhelion", "haproxy"), [
            Check("added p50 ÷ HAProxy's", 1.0, added("p50", "parhelion", "haproxy")),
            Check("added p99 ÷ HAProxy's", 1.0, added("p99", "parhelion", "haproxy")),
        ], rounds=7),
    "open": Row(
        "300 B, 8 connections, open loop at half the slowest peak",
        through(OPEN, "direct", "parhelion", "haproxy", "envoy"), [
            Check("added p50 ÷ HAProxy's", 1.0, added("p50", "parhelion", "haproxy")),
            Check("added p99 ÷ HAProxy's", 1.0, added("p99", "parhelion", "haproxy")),
            Check("CPU ÷ Envoy", None, ratio("parhelion", "envoy")),
            Check("CPU ÷ HAProxy", None, ratio("parhelion", "haproxy")),
        ], rounds=7),
    "tls": Row(
        "300 B, 8 × 16, forward only, TLS on both sides",
        through(SMALL, "parhelion", "parhelion/tls", "envoy/tls", "haproxy/tls", "nginx/tls"), [
            Check("TLS ÷ without", 1.30, ratio("parhelion/tls", "parhelion")),
            Check("÷ Envoy", None, ratio("parhelion/tls", "envoy/tls")),
            Check("÷ HAProxy", None, ratio("parhelion/tls", "haproxy/tls")),
            Check("÷ nginx", None, ratio("parhelion/tls", "nginx/tls")),
        ]),
    "tls-everything": Row(
        "300 B, 8 × 16, everything on, TLS on both sides",
        through(FULL, "parhelion/everything", "parhelion/everything, tls", "envoy/everything, tls"), [
            Check("TLS ÷ without", None, ratio("parhelion/everything, tls", "parhelion/everything")),
            Check("÷ Envoy with everything on", None, ratio("parhelion/everything, tls", "envoy/everything, tls")),
        ]),
    "tls-large": Row(
        "600 KB, 4 × 2, forward only, TLS on both sides",
        through(LARGE, "parhelion", "parhelion/tls", "envoy/tls", "nginx/tls"), [
            Check("TLS ÷ without", None, ratio("parhelion/tls", "parhelion")),
            Check("÷ Envoy", None, ratio("parhelion/tls", "envoy/tls")),
            Check("÷ nginx", None, ratio("parhelion/tls", "nginx/tls")),
        ]),
    "idle": Row("idle", through(NOTHING, "parhelion"), [
        Check("memory", 10, of_run("parhelion", "highest_rss_mib"), "MiB", 1),
    ], rounds=1),
    "connections": Row(
        "300 B, connections × 1",
        {f"{n:,} × 1": Target("parhelion", Work(n, 1, 40_000)) for n in (64, 256, 1000)}, [
            Check("1,000 × 1 ÷ 64 × 1", 1.15, ratio("1,000 × 1", "64 × 1")),
        ]),
    "models": Row(
        "300 B, 8 × 16, models in the file", through(SMALL, "parhelion", "parhelion/500 models"), [
            Check("500 ÷ 1", 1.05, ratio("parhelion/500 models", "parhelion")),
        ], rounds=7),
    "shadow": beside_trouble("300 B", LEISURE),
    "shadow-large": beside_trouble("600 KB", LARGE_LEISURE),
    "kept": kept("300 B", KEPT),
    "kept-large": kept("600 KB", LARGE),
    "features": Row(
        "300 B, 8 × 16, one feature after the other",
        through(FULL, "parhelion", "parhelion/ab", "parhelion/canary", "parhelion/ab, drift", "parhelion/ab, log",
                "parhelion/ab, mirror", "parhelion/default", "parhelion/everything"), [
            Check("a canary that is judged ÷ the same split for `ab`", None, ratio("parhelion/canary", "parhelion/ab")),
            Check("drift of a tenth of the calls ÷ the same split without", 1.05,
                  ratio("parhelion/ab, drift", "parhelion/ab")),
            Check("a row on disk for each call ÷ the same split without", None, ratio("parhelion/ab, log", "parhelion/ab")),
        ]),
    "shadows": Row(
        "300 B, 8 × 16, shadows with a copy of each call",
        through(FULL, "parhelion", "parhelion/mirror", "parhelion/2 mirrors", "parhelion/3 mirrors"), [], rounds=3),
    "payload": Row(
        "4 × 2, bytes of the request",
        {f"{setup}, {payload:,} B": Target(setup, Work(4, 2, calls, payload=payload))
         for setup in ("parhelion", "envoy")
         for payload, calls in ((300, 15_000), (3_000, 15_000), (30_000, 6_000), (300_000, 1_500))}, [], rounds=3),
}
