"""Rows on crowds and on hard times: connections that say nothing, names by chance, little CPU, a process that is frozen, a start
with nothing there. Each returns what it measured, and whether it holds."""

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import time
from pathlib import Path

from networks import GREETING, call, ended, get_status
from rows import config, ports, ready, share
from stage import Skipped, callers, free_ports, get, metric, model, need, pacer, resident, result, sidecar, until


def server_port():
    return f"127.0.0.1:{free_ports(1)[0]}"


def idle(folder, quick):
    """Thousands of connections that have greeted and say nothing more, beside somebody who calls."""
    count = 2_000 if quick else 10_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + 500:
        raise Skipped(f"needs {count + 500} descriptors (ulimit -Hn says {hard})")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listen, health, admin = ports()
    server = server_port()
    host, _, port = listen.rpartition(":")
    with model(folder, "a", server), sidecar(folder, "sidecar", config([server], listen, health, admin, limits={"connections": count + 1000})) as one:
        ready(health)
        quantiles, crowd, grown = [], [], 0.0
        for name in ("without", "with"):
            if name == "with":
                before = resident(one.pid)
                for _ in range(count):
                    peer = socket.create_connection((host, int(port)), 5)
                    peer.sendall(GREETING)
                    crowd.append(peer)
                text = 'parhelion_connections_total{event="accepted"}'
                until("all accepted", lambda: metric(get(f"http://{health}/metrics")[1], text) >= count, 60)
                time.sleep(1)
                grown = resident(one.pid) - before
            with pacer(folder, name, listen, 100, 4 if quick else 20) as load:
                load.ended(60)
            said = result(folder, name)
            assert not said["failed"], said["failed"]
            quantiles.append(1000 * said["ok"][int(len(said["ok"]) * 0.99)])
        for peer in crowd:
            peer.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    each = 1024 * grown / count
    measured = f"{count} idle connections, {each:.1f} KiB each; p99 of others {quantiles[0]:.1f} ms without and {quantiles[1]:.1f} ms with them, none failed"
    # Of each the kernel's part is not in it.
    return measured, each <= 16 and quantiles[1] <= quantiles[0] + max(5.0, 0.5 * quantiles[0])


async def bomb(address, count):
    """Calls of so many methods that nobody else calls."""
    host, _, port = address.rpartition(":")
    number = 0
    while number < count:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(GREETING)
        part = min(count, number + 5_000)
        stream = 1
        while number < part:
            batch = min(part, number + 100)
            # A piece at a time, and only as fast as answers come.
            writer.write(b"".join(call(stream + 2 * at, b"/s%d.X/m%d" % (number % 997, number + at)) for at in range(batch - number)))
            stream += 2 * (batch - number)
            number = batch
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1 << 20), 1)
        writer.close()


