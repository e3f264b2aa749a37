"""Rows on calls, networks and the ends of processes: what happens, and what came of it. Each returns what it measured, and whether that holds.

Bounds of time are wider by half a second than what is promised, for the machine is busy with the load itself.

A row takes `folder`, which is its own, and `quick`, which asks for fewer calls. Its promise and figure stand in the table
of `run`. Skipped is what says that this machine cannot.
"""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from stage import (
    HERE,
    Pod,
    Process,
    Skipped,
    binary,
    callers,
    cpu,
    executed,
    free_ports,
    get,
    metric,
    model,
    need,
    result,
    sh,
    sidecar,
    until,
)


def config(endpoints, listen, health, admin, **more):
    variant = {"endpoints": [f"http://{one}" for one in endpoints]}
    ports = {"listen": listen, "health": health, "admin": admin}
    return {**ports, "models": {"m": {"variants": {"v1": variant}}}, **more}


def ready(health, pod=None):
    def is_ready():
        return get(f"http://{health}/readyz", pod)[0] == 200

    until("ready", is_ready, 30)


def ports():
    return [f"127.0.0.1:{port}" for port in free_ports(3)]


def share(said):
    ok, failed = len(said["ok"]), len(said["failed"])
    codes = sorted({one[1] for one in said["failed"] if isinstance(one, list)})
    return f"{failed} of {ok + failed} failed" + (f" ({', '.join(codes)})" if codes else "")


def twice(ids):
    return len(ids) - len(set(ids))


def kill_one_of_two(folder, quick):
    """kill -9 of a model server under load, again and again."""
    listen, health, admin = ports()
    servers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    rounds = 5 if quick else 20
    lost, calls = 0, 0
    with model(folder, "a", servers[0]):
        with sidecar(folder, "sidecar", config(servers, listen, health, admin)):
            for number in range(rounds):
                with model(folder, f"b{number}", servers[1]) as victim:
                    until("both ready", lambda: "2 of 2" in get(f"http://{health}/readyz/m/v1")[1])
                    with callers(folder, f"callers{number}", listen, 1000000) as load:
                        time.sleep(0.6)
                        victim.signal(signal.SIGKILL)
                        time.sleep(1.2)
                        load.signal(signal.SIGTERM)
                        load.ended()
                said = result(folder, f"callers{number}")
                lost, calls = lost + len(said["failed"]), calls + len(said["ok"]) + len(said["failed"])
    double = twice(executed(folder, "a", *(f"b{number}" for number in range(rounds))))
    # The most that the dead one can have had is what its share of the callers had open.
    return f"{lost} of {calls} failed in {rounds} kills, {double} executed twice", lost <= rounds * 32 and double == 0


def gray(folder, quick):
    """A model server that hangs: SIGSTOP."""
    listen, health, admin = ports()
    servers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    deadline = 1.0
    with model(folder, "a", servers[0]), model(folder, "b", servers[1]) as hung:
        with sidecar(folder, "sidecar", config(servers, listen, health, admin)):
            ready(health)
            until("both ready", lambda: "2 of 2" in get(f"http://{health}/readyz/m/v1")[1])
            with callers(folder, "callers", listen, 1000000, deadline=deadline) as load:
                time.sleep(0.5)
                hung.signal(signal.SIGSTOP)
                stopped = time.time()
                seen = "parhelion_suspicions_total"
                until("passed over", lambda: metric(get(f"http://{health}/metrics")[1], seen) >= 1, 30)
                over = time.time() - stopped
                until("out", lambda: "1 of 2" in get(f"http://{health}/readyz/m/v1")[1], 30)
                out = time.time() - stopped
                time.sleep(3 if quick else 25)
                hung.signal(signal.SIGCONT)
                woken = time.time()
                until("back", lambda: "2 of 2" in get(f"http://{health}/readyz/m/v1")[1], 30)
                back = time.time() - woken
                load.signal(signal.SIGTERM)
                load.ended()
    said = result(folder, "callers")
    # When the last call began that it got, and did not answer: from then on it was out for callers.
    last = max((one[3] - deadline - stopped for one in said["failed"] if isinstance(one, list)), default=0.0)
    measured = f"passed over after {over:.2f} s, its last call began after {max(last, 0):.2f} s, not ready after {out:.2f} s, "
    measured += f"back after {back:.2f} s, {share(said)}"
    good = over <= 1 and last <= 1 and back <= 5 and said["slowest"] <= deadline + 0.5
    return f"{measured}, slowest call {said['slowest']:.2f} s of a deadline of {deadline:.0f} s", good


