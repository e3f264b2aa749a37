"""Rows on what runs out or is not there: capacity, memory, the collector. Each returns what it measured, and whether it holds."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from rows import config, ports, ready, share
from stage import HERE, ROOT, Process, Skipped, callers, free_ports, get, metric, model, need, pacer, resident, result, sidecar, until

SHED = "parhelion_shed_total"


def server_port():
    return f"127.0.0.1:{free_ports(1)[0]}"


def overload(folder, quick):
    """Calls at what the server can do, at half as much more, and at three times."""
    listen, health, admin = ports()
    server, seconds = server_port(), 8 if quick else 30
    runs = {}
    with model(folder, "a", server, seconds=0.04), sidecar(folder, "sidecar", config([server], listen, health, admin, limits={"in_flight": 16})):
        ready(health)
        # Eight threads at 40 ms: 200 a second.
        for name, rate in (("peak", 200), ("half", 300), ("thrice", 600)):
            with pacer(folder, name, listen, rate, seconds) as load:
                load.ended(seconds + 60)
            runs[name] = result(folder, name)
    goodput = {name: len(one["ok"]) / one["took"] for name, one in runs.items()}
    p99 = {name: one["ok"][int(len(one["ok"]) * 0.99)] for name, one in runs.items()}
    told = sorted(took for one in (runs["half"], runs["thrice"]) for took in one["failed"].get("RESOURCE_EXHAUSTED", []))
    codes = {code for one in runs.values() for code in one["failed"]}
    middle = told[len(told) // 2] if told else 0.0
    measured = (
        f"{goodput['peak']:.0f}, {goodput['half']:.0f} and {goodput['thrice']:.0f} calls a second done at 100, 150 and 300 %, "
        f"p99 {1000 * p99['peak']:.0f}, {1000 * p99['half']:.0f} and {1000 * p99['thrice']:.0f} ms, "
        f"{len(told)} refused, half of them within {1000 * middle:.1f} ms"
    )
    good = min(goodput["half"], goodput["thrice"]) >= 0.9 * goodput["peak"] and told and middle <= 0.005
    # Sixteen may be under way, eight of them waiting for a thread.
    return measured, bool(good) and max(p99.values()) <= 2 * max(p99["peak"], 0.08) and codes == {"RESOURCE_EXHAUSTED"}


@contextlib.contextmanager
def group(limit):
    """A control group whose memory is limited: how a process gets into it, and how often the kernel killed there."""
    need("sh", root=True)
    v1, v2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    first = (v1 / "memory.limit_in_bytes").exists()
    made = (v1 if first else v2) / f"faults-{os.getpid()}"
    try:
        made.mkdir()
        (made / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(limit))
    except OSError as error:
        raise Skipped(f"needs a control group for memory: {error}") from None

    def killed():
        text = (made / ("memory.oom_control" if first else "memory.events")).read_text()
        return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill "))

    def most():
        peak = made / ("memory.max_usage_in_bytes" if first else "memory.peak")
        return int(peak.read_text()) / 2**20

    try:
        yield ["sh", "-c", f'echo $$ > {made}/cgroup.procs && exec "$@"', "sh"], killed, most
    finally:
        with contextlib.suppress(OSError):
            until("the group to empty", lambda: not (made / "cgroup.procs").read_text().strip(), 10)
            made.rmdir()


def deaf(address, count):
    """Peers who read no answer, with twenty calls of 40 KB each: frames by hand."""

    def literal(name, value):
        def text(of):
            return (bytes([len(of)]) if len(of) < 127 else b"\x7f" + bytes([len(of) - 127])) + of

        return b"\0" + text(name) + text(value)

    def frame(kind, flags, stream, payload):
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    head = b"".join(
        literal(*pair)
        for pair in [
            (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/faults.Model/Call"), (b":authority", b"m"),
            (b"content-type", b"application/grpc"), (b"te", b"trailers"),
        ]
    )
    message = b"\0" + (40_000).to_bytes(4, "big") + b"deaf " + b"x" * (40_000 - 5)
    # No window for any answer, and twenty calls who wait for one.
    begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"\0\4\0\0\0\0") + frame(4, 1, 0, b"")
    for stream in range(1, 40, 2):
        pieces = [message[at : at + 16384] for at in range(0, len(message), 16384)]
        begin += frame(1, 4, stream, head) + b"".join(frame(0, 0, stream, piece) for piece in pieces) + frame(0, 1, stream, b"")
    host, _, port = address.rpartition(":")
    peers = []
    for _ in range(count):
        peer = socket.create_connection((host, int(port)), 5)
        peer.settimeout(1)
        with contextlib.suppress(OSError):
            peer.sendall(begin)
        peers.append(peer)
    return peers


def memory(folder, quick):
    """A small control group, and far more large bodies than fit it: for a server that takes them, and for one that hangs."""
    told, holds = [], True
    for limit in (64, 128):
        place = folder / str(limit)
        place.mkdir()
        with group(limit * 2**20) as (within, killed, most):
            listen, health, admin = ports()
            server = server_port()
            with model(place, "a", server) as hung, sidecar(place, "sidecar", config([server], listen, health, admin), prefix=within) as one:
                ready(health)
                peers = deaf(listen, 20)
                seconds = 10 if quick else 40
                with pacer(place, "large", listen, 12, seconds, 10 * 2**20, 8.0) as load:
                    load.ended(seconds + 60)
                # Of each a window's worth waits here, on many connections, for a server that takes no more.
                hung.signal(signal.SIGSTOP)
                with pacer(place, "stuck", listen, 60, 2.5, 2 * 2**20, 3.0, 32) as load:
                    load.ended(60)
                hung.signal(signal.SIGCONT)
                large, stuck, ended = result(place, "large"), result(place, "stuck"), time.monotonic()
                for peer in peers:
                    peer.close()

                def serves():
                    with pacer(place, "small", listen, 50, 0.4, 10, 2.0) as load:
                        load.ended(20)
                    return not result(place, "small")["failed"]

                until("small calls to be served", serves, 20)
                again = time.monotonic() - ended
                shed = metric(get(f"http://{health}/metrics")[1], SHED + '{cause="memory"}')
                alive, kills, peak = one.child.poll() is None, killed(), most()
        told.append(
            f"{limit} MiB: {kills} killed, at most {peak:.0f} MiB, {len(large['ok'])} of {large['meant']} bodies of 10 MiB "
            f"answered, of {stuck['meant']} of 2 MiB to a server that hangs {shed:.0f} refused, serves again after {again:.1f} s"
        )
        holds = holds and alive and kills == 0 and again <= 5 and not large["failed"] and (limit > 64 or shed > 0)
    return "; ".join(told), holds


def answering(address, how, stop):
    """A collector that is none: refuses what it is sent, or reads one byte a second."""
    host, _, port = address.rpartition(":")
    listener = socket.create_server((host, int(port)))
    listener.settimeout(0.2)
    open_ones = []
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            peer = listener.accept()[0]
            peer.settimeout(0.2)
            open_ones.append(peer)
        for peer in open_ones:
            with contextlib.suppress(OSError):
                if how == "drip":
                    peer.recv(1)
                elif peer.recv(65536):
                    peer.sendall(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
                    peer.close()
        if how == "drip":
            time.sleep(0.8)
    for peer in [*open_ones, listener]:
        peer.close()


def collector(folder, quick):
    """The collector of spans is not there, says nothing, refuses, reads a byte a second."""
    told, holds = [], True
    for how in ("absent", "silent", "refusing", "drip"):
        place = folder / how
        place.mkdir()
        listen, health, admin = ports()
        server, at = server_port(), server_port()
        telemetry = {"otlp": f"http://{at}", "sample": "100%"}
        stop = threading.Event()
        if how == "silent":
            host, _, port = at.rpartition(":")
            silent = socket.create_server((host, int(port)))
        elif how != "absent":
            threading.Thread(target=answering, args=(at, how, stop), daemon=True).start()
        with model(place, "a", server), sidecar(place, "sidecar", config([server], listen, health, admin, telemetry=telemetry)) as one:
            ready(health)
            with callers(place, "callers", listen, 10**6, 8) as load:
                time.sleep(2)
                half = resident(one.pid)
                time.sleep(2 if quick else 20)
                load.signal(signal.SIGTERM)
                load.ended()
            grown = resident(one.pid) - half
            metrics = get(f"http://{health}/metrics")[1]
            dropped = metric(metrics, "parhelion_spans_dropped_total")
            asked = time.monotonic()
            one.signal(signal.SIGTERM)
            code = one.ended(30)
            took = time.monotonic() - asked
        stop.set()
        if how == "silent":
            silent.close()
        said = result(place, "callers")
        told.append(f"{how}: {share(said)}, {dropped:.0f} spans dropped and counted, {grown:+.0f} MiB, exit {code} after {took:.1f} s")
        holds = holds and not said["failed"] and code == 0 and took <= 5.5 and grown <= 32 and dropped > 0
    return "; ".join(told), holds


def peace(folder, quick):
    """A call that is silent for long, and then nobody who calls, before a server of the C library with its own defaults."""
    listen, health, admin = ports()
    server, seconds = server_port(), 45 if quick else 600
    script = (
        "import sys, grpc\n"
        "with grpc.insecure_channel(sys.argv[1]) as channel:\n"
        "    call = channel.unary_unary('/faults.Model/Call')\n"
        "    call(b'first', timeout=10)\n"
        "    print('calling', flush=True)\n"
        "    try:\n"
        "        call(b'hold', timeout=float(sys.argv[2]))\n"
        "    except grpc.RpcError as error:\n"
        "        print(error.code().name, flush=True)\n"
    )
    with model(folder, "a", server), sidecar(folder, "sidecar", config([server], listen, health, admin)):
        ready(health)
        with Process([sys.executable, "-c", script, listen, str(seconds)], folder, "holds", "calling") as held:
            held.ended(seconds + 30)
        metrics = get(f"http://{health}/metrics")[1]
        with callers(folder, "after", listen, 200, 8) as load:
            load.ended(60)
    connected = metric(metrics, 'parhelion_upstream_connections_total{event="connected"}')
    how = (folder / "holds.log").read_text().split()[-1]
    after = result(folder, "after")
    measured = f"a call of {seconds} s without a word ended by {how}, {connected:.0f} connection made, afterwards {share(after)}"
    return measured, how == "DEADLINE_EXCEEDED" and connected == 1 and not after["failed"]


def collateral(folder, quick):
    """Rubbish among calls in good order, all on one connection to a server of the C library."""
    listen, health, admin = ports()
    server = server_port()
    script = (
        "import sys, itertools, grpc\n"
        "bad = [[('x-long', 'v' * 15000)], [('x-long', 'v' * 30000)], [('x-odd-bin', b'\\xff')], [(f'x-{n}', 'v') for n in range(400)]]\n"
        "print('calling', flush=True)\n"
        "with grpc.insecure_channel(sys.argv[1], options=[('grpc.max_metadata_size', 1 << 20), ('grpc.absolute_max_metadata_size', 1 << 20)]) as channel:\n"
        "    call = channel.unary_unary('/faults.Model/Call')\n"
        "    codes = {}\n"
        "    for number in range(int(sys.argv[2])):\n"
        "        for metadata, timeout in [(one, 5) for one in bad] + [([], 0.0001)]:\n"
        "            try:\n"
        "                call(b'bad', metadata=metadata, timeout=timeout)\n"
        "                code = 'OK'\n"
        "            except grpc.RpcError as error:\n"
        "                code = error.code().name\n"
        "            codes[code] = codes.get(code, 0) + 1\n"
        "    print(codes, flush=True)\n"
    )
    with model(folder, "a", server), sidecar(folder, "sidecar", config([server], listen, health, admin)):
        ready(health)
        with callers(folder, "good", listen, 10**6, 32) as load:
            with Process([sys.executable, "-c", script, listen, "20" if quick else "200"], folder, "bad", "calling") as bad:
                bad.ended(120)
            load.signal(signal.SIGTERM)
            load.ended()
        metrics = get(f"http://{health}/metrics")[1]
    connected = metric(metrics, 'parhelion_upstream_connections_total{event="connected"}')
    said, codes = result(folder, "good"), (folder / "bad.log").read_text().splitlines()[-1]
    measured = f"{share(said)} of those in good order, {connected:.0f} connection made; of the others {codes}"
    return measured, not said["failed"] and connected == 1


def interop(folder, quick):
    """Every kind of call of the C library's clients and servers, and of the Open Inference Protocol's own, directly and through."""
    files = [ROOT / "tests" / "peers" / name for name in ("test_transparency.py", "test_inference.py")]
    if subprocess.run([sys.executable, "-c", "import pytest, mlserver, tritonclient"], capture_output=True).returncode:
        raise Skipped("needs the environment of tests/peers (./test venv)")
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900)
    (folder / "pytest.log").write_text(done.stdout + done.stderr)
    return done.stdout.strip().splitlines()[-1].strip("= "), done.returncode == 0


PLAYED = {
    "A14": collateral,
    "B1": interop,
    "B8": peace,
    "D9": overload,
    "E6": memory,
    "G1": collector,
}