def labels(folder, quick):
    """Methods by chance, each called once: labels of metrics stay few, and memory with them."""
    count = 20_000 if quick else 1_000_000
    listen, health, admin = ports()
    server = server_port()
    with model(folder, "a", server), sidecar(folder, "sidecar", config([server], listen, health, admin)) as one:
        ready(health)
        with callers(folder, "before", listen, 500, 16) as load:
            load.ended(60)

        def lines():
            return len(get(f"http://{health}/metrics")[1].splitlines())

        asyncio.run(bomb(listen, count // 10))
        before, memory = lines(), resident(one.pid)
        asyncio.run(bomb(listen, count))
        after, grown = lines(), resident(one.pid) - memory
        served = metric(get(f"http://{health}/metrics")[1], "parhelion_calls_total")
        with callers(folder, "after", listen, 500, 16) as load:
            load.ended(60)
    said = result(folder, "after")
    measured = f"{served:.0f} calls of as many methods: {before} lines of metrics before, {after} after, {grown:+.1f} MiB, afterwards {share(said)}"
    return measured, after <= before + 20 and grown <= 8 and served >= count and not said["failed"]


@contextlib.contextmanager
def quota(percent):
    """A control group with so much of one core: how a process gets into it."""
    v1, v2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
    first = (v1 / "cpu.cfs_quota_us").exists()
    made = (v1 if first else v2) / f"faults-{os.getpid()}"
    try:
        made.mkdir()
        if first:
            (made / "cpu.cfs_quota_us").write_text(str(1000 * percent))
        else:
            (made / "cpu.max").write_text(f"{1000 * percent} 100000")
    except OSError as error:
        raise Skipped(f"needs a control group for CPU: {error}") from None
    try:
        yield ["sh", "-c", f'echo $$ > {made}/cgroup.procs && exec "$@"', "sh"]
    finally:
        with contextlib.suppress(OSError):
            until("the group to empty", lambda: not (made / "cgroup.procs").read_text().strip(), 10)
            made.rmdir()


def throttled(folder, quick):
    """A tenth and a fifth of a core, and more asked than that can do."""
    need("sh", root=True)
    told, holds, seconds = [], True, 6 if quick else 30
    for percent in (10, 20):
        place = folder / str(percent)
        place.mkdir()
        listen, health, admin = ports()
        servers = [server_port() for _ in range(2)]
        with quota(percent) as within, model(place, "a", servers[0]), model(place, "b", servers[1]):
            with sidecar(place, "sidecar", config(servers, listen, health, admin, limits={"in_flight": 32}), prefix=within):
                ready(health)
                # What so much of a core can do: as many at once as it takes, each after the other.
                with callers(place, "peak", listen, 10**7, 16, 10.0) as load:
                    time.sleep(seconds)
                    load.signal(signal.SIGTERM)
                    load.ended(60)
                peak = len(result(place, "peak")["ok"]) / seconds
                with pacer(place, "over", listen, 1.5 * peak, seconds, 0, 5.0) as load:
                    load.ended(seconds + 60)
                over = result(place, "over")
                metrics = get(f"http://{health}/metrics")[1]
        done = len(over["ok"]) / over["took"]
        ejected = metric(metrics, "parhelion_ejections_total")
        told.append(f"{percent} %: {peak:.0f} calls a second at best, {done:.0f} of {1.5 * peak:.0f} that were asked, {ejected:.0f} ejections")
        holds = holds and done >= 0.9 * peak and ejected == 0
    return "; ".join(told), holds


def frozen(folder, quick):
    """The sidecar itself stands still for ten seconds, with calls under way."""
    listen, health, admin = ports()
    servers = [server_port() for _ in range(2)]
    with model(folder, "a", servers[0]), model(folder, "b", servers[1]):
        with sidecar(folder, "sidecar", config(servers, listen, health, admin)) as one:
            ready(health)
            until("both ready", lambda: "2 of 2" in get(f"http://{health}/readyz/m/v1")[1])
            with callers(folder, "callers", listen, 10**7, 16, 30.0) as load:
                time.sleep(1)
                one.signal(signal.SIGSTOP)
                time.sleep(10)
                one.signal(signal.SIGCONT)
                woken = time.time()
                until("an answer", lambda: "2 of 2" in get(f"http://{health}/readyz/m/v1")[1], 10)
                back = time.time() - woken
                time.sleep(2)
                load.signal(signal.SIGTERM)
                load.ended(60)
            metrics = get(f"http://{health}/metrics")[1]
    said = result(folder, "callers")
    blamed = metric(metrics, "parhelion_ejections_total") + metric(metrics, "parhelion_suspicions_total")
    measured = f"{share(said)} with a deadline of 30 s, {blamed:.0f} endpoints blamed, both ready {back:.2f} s after it"
    return measured, not said["failed"] and blamed == 0 and back <= 2


def nothing(folder, quick):
    """A start with no model server, no collector, no store for the log."""
    listen, health, admin = ports()
    server, collector, store = (server_port() for _ in range(3))
    more = {
        "telemetry": {"otlp": f"http://{collector}", "sample": "100%"},
        "log": {"dir": str(folder / "log"), "flush": "50ms", "seal": {"every": "1s"}, "upload": "s3://bucket/log"},
        "state": str(folder / "state"),
    }
    env = ["env", f"AWS_ENDPOINT_URL=http://{store}", "AWS_ALLOW_HTTP=true", "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b", "AWS_REGION=us-east-1"]
    began = time.monotonic()
    with sidecar(folder, "sidecar", config([server], listen, health, admin, **more), prefix=env) as one:
        up = time.monotonic() - began
        live, unready = get(f"http://{health}/livez")[0], get_status(f"http://{health}/readyz", None)
        time.sleep(2)
        came = time.monotonic()
        with model(folder, "a", server):
            ready(health)
            serves = time.monotonic() - came
            with callers(folder, "callers", listen, 1000, 16) as load:
                load.ended(60)
            one.signal(signal.SIGTERM)
            code = one.ended(30)
    said = result(folder, "callers")
    measured = f"serving {up:.2f} s after the start, /livez {live}, /readyz {unready}; ready {serves:.2f} s after the model came, {share(said)}, exit {code}"
    return measured, live == 200 and unready == 503 and serves <= 4 and not said["failed"] and code == 0


PLAYED = {"A18": idle, "E7": throttled, "E11": frozen, "E12": nothing, "H8": labels}