def blackhole(folder, quick):
    """All packets of a live connection to a model server are dropped."""
    need("ip", "nft", root=True)
    with Pod(1) as outside, Pod(2, outside) as inside:
        listen, health, admin = "127.0.0.1:9000", "127.0.0.1:9901", "127.0.0.1:9900"
        server = f"{inside.address}:8001"
        with model(folder, "a", server, inside):
            with sidecar(folder, "sidecar", config([server], listen, health, admin), outside):
                ready(health, outside)
                with callers(folder, "callers", listen, 10**6, 8, 1.0, outside) as load:
                    time.sleep(0.5)
                    sh(*outside.within("nft", "add table inet f; add chain inet f o { type filter hook output priority 0; }; "
                                       "add rule inet f o tcp dport 8001 drop"))
                    time.sleep(3)
                    sh(*outside.within("nft", "delete table inet f"))
                    light = time.time()
                    time.sleep(10)
                    load.signal(signal.SIGTERM)
                    load.ended()
    said = result(folder, "callers")
    after = [one[3] - light for one in said["failed"] if isinstance(one, list) and one[3] > light]
    again = max(after, default=0.0)
    measured = f"last failure {again:.2f} s after packets flowed again, slowest call {said['slowest']:.2f} s of a deadline of 1 s"
    return measured, again <= 10 and said["slowest"] <= 1.5


def harmed(folder, harm, seconds, deadline):
    """Calls through a proxy that does harm for a while; what was said, and how long the longest call was after it."""
    listen, health, admin = ports()
    server, between = [f"127.0.0.1:{port}" for port in free_ports(2)]
    words = [sys.executable, HERE / "proxy.py", between, server]
    with model(folder, "a", server), Process(words, folder, "proxy", "serving", stdin=subprocess.PIPE) as proxy:
        with sidecar(folder, "sidecar", config([between], listen, health, admin)):
            ready(health)

            def tell(command):
                proxy.child.stdin.write(command + "\n")
                proxy.child.stdin.flush()

            with callers(folder, "before", listen, 10**6, 16, deadline) as load:
                time.sleep(0.5)
                tell(harm)
                time.sleep(seconds)
                tell("pass")
                time.sleep(1)
                load.signal(signal.SIGTERM)
                load.ended()
            with callers(folder, "after", listen, 1000, 16, deadline) as load:
                load.ended(60)
    return result(folder, "before"), result(folder, "after")


def reset(folder, quick):
    """All connections to the model server end by a reset, with calls under way."""
    said, after = harmed(folder, "cut", 0.5, 5.0)
    codes = {one[1] for one in said["failed"]}
    measured = f"{share(said)}, afterwards {share(after)}"
    return measured, len(said["failed"]) <= 16 and codes <= {"UNAVAILABLE"} and not after["failed"]


def spike(folder, quick):
    """Each chunk to and from the model server takes 200 ms more."""
    said, after = harmed(folder, "delay 0.2", 2.0 if quick else 5.0, 5.0)
    ran = executed(folder, "a")
    attempts = len(ran) / (len(said["ok"]) + len(after["ok"]))
    measured = f"{share(said)}, {attempts:.3f} attempts a call, slowest {said['slowest']:.2f} s, afterwards {after['slowest']:.2f} s"
    return measured, not said["failed"] and not after["failed"] and attempts <= 1.1 and after["slowest"] <= 1


def pods_end(folder, quick):
    """A pod's end in Kubernetes' order, calls caught by a redirect: preStop of both, model's SIGTERM, sidecar's SIGTERM."""
    need("ip", "unshare", "nsenter", "setpriv", root=True)
    calls = 20_000 if quick else 100_000
    with Pod(1) as outside, Pod(2, outside) as ending, Pod(3, outside) as staying:
        running = {}
        for name, pod in (("ending", ending), ("staying", staying)):
            sh(*pod.within(binary(), "intercept", "--from", "8001", "--to", "9000", "--uid", "65532"))
            local = config(["127.0.0.1:8001"], "0.0.0.0:9000", "0.0.0.0:9901", "127.0.0.1:9900")
            local["drain"] = {"lag": "2s", "grace": "20s"}
            running[name] = sidecar(folder, name, local, pod).__enter__()
            running[f"{name} model"] = model(folder, f"{name}-model", "0.0.0.0:8001", pod).__enter__()
        try:
            for pod in (ending, staying):
                ready("127.0.0.1:9901", pod)
            targets = f"{ending.address}:8001,{staying.address}:8001"
            with callers(folder, "callers", targets, calls, 32, 10.0, outside) as load:
                time.sleep(1.0)
                told = time.time()
                # What the kubelet does at once: the sidecar's preStop in its container, the model's over the network.
                inside = ["nsenter", "-t", str(running["ending"].pid), "-n", "-p", "-m"]
                user = ["setpriv", "--reuid", "65532", "--regid", "65532", "--clear-groups"]
                sh(*inside, *user, binary(), "drain")
                status, text = get(f"http://{ending.address}:9901/drained", outside, 60)
                waited = time.time() - told
                running["ending model"].signal(signal.SIGTERM)
                running["ending model"].ended()
                running["ending"].signal(signal.SIGTERM)
                asked = time.time()
                code = running["ending"].ended()
                took = time.time() - asked
                load.ended(600)
            said = result(folder, "callers")
        finally:
            for one in running.values():
                one.__exit__()
        there = executed(folder, "ending-model", "staying-model")
        measured = f"{share(said)}, {twice(there)} executed twice, preStop {waited:.2f} s, exit {code} after {took:.2f} s"
        part = len(executed(folder, "ending-model"))
        good = not said["failed"] and twice(there) == 0 and status == 200 and text.strip() == "drained"
        return f"{measured}, {part} calls in the pod that ended", good and code == 0 and took <= 1.0 and part > 0


