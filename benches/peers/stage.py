"""What a row is played on: model servers, collector and proxies, started when they are first asked for."""

import json
import os
import re
import subprocess
import time
import urllib.request

import processes
import proxies
import setups

# How each server that is not a proxy is started; the dead one is a port that nobody listens on.
TROUBLES = ("hung", "deaf", "dripping", "flooding")
SERVERS = {"model": [], "shadow": [], "collector": [], **{trouble: ["--trouble", trouble] for trouble in TROUBLES}}
# The same servers speak TLS where their name begins so.
TLS = "tls "
WARM = {"payload": 300, "connections": 1, "streams": 1}


class Tools:
    """Paths: the load tool, the sidecar and another one to hold it against, the folder for what is installed."""

    def __init__(self, load, parhelion, again, folder, install):
        self.load, self.folder, self.install = load, folder, install
        self.ours = {"again": again or parhelion}
        self.parhelion = parhelion

    def program(self, name, proxy):
        """The binary of a setup's proxy."""
        if proxy == "parhelion":
            return self.ours.get(name, self.parhelion)
        return proxies.program(proxy, self.folder, self.install)


class Stage:
    """To be used in a `with`, which ends all it started."""

    def __init__(self, tools, folder):
        self.tools, self.folder = tools, folder
        self._servers, self._targets, self._dead = {}, {}, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        processes.stop_all()

    def server(self, name):
        """HOST:PORT of a server."""
        if name == "dead":
            self._dead = self._dead or f"127.0.0.1:{processes.free_port()}"
            return self._dead
        return self._server(name)[1]

    def _server(self, name):
        if name not in self._servers:
            tls = ["--tls", self._certificates()] if name.startswith(TLS) else []
            command = [self.tools.load, "upstream", *SERVERS[name.removeprefix(TLS)], *tls]
            process = processes.start(name, command, self.folder)
            log = os.path.join(self.folder, f"{name}.log")
            if not processes.wait_until(lambda: os.path.getsize(log) > 0, process, 10):
                raise SystemExit(f"{name}: the server did not start: {read_end(log)}")
            with open(log) as file:
                self._servers[name] = (process, json.loads(file.readline())["listening"])
        return self._servers[name]

    def _certificates(self):
        """The folder of everybody's certificates, made when they are first asked for."""
        folder = os.path.join(self.folder, "certificates")
        if not os.path.isdir(folder):
            os.mkdir(folder)
            subprocess.run([self.tools.load, "certificates", folder], check=True)
        return folder

    def counted(self, name):
        """What a server has counted so far: inferences and spans."""
        if name not in self._servers:
            return {"inferences": 0, "spans": 0}
        with open(os.path.join(self.folder, f"{name}.log")) as file:
            last = json.loads([line for line in file if line.endswith("}\n")][-1])
        return {key: last.get(key, 0) for key in ("inferences", "spans")}

    def target(self, name):
        """Process and address of a proxy by its setup's name, once it answers; no process for `direct`."""
        if name == "direct":
            return None, self.server("model")
        if name not in self._targets:
            self._targets[name] = self._begin(name, setups.SETUPS[name])
        return self._targets[name]

    def _place(self, name):
        """The folder of a proxy."""
        return os.path.join(self.folder, name.replace("/", "-").replace(" ", "-"))

    def _begin(self, name, setup):
        binary = self.tools.program(name, setup.proxy)
        folder = self._place(name)
        os.mkdir(folder)
        tls = {"tls": self._certificates()} if setup.tls else {}
        place = setups.Place(folder, processes.free_port(), self.server, processes.free_port, tls.get("tls", ""))
        path = os.path.join(folder, "proxy.conf" if setup.proxy in ("haproxy", "nginx") else "proxy.yaml")
        with open(path, "w") as file:
            file.write(setups.text(setup, place))
        command = proxies.command(setup.proxy, binary, folder, path)
        process = processes.start("proxy", command, folder, setups.environment(setup))
        address = f"127.0.0.1:{place.port}"
        if not processes.wait_until(lambda: self.load(address, {**WARM, **tls}, 1)[0]["failed"] == 0, process, 20):
            raise proxies.Missing(f"{name} answered no call: {read_end(os.path.join(folder, 'proxy.log'))}")
        return process, address

    def load(self, address, work, calls, rate=None, watch=lambda: None):
        """One run of the load tool; its report, with its own CPU, and what `watch` gave before and after the calls.

        Connections are opened before and closed after.
        """
        command = [self.tools.load, "load", "--hold", "--to", address, "--calls", str(calls)]
        for key in ("payload", "connections", "streams", "method", "messages", "users", "tls"):
            if key in work:
                command += [f"--{key}", str(work[key])]
        if work.get("method", "unary") != "unary":
            command += ["--answer", "100"]
        if rate:
            command += ["--rate", str(rate)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as tool:
            tool.stdout.readline()
            before, spent = watch(), processes.cpu_seconds(tool.pid)
            tool.stdin.write(b"\n")
            line = tool.stdout.readline()
            after, spent = watch(), processes.cpu_seconds(tool.pid) - spent
            tool.stdin.close()
        if not line:
            raise SystemExit(f"the load tool ended with {tool.returncode}: {' '.join(command)}")
        return {**json.loads(line), "load_cpu_us_per_call": spent * 1e6 / calls}, before, after

    def books(self, name):
        """What a sidecar has counted of its shadow, once no copy is under way: eligible, copied, and skips by reason."""
        with open(os.path.join(self._place(name), "proxy.yaml")) as file:
            health = re.search(r"^health: (.*)$", file.read(), re.MULTILINE)[1]
        for _ in range(200):
            with urllib.request.urlopen(f"http://{health}/metrics", timeout=5) as answer:
                counted = re.findall(r"^parhelion_shadow_(\w+)\{(.*)\} (\S+)$", answer.read().decode(), re.MULTILINE)
            by_name = {what: int(count) for what, _, count in counted if "." not in count}
            if by_name.get("calls_in_flight") == 0:
                break
            time.sleep(0.05)
        skipped = {re.search('reason="(.*?)"', labels)[1]: int(count)
                   for what, labels, count in counted if what == "skipped_total" and count != "0"}
        return {"eligible": by_name["eligible_total"], "copied": by_name["copied_total"], "skipped": skipped}

    def measure(self, name, work, rate=None):
        """One run through one target: the load tool's report, the CPU it cost whom, memory, copies and spans."""
        process, address = self.target(name)
        setup = setups.SETUPS.get(name, setups.Setup("direct"))
        prefix, work = (TLS, {**work._asdict(), "tls": self._certificates()}) if setup.tls else ("", work._asdict())
        model, _ = self._server(prefix + "model")
        watched = {"cpu_us_per_call": process, "model_cpu_us_per_call": model}
        mirrors = set(setup.mirrors)
        counted = {server: self.counted(prefix + server) for server in ("shadow", *TROUBLES, "collector")}

        def watch():
            return {key: processes.cpu_seconds(one.pid) for key, one in watched.items() if one}

        calls = work["calls"]
        if calls:
            result, before, after = self.load(address, work, calls, rate, watch)
            result.update({key: (after[key] - spent) * 1e6 / calls for key, spent in before.items()})
        else:
            result = self._idle()
        result["rss_mib"], result["highest_rss_mib"] = processes.memory_mib(process.pid) if process else (None, None)
        if calls and (mirrors or prefix + "collector" in self._servers):
            # The counts are told some times a second.
            time.sleep(0.15)
            more = {server: {key: self.counted(prefix + server)[key] - old[key] for key in old}
                    for server, old in counted.items()}
            result["copies_per_call"] = sum(more[one]["inferences"] for one in mirrors if one in more) / calls
            result["spans_per_call"] = more["collector"]["spans"] / calls
        return result

    @staticmethod
    def _idle():
        time.sleep(2)
        return {"calls": 0, "failed": 0, "failures": {}, "calls_per_second": None,
                "latency_us": {"p50": None, "p99": None}}


def read_end(path):
    """The last words of a log."""
    with open(path, errors="replace") as file:
        return " / ".join(line.strip() for line in file.readlines()[-3:]) or "it said nothing"
