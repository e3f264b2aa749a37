"""What the faults are played on: processes, network namespaces as pods, and a ledger of who saw which call."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
UID = "65532"
# Where Debian has what a row may need.
PACKAGES = {"nft": "nftables", "strace": "strace", "bwrap": "bubblewrap", "ip": "iproute2", "readelf": "binutils", "setpriv": "util-linux"}


class Skipped(Exception):
    """This machine has not what a row needs."""


def binary():
    found = Path(os.environ.get("PARHELION_BIN", ROOT / "target" / "debug" / "parhelion"))
    if not found.is_file():
        raise SystemExit(f"{found}: run `cargo build`, or set PARHELION_BIN")
    return str(found)


def need(*tools, root=False):
    if root and os.geteuid() != 0:
        raise Skipped("needs root")
    for tool in tools:
        if not shutil.which(tool):
            raise Skipped(f"needs {tool}" + (f" (apt-get install {PACKAGES[tool]})" if tool in PACKAGES else ""))


def until(what, holds, seconds=20.0):
    end = time.monotonic() + seconds
    while True:
        try:
            value = holds()
        except OSError:
            value = None
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.01)


def sh(*words):
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


class Pod:
    """A network namespace with an address that others reach: `address`. Without one, this machine's loopback."""

    def __init__(self, number, outside=None):
        self.name, self.outside = f"fault{os.getpid()}-{number}", outside
        self.address = f"10.97.{number}.1"

    def __enter__(self):
        sh("ip", "netns", "add", self.name)
        sh("ip", "-n", self.name, "link", "set", "lo", "up")
        if self.outside:
            other, link = self.outside.name, f"v{self.address.split('.')[2]}"
            sh("ip", "-n", other, "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
            sh("ip", "-n", self.name, "addr", "add", f"{self.address}/24", "dev", "eth0")
            sh("ip", "-n", other, "addr", "add", f"{self.address[:-1]}2/24", "dev", link)
            sh("ip", "-n", self.name, "link", "set", "eth0", "up")
            sh("ip", "-n", other, "link", "set", link, "up")
        return self

    def __exit__(self, *_):
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)

    def within(self, *words):
        return ["ip", "netns", "exec", self.name, *words]


class Process:
    """A process of the play; it ends with its block."""

    def __init__(self, words, folder, name, wait_for=None, env=None, stdin=None):
        self.log = Path(folder) / f"{name}.log"
        self.out = open(self.log, "w")
        self.child = subprocess.Popen(
            [str(word) for word in words],
            stdout=self.out,
            stderr=subprocess.STDOUT,
            stdin=stdin,
            env={**os.environ, **(env or {})},
            text=True,
        )
        if wait_for:
            until(f"{name} says {wait_for}", lambda: wait_for in self.log.read_text() or self.alive_or_log())

    def alive_or_log(self):
        if self.child.poll() is not None:
            raise AssertionError(self.log.read_text()[-2000:])
        return False

    @property
    def pid(self):
        """Of what does the work: the only child of a wrapper, else the process itself."""
        pid = self.child.pid
        while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if len(children) > 1:
                break
            pid = int(children[0])
        return pid

    def signal(self, number):
        os.kill(self.pid, number)

    def ended(self, seconds=20):
        return self.child.wait(seconds)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child.poll() is None:
            for pid in {self.pid, self.child.pid}:
                for number in (signal.SIGCONT, signal.SIGKILL):
                    try:
                        os.kill(pid, number)
                    except ProcessLookupError:
                        pass
            self.child.wait(10)
        self.out.close()


def model(folder, name, address, pod=None, seconds=0):
    words = [sys.executable, HERE / "model.py", address, folder / f"{name}.ledger", str(seconds)]
    return Process(pod.within(*words) if pod else words, folder, name, "serving")


def sidecar(folder, name, config, pod=None, prefix=()):
    """A sidecar; in a pod as its container has it: user 65532, and only its own processes to see."""
    file = folder / f"{name}.yaml"
    # JSON is YAML.
    file.write_text(json.dumps(config))
    words = [*prefix, binary(), "run", "-c", str(file)]
    if pod:
        os.chmod(folder, 0o755)
        user = ["setpriv", "--reuid", UID, "--regid", UID, "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
        words = pod.within("unshare", "--pid", "--fork", "--mount-proc", *user, *words)
    return Process(words, folder, name, "serving", {"RUST_LOG": "info"})


def callers(folder, name, targets, calls, concurrency=32, deadline=10.0, pod=None):
    words = [sys.executable, HERE / "caller.py", targets, str(calls), str(concurrency), str(deadline), folder / f"{name}.json"]
    return Process(pod.within(*words) if pod else words, folder, name, "calling")


def pacer(folder, name, target, rate, seconds, size=0, deadline=10.0, channels=1):
    figures = map(str, (rate, seconds, size, deadline, channels))
    words = [sys.executable, HERE / "pacer.py", target, *figures, folder / f"{name}.json"]
    return Process(words, folder, name, "calling")


def result(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def executed(folder, *names):
    return [line for name in names for line in (folder / f"{name}.ledger").read_text().split()]


def get(url, pod=None, seconds=30):
    """Status and text; in a pod's namespace by a process of its own."""
    if pod is None:
        with urllib.request.urlopen(url, timeout=seconds) as answer:
            return answer.status, answer.read().decode()
    script = f"import urllib.request as u; a=u.urlopen({url!r}, timeout={seconds}); print(a.status); print(a.read().decode())"
    done = subprocess.run(pod.within(sys.executable, "-c", script), capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr[-300:])
    status, _, text = done.stdout.partition("\n")
    return int(status), text


def metric(text, name):
    """The sum of all samples whose name and labels begin so."""
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


def resident(pid):
    """Resident memory in MiB."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


def cpu(pid):
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_ports(count):
    import socket

    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
