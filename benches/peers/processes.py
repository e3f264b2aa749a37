"""Processes of the bench: started with their output in a file, measured, ended by their own id.

CPU time is what the kernel counts for a process and its descendants, user and system, all threads, also those that
have ended: read from each process's own CPU clock, in nanoseconds. Work that the kernel does for a socket in an
interrupt counts for whom it interrupts, as it does for everybody. Memory is VmRSS and VmHWM, summed over the same processes.
"""

import os
import signal
import socket
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
_started = []


def start(name, command, folder, environment=None):
    """Starts a process whose output goes to FOLDER/NAME.log."""
    log = open(os.path.join(folder, f"{name}.log"), "wb")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
    log.close()
    _started.append(process)
    return process


def stop(process, grace=5.0):
    """Asks one process to end, and makes it end after the grace time."""
    if process in _started:
        _started.remove(process)
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        for pid in reversed(family(process.pid)):
            _signal(pid, signal.SIGKILL)
        process.wait()


def stop_all():
    """Ends what is still running, the newest first."""
    for process in list(reversed(_started)):
        stop(process)


def free_port():
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def family(pid):
    """The process and its descendants, itself first."""
    found = [pid]
    for member in found:
        try:
            threads = os.listdir(f"/proc/{member}/task")
        except OSError:
            continue
        for thread in threads:
            try:
                with open(f"/proc/{member}/task/{thread}/children") as children:
                    found.extend(int(child) for child in children.read().split())
            except OSError:
                continue
    return found


def cpu_seconds(pid):
    """CPU time of a process and its descendants since they began."""
    spent = 0
    for member in family(pid):
        try:
            # The clock of another process, see clock_getcpuclockid(3): its number is the pid's complement and a 2.
            spent += time.clock_gettime_ns((~member << 3) | 2)
        except OSError:
            continue
    return spent / 1e9


class Others:
    """How much of the machine processes that are none of ours take, from now on."""

    def __init__(self):
        self._then = self._now()

    def share(self):
        """Part of all cores' time, 0 to 1: above a tenth, figures are disturbed."""
        now = self._now()
        total, busy, ours = (after - before for after, before in zip(now, self._then))
        return max(0.0, (busy - ours) / total) if total else 0.0

    @staticmethod
    def _now():
        with open("/proc/stat") as stat:
            # user nice system idle iowait irq softirq steal: steal is another machine's work on our cores.
            fields = [int(field) / TICKS for field in stat.readline().split()[1:9]]
        ended = os.times()
        ours = cpu_seconds(os.getpid()) + ended.children_user + ended.children_system
        return sum(fields), sum(fields) - fields[3] - fields[4], ours


def memory_mib(pid):
    """Resident memory now and at its highest."""
    now = highest = 0
    for member in family(pid):
        try:
            with open(f"/proc/{member}/status") as status:
                lines = dict(line.split(":", 1) for line in status if ":" in line)
        except OSError:
            continue
        now += int(lines.get("VmRSS", "0 kB").split()[0])
        highest += int(lines.get("VmHWM", "0 kB").split()[0])
    return now / 1024, highest / 1024


def wait_until(ready, process, seconds):
    """Whether `ready()` came true before the time was over or the process ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if ready():
            return True
        time.sleep(0.1)
    return False


def _signal(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
