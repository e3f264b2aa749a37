"""Rows on networks and on who is behind them: packets lost, a thin link, who answers nothing at all, endpoints that change.
Each returns what it measured, and whether it holds."""

import asyncio
import contextlib
import json
import re
import signal
import struct
import subprocess
import sys
import threading
import time

from rows import config, ports, ready, share
from stage import Pod, Process, callers, free_ports, get, metric, model, need, resident, result, sh, sidecar, until

GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\4" + bytes(5) + bytes(3) + b"\4\1" + bytes(4)


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value):
    """A header field as it is; both parts shorter than 127 bytes."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def call(stream, path=b"/faults.Model/Call", message=b"raw"):
    """A whole unary call, as frames."""
    fields = [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"m"),
        (b"content-type", b"application/grpc"), (b"te", b"trailers"),
    ]
    head = b"".join(literal(*field) for field in fields)
    return frame(1, 4, stream, head) + frame(0, 1, stream, b"\0" + struct.pack(">I", len(message)) + message)


@contextlib.contextmanager
def street(folder, limit=None):
    """Callers and sidecar in one namespace, a model server in another: the first, and where the sidecar listens."""
    with Pod(1) as outside, Pod(2, outside) as inside:
        listen, health, admin = "127.0.0.1:9000", "127.0.0.1:9901", "127.0.0.1:9900"
        server = f"{inside.address}:8001"
        with model(folder, "a", server, inside):
            with sidecar(folder, "sidecar", config([server], listen, health, admin), outside) as one:
                ready(health, outside)
                yield outside, listen, health, one


def loss(folder, quick):
    """Packets to and from the model server are lost by chance."""
    need("ip", "nft", root=True)
    seconds, told, holds = 5 if quick else 30, [], True
    with street(folder) as (outside, listen, _, _):
        for percent in (1, 5, 20):
            rule = f"tcp dport 8001 numgen random mod 100 < {percent} drop"
            back = f"tcp sport 8001 numgen random mod 100 < {percent} drop"
            sh(*outside.within("nft", "add table inet f; add chain inet f o { type filter hook output priority 0; }; "
                               "add chain inet f i { type filter hook input priority 0; }; "
                               f"add rule inet f o {rule}; add rule inet f i {back}"))
            with callers(folder, f"lossy{percent}", listen, 10**6, 32, 5.0, outside) as load:
                time.sleep(seconds)
                load.signal(signal.SIGTERM)
                load.ended(60)
            sh(*outside.within("nft", "delete table inet f"))
            said = result(folder, f"lossy{percent}")
            codes = {one[1] for one in said["failed"] if isinstance(one, list)}
            told.append(f"{percent} % lost: {share(said)}, slowest {said['slowest']:.2f} s")
            done = len(said["ok"]) / max(1, len(said["ok"]) + len(said["failed"]))
            holds = holds and (percent > 1 or done >= 0.999) and codes <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"} and said["slowest"] <= 5.5
        with callers(folder, "after", listen, 500, 16, 5.0, outside) as load:
            load.ended(60)
    after = result(folder, "after")
    return f"{'; '.join(told)}; afterwards {share(after)}", holds and not after["failed"]


def thin(folder, quick):
    """A link of 1 Mbit/s to the model server, and far more asked than fits it."""
    need("ip", "tc", root=True)
    seconds = 5 if quick else 30
    with street(folder) as (outside, listen, health, one):
        # Pages of the program that a call touches are there before.
        with callers(folder, "before", listen, 500, 16, 10.0, outside) as load:
            load.ended(60)
        before = resident(one.pid)
        # The way towards the model server.
        sh("tc", "-n", outside.name, "qdisc", "add", "dev", "v2", "root", "tbf", "rate", "1mbit", "burst", "16kb", "latency", "300ms")
        script = (
            "import asyncio, sys, grpc\n"
            "async def main():\n"
            "    async with grpc.aio.insecure_channel(sys.argv[1]) as channel:\n"
            "        call = channel.unary_unary('/faults.Model/Call')\n"
            "        print('calling', flush=True)\n"
            "        async def one():\n"
            "            try: await call(b'big ' + bytes(3 << 20), timeout=float(sys.argv[2])); return 'OK'\n"
            "            except grpc.aio.AioRpcError as error: return error.code().name\n"
            "        said = await asyncio.gather(*(one() for _ in range(50)))\n"
            "        print({code: said.count(code) for code in sorted(set(said))}, flush=True)\n"
            "asyncio.run(main())\n"
        )
        most = before
        with Process(outside.within(sys.executable, "-c", script, listen, str(seconds)), folder, "uploads", "calling") as load:
            while load.child.poll() is None:
                most = max(most, resident(one.pid))
                time.sleep(0.1)
        sh("tc", "-n", outside.name, "qdisc", "del", "dev", "v2", "root")
        with callers(folder, "after", listen, 500, 16, 10.0, outside) as load:
            load.ended(60)
    codes, after = (folder / "uploads.log").read_text().splitlines()[-1], result(folder, "after")
    measured = f"50 uploads of 3 MiB: {codes}, at most {most - before:+.0f} MiB of memory; afterwards {share(after)}"
    # A stream's window and 256 KiB for each, and what the allocator rounds up.
    return measured, most - before <= 50 * 1.25 + 8 and not after["failed"]


def nobody(folder, quick):
    """The only endpoint drops each SYN, refuses, or accepts and never shakes hands by TLS."""
    need("ip", "nft", root=True)
    told, holds = [], True
    with Pod(1) as outside, Pod(2, outside) as inside:
        sh(*inside.within("nft", "add table inet f; add chain inet f i { type filter hook input priority 0; }; "
                          "add rule inet f i tcp dport 8001 drop"))
        # Each SYN that leaves is counted, those that the kernel repeats too.
        sh(*outside.within("nft", "add table inet f; add chain inet f o { type filter hook output priority 0; }; "
                           "add rule inet f o tcp dport { 8001, 8002 } tcp flags & (syn|ack) == syn counter"))
        before = 0
        for number, how in enumerate(("drops SYN", "refuses", "hangs in TLS")):
            listen, health, admin = (f"127.0.0.1:{port + number}" for port in (9100, 9200, 9300))
            place = folder / how.replace(" ", "-")
            place.mkdir()
            one = config([f"{inside.address}:{8001 if how == 'drops SYN' else 8002}"], listen, health, admin)
            if how == "hangs in TLS":
                script = "import socket,time; s=socket.create_server(('0.0.0.0',8002)); print('serving',flush=True); h=[]\nwhile 1: h.append(s.accept())"
                dumb = Process(inside.within(sys.executable, "-c", script), place, "dumb", "serving").__enter__()
                one["models"]["m"]["variants"]["v1"]["endpoints"] = [f"https://{inside.address}:8002"]
            with sidecar(place, "sidecar", one, outside):
                with callers(place, "callers", listen, 200, 16, 5.0, outside) as load:
                    load.ended(60)
                time.sleep(3)
                rules = subprocess.run(outside.within("nft", "list", "chain", "inet", "f", "o"), capture_output=True, text=True).stdout
                now = int(re.search(r"packets (\d+)", rules)[1])
                tried, before = now - before, now
                status = get_status(f"http://{health}/readyz", outside)
            if how == "hangs in TLS":
                dumb.__exit__()
            said = result(place, "callers")
            codes = sorted({each[1] for each in said["failed"]})
            told.append(f"{how}: {len(said['failed'])} of 200 {'/'.join(codes)}, slowest {said['slowest']:.2f} s, {tried} SYN, /readyz {status}")
            holds = holds and len(said["failed"]) == 200 and codes == ["UNAVAILABLE"] and said["slowest"] <= 1.5 and 0 < tried <= 40 and status == 503
    return "; ".join(told), holds


def get_status(url, pod):
    """The status alone, also of an answer that is no good one."""
    script = f"import urllib.request as u, urllib.error as e\ntry: a=u.urlopen({url!r}, timeout=10)\nexcept e.HTTPError as b: a=b\nprint(a.status)"
    words = [sys.executable, "-c", script]
    return int(subprocess.run(pod.within(*words) if pod else words, capture_output=True, text=True, check=True).stdout)


async def herd(address, count):
    """So many connections at once, a call on each; how long until the last was answered, and how many were."""
    host, _, port = address.rpartition(":")
    began = time.monotonic()

    async def one():
        for _ in range(200):
            try:
                reader, writer = await asyncio.open_connection(host, int(port))
                break
            except OSError:
                await asyncio.sleep(0.02)
        else:
            return False
        writer.write(GREETING + call(1))
        seen = b""
        try:
            while b"grpc-status" not in seen and (more := await asyncio.wait_for(reader.read(4096), 20)):
                seen += more
                # A compressed name is shorter: the end of the stream says it too.
                if ended(seen):
                    return True
            return ended(seen)
        except (OSError, TimeoutError):
            return False
        finally:
            writer.close()

    good = await asyncio.gather(*(one() for _ in range(count)))
    return time.monotonic() - began, sum(good)


def ended(data):
    """Whether stream 1 was ended in good order: HEADERS with END_STREAM and no reset."""
    while len(data) >= 9:
        length, kind, flags = int.from_bytes(data[:3], "big"), data[3], data[4]
        if kind == 1 and flags & 1:
            return True
        data = data[9 + length :]
    return False


def changes(folder, quick):
    """The list of endpoints changes each second under load; then a sidecar starts before a thousand who wait for it."""
    listen, health, admin = ports()
    servers = [f"127.0.0.1:{port}" for port in free_ports(3)]
    rounds = 6 if quick else 60
    with contextlib.ExitStack() as stack:
        for name, server in zip("abc", servers, strict=True):
            stack.enter_context(model(folder, name, server))
        file = folder / "sidecar.yaml"
        with sidecar(folder, "sidecar", config(servers[:1], listen, health, admin)) as one:
            ready(health)
            with callers(folder, "callers", listen, 10**7, 16) as load:
                for number in range(rounds):
                    some = [servers[(number + step) % 3] for step in range(1 + number % 2)]
                    file.write_text(json.dumps(config(some, listen, health, admin)))
                    time.sleep(1)
                load.signal(signal.SIGTERM)
                load.ended()
            applied = metric(get(f"http://{health}/metrics")[1], 'parhelion_config_reloads_total{result="applied"}')
            one.signal(signal.SIGTERM)
            one.ended(40)
        crowd = threading.Thread(target=lambda: found.append(asyncio.run(herd(listen, 1000))), daemon=True)
        found = []
        crowd.start()
        time.sleep(0.3)
        began = time.monotonic()
        with sidecar(folder, "again", config(servers[:1], listen, health, admin)):
            crowd.join(60)
            took = time.monotonic() - began
    said, (_, good) = result(folder, "callers"), found[0] if found else (0, 0)
    measured = f"{share(said)} over {rounds} changes ({applied:.0f} applied); {good} of 1000 who waited for a start answered within {took:.2f} s of it"
    return measured, not said["failed"] and applied >= rounds - 1 and good == 1000 and took <= 4


PLAYED = {"D5-loss": loss, "D7": thin, "D8": nobody, "D11": changes}