def descriptors(folder, quick):
    """No descriptors are left: 64 of them, 500 connections."""
    need("prlimit")
    listen, health, admin = ports()
    (server,) = [f"127.0.0.1:{port}" for port in free_ports(1)]
    host, _, port = listen.partition(":")
    with model(folder, "a", server):
        with sidecar(folder, "sidecar", config([server], listen, health, admin), prefix=["prlimit", "--nofile=64:64"]) as one:
            ready(health)
            with callers(folder, "callers", listen, 10**6, 4) as load:
                time.sleep(0.5)
                crowd = []
                for _ in range(500):
                    peer = socket.socket()
                    peer.setblocking(False)
                    peer.connect_ex((host, int(port)))
                    crowd.append(peer)
                before, began = cpu(one.pid), time.monotonic()
                time.sleep(4)
                spent = (cpu(one.pid) - before) / (time.monotonic() - began)
                for peer in crowd:
                    peer.close()
                left = time.monotonic()

                def accepted():
                    with socket.create_connection((host, int(port)), 1) as peer:
                        peer.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\4" + bytes(5))
                        peer.settimeout(0.2)
                        return len(peer.recv(64)) > 0

                until("accepts again", accepted, 20)
                again = time.monotonic() - left
                load.signal(signal.SIGTERM)
                load.ended()
    said = result(folder, "callers")
    # The callers' own work is in it: with no spinning it is far from a core.
    measured = f"{share(said)} of live calls, {100 * spent:.0f} % of a core with its calls, accepts again after {again:.2f} s"
    return measured, not said["failed"] and again <= 1.5 and spent < 0.9


def swaps(folder, quick):
    """One sidecar after the other on the same port."""
    listen, health, admin = ports()
    (server,) = [f"127.0.0.1:{port}" for port in free_ports(1)]
    rounds = 8 if quick else 50

    def next_one(number):
        _, other, control = ports()
        one = config([server], listen, other, control, reuse_port=True, drain={"grace": "10s"})
        running = sidecar(folder, f"sidecar{number}", one).__enter__()
        ready(other)
        return running

    with model(folder, "a", server):
        old = next_one(0)
        with callers(folder, "callers", listen, 10**7, 16) as load:
            for number in range(1, rounds + 1):
                new = next_one(number)
                old.signal(signal.SIGTERM)
                code = old.ended(15)
                old.__exit__()
                if code:
                    return f"exit {code}", False
                old = new
            load.signal(signal.SIGTERM)
            load.ended()
        old.__exit__()
    said = result(folder, "callers")
    return f"{share(said)} over {rounds} swaps", not said["failed"]


def clock(folder, quick):
    """The wall clock jumps by a year while calls go on."""
    listen, health, admin = ports()
    (server,) = [f"127.0.0.1:{port}" for port in free_ports(1)]
    stamp = folder / "clock"
    stamp.write_text("+0")
    library = next(Path("/usr/lib").rglob("libfaketime.so.1"), None)
    if library is None:
        raise Skipped("needs libfaketime (apt-get install libfaketime)")
    env = ["env", f"LD_PRELOAD={library}", f"FAKETIME_TIMESTAMP_FILE={stamp}", "FAKETIME_NO_CACHE=1",
           "DONT_FAKE_MONOTONIC=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"]
    with model(folder, "a", server), sidecar(folder, "sidecar", config([server], listen, health, admin), prefix=env) as one:
        ready(health)
        with callers(folder, "callers", listen, 10**6, 8, 2.0) as load:
            for jump in ("+3600", "-3600", "-31536000", "+0", "+31536000"):
                stamp.write_text(jump)
                time.sleep(0.7)
            status = get(f"http://{health}/readyz")[0]
            load.signal(signal.SIGTERM)
            load.ended()
        one.signal(signal.SIGTERM)
        code = one.ended(30)
    if str(time.gmtime().tm_year + 1) not in (folder / "sidecar.log").read_text():
        raise Skipped("libfaketime does not move this binary's clock")
    said = result(folder, "callers")
    return f"{share(said)} over five jumps, ready {status}, exit {code}", not said["failed"] and status == 200 and code == 0


PLAYED = {
    "D1": kill_one_of_two,
    "D3": gray,
    "D4": blackhole,
    "D5": reset,
    "D6": spike,
    "E1": pods_end,
    "E3": swaps,
    "E8": descriptors,
    "E10": clock,
}
