"""A pod of a manifest, run as a kubelet runs it: init containers in their order, native sidecars until their startup probe
answers, then the containers; probes; and the pod's end in its real order. Containers are processes in a network namespace,
each with processes and a read-only root of its own, its user, its mounts, its environment. What runs in them is told by
image: the sidecar's is this binary, a model's is `model.py`.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from stage import HERE, Process, Skipped, binary, sh, until

# Makes the container's root, which is read-only, and starts what is in it without any privilege that it does not ask for.
CONTAINER = r"""
set -eu
root=$1; user=$2; caps=$3; mounts=$4; shift 4
mount -t tmpfs -o mode=755 none "$root"
mkdir -p "$root/proc" "$root/dev" "$root/tmp"
: >"$root/parhelion"
mount --bind "$BINARY" "$root/parhelion"
for device in null zero random urandom; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
if [ -n "$LIBRARIES" ]; then
    mkdir -p "$root/usr"
    mount --bind /usr "$root/usr"
    ln -s usr/lib "$root/lib"
    [ -e /usr/lib64 ] && ln -s usr/lib64 "$root/lib64"
fi
printf '%s\n' "$mounts" | while read -r from to mode; do
    [ -n "$from" ] || continue
    mkdir -p "$root$to"
    mount --bind "$from" "$root$to"
    if [ "$mode" = ro ]; then mount -o remount,bind,ro "$root$to"; fi
done
mount -t proc proc "$root/proc"
mount -o remount,ro "$root"
exec setpriv --no-new-privs --bounding-set="-all,+setuid,+setgid,+sys_chroot$caps" --inh-caps=-all \
    chroot --userspec="$user:$user" --groups= "$root" "$@"
"""


def is_static(file):
    return subprocess.run(["ldd", file], capture_output=True).returncode != 0


class Container:
    """One container of a pod."""

    def __init__(self, pod, spec):
        self.pod, self.spec, self.name, self.process = pod, spec, spec["name"], None
        self.started = None

    def environment(self):
        found = {}
        for one in self.spec.get("env", []):
            value = one.get("value")
            if value is None:
                value = self.pod.field(one["valueFrom"]["fieldRef"]["fieldPath"])
            # A variable may name those before it.
            found[one["name"]] = re.sub(r"\$\((\w+)\)", lambda match: found.get(match[1], match[0]), value)
        return found

    def command(self):
        """The words that run it, in the pod's network."""
        if not self.spec["image"].startswith("parhelion:"):
            port = next(one["containerPort"] for one in self.spec["ports"] if self.pod.is_models(one))
            return self.pod.space.within(sys.executable, HERE / "model.py", f"0.0.0.0:{port}", self.pod.ledger), {"HEALTH": "1"}
        context = self.spec["securityContext"]
        assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"], context
        assert context["capabilities"]["drop"] == ["ALL"], context
        caps = "".join(f",+{one.lower()}" for one in context["capabilities"].get("add", []))
        user = str(context["runAsUser"])
        mounts = []
        for one in self.spec.get("volumeMounts", []):
            mode = "ro" if one.get("readOnly") else "rw"
            mounts.append(f"{self.pod.volume(one['name'], user)} {one['mountPath']} {mode}")
        root = self.pod.folder / f"{self.name}-root"
        root.mkdir()
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", CONTAINER, "container"]
        args = [re.sub(r"\$\((\w+)\)", lambda match: self.environment().get(match[1], match[0]), one) for one in self.spec["args"]]
        words += [root, user, caps, "\n".join(mounts), "/parhelion", *args]
        libraries = "" if is_static(binary()) else "yes"
        return self.pod.space.within(*words), {"BINARY": binary(), "LIBRARIES": libraries, "RUST_LOG": "info", **self.environment()}

    def start(self):
        words, env = self.command()
        self.started = time.monotonic()
        self.process = Process(words, self.pod.folder, self.name, None, env)

    def to_end(self):
        self.start()
        code = self.process.ended(30)
        self.process.__exit__()
        assert code == 0, self.process.log.read_text()

    def probe(self, kind):
        """Whether that probe answers now; a container without it is always well."""
        handler = self.spec.get(kind)
        if handler is None:
            return True
        if get := handler.get("httpGet"):
            return self.pod.http(self.port(get["port"]), get["path"])[0] == 200
        if grpc := handler.get("grpc"):
            return self.pod.health(grpc["port"])
        return self.pod.connects(self.port(handler["tcpSocket"]["port"]))

    def port(self, wanted):
        if isinstance(wanted, int):
            return wanted
        return next(one["containerPort"] for one in self.spec["ports"] if one.get("name") == wanted)

    def pre_stop(self):
        """Begins it; returns what is to be waited for."""
        hook = self.spec.get("lifecycle", {}).get("preStop", {})
        if exec := hook.get("exec"):
            inside = ["nsenter", "-t", str(self.process.pid), "-n", "-p", "-m", "-r", "-w"]
            user = str(self.spec["securityContext"]["runAsUser"])
            if is_static(binary()):
                words = ["nsenter", *inside[1:], "-S", user, "-G", user, *exec["command"]]
            else:
                words = [*inside, "/usr/bin/setpriv", "--reuid", user, "--regid", user, "--clear-groups", *exec["command"]]
            return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if get := hook.get("httpGet"):
            return self.pod.asking(self.port(get["port"]), get["path"])
        return None


class Kubelet:
    """A pod, its namespace and its folder; `node` is where probes and hooks come from."""

    def __init__(self, folder, name, template, space, node, config_maps):
        self.folder, self.name, self.space, self.node = Path(folder) / name, name, space, node
        self.metadata, self.spec, self.config_maps = template.get("metadata", {}), template["spec"], config_maps
        self.folder.mkdir()
        self.folder.chmod(0o755)
        self.ledger = self.folder / "model.ledger"
        self.init = [Container(self, one) for one in self.spec.get("initContainers", [])]
        self.containers = [Container(self, one) for one in self.spec["containers"]]

    def __enter__(self):
        try:
            for one in self.init:
                if one.spec.get("restartPolicy") != "Always":
                    one.to_end()
                    continue
                one.start()
                until(f"{one.name} has started", lambda one=one: self.alive(one) and one.probe("startupProbe"), 30)
            for one in self.containers:
                one.start()
            for one in self.containers:
                until(f"{one.name} has started", lambda one=one: self.alive(one) and one.probe("startupProbe"), 30)
            until(f"{self.name} is ready", self.ready, 60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for one in self.all():
            if one.process:
                one.process.__exit__()

    def all(self):
        """What runs as long as the pod."""
        return [one for one in self.init if one.spec.get("restartPolicy") == "Always"] + self.containers

    def alive(self, one):
        if one.process.child.poll() is not None:
            raise AssertionError(f"{one.name} has ended: {one.process.log.read_text()[-1500:]}")
        return True

    def ready(self):
        return all(self.alive(one) and one.probe("readinessProbe") for one in self.all())

    def one(self, name):
        return next(one for one in self.all() if one.name == name)

    def port_of(self, name):
        """The number of a named port: the first container that has it, as Services look for it."""
        ports = [port for one in self.all() for port in one.spec.get("ports", [])]
        return next(port["containerPort"] for port in ports if port.get("name") == name)

    def is_models(self, port):
        return port.get("name") in ("grpc", "h2c", "parhelion-model")

    def field(self, path):
        if label := re.fullmatch(r"metadata\.labels\['(.+)'\]", path):
            return self.metadata.get("labels", {}).get(label[1], "")
        return {
            "metadata.name": self.name,
            "metadata.namespace": "default",
            "metadata.uid": "0d1f3c5e",
            "spec.nodeName": "node-1",
        }[path]

    def volume(self, name, user):
        folder = self.folder / "volumes" / name
        if folder.exists():
            return folder
        folder.mkdir(parents=True)
        volume = next(one for one in self.spec["volumes"] if one["name"] == name)
        for source in volume.get("projected", {}).get("sources", []):
            for file, text in self.config_maps[source["configMap"]["name"]].items():
                (folder / file).write_text(text)
        if "emptyDir" in volume:
            os.chown(folder, int(user), int(user))
        return folder

    def asking(self, port, path):
        script = (
            "import sys, urllib.request as u, urllib.error as e\n"
            f"try: a = u.urlopen('http://{self.space.address}:{port}{path}', timeout=60)\n"
            "except e.HTTPError as bad: a = bad\n"
            "print(a.status); print(a.read().decode())"
        )
        return subprocess.Popen(
            self.node.within(sys.executable, "-c", script), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def http(self, port, path):
        status, _, text = self.asking(port, path).communicate(timeout=90)[0].partition("\n")
        return int(status or 0), text.strip()

    def health(self, port):
        """A gRPC probe, as a kubelet sends it."""
        script = (
            "import grpc, sys\n"
            f"channel = grpc.insecure_channel('{self.space.address}:{port}')\n"
            "check = channel.unary_unary('/grpc.health.v1.Health/Check')\n"
            "sys.exit(0 if check(b'', timeout=1) == b'\\x08\\x01' else 1)"
        )
        done = subprocess.run(self.node.within(sys.executable, "-c", script), capture_output=True)
        return done.returncode == 0

    def connects(self, port):
        script = f"import socket; socket.create_connection(('{self.space.address}', {port}), 1)"
        return subprocess.run(self.node.within(sys.executable, "-c", script), capture_output=True).returncode == 0

    def end(self, lag, endpoints_hear):
        """The pod's end: all preStops at once, endpoints hear of it after `lag` seconds, each container gets SIGTERM when its
        own preStop is done, native sidecars when the others are gone. Returns what was seen."""
        told = time.monotonic()
        seen = {"grace": self.spec.get("terminationGracePeriodSeconds", 30)}
        sidecars = [one for one in self.init if one.spec.get("restartPolicy") == "Always"]
        hooks = [(one, one.pre_stop()) for one in sidecars + self.containers]
        left = lag - (time.monotonic() - told)
        while left > 0 and "not ready" not in seen:
            if not all(one.probe("readinessProbe") for one in sidecars):
                seen["not ready"] = time.monotonic() - told
            left = lag - (time.monotonic() - told)
        time.sleep(max(0.0, left))
        endpoints_hear()
        for one, hook in hooks:
            if hook:
                said = hook.communicate(timeout=90)[0]
                seen[f"{one.name} preStop"] = (hook.returncode, said.strip(), time.monotonic() - told)
        for group in (self.containers, sidecars):
            for one in group:
                one.process.signal(signal.SIGTERM)
            asked = time.monotonic()
            for one in group:
                code = one.process.ended(60)
                seen[one.name] = (code, time.monotonic() - asked)
        seen["took"] = time.monotonic() - told
        return seen


def documents(text):
    try:
        import yaml
    except ImportError:
        raise Skipped("needs PyYAML") from None
    return [one for one in yaml.safe_load_all(text) if one]


def injected(manifest, *options):
    """What `parhelion inject` makes of it."""
    done = subprocess.run([binary(), "inject", "-f", manifest, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return documents(done.stdout), done.stderr


def config_maps(objects):
    return {one["metadata"]["name"]: one["data"] for one in objects if one["kind"] == "ConfigMap"}


def openssl_pair(folder, name):
    """A certificate that is its own authority, for `localhost`."""
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    sh("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
       "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert)
    return cert, key


def admitted(folder, pod, port):
    """What an API server makes of a pod when it asks a webhook, which is started for that."""
    import base64
    import ssl
    import urllib.request

    cert, key = openssl_pair(folder, "webhook")
    words = [binary(), "webhook", "--listen", f"127.0.0.1:{port}", "--health", "127.0.0.1:0", "--cert", cert, "--key", key, "--lag", "0s"]
    request = {"uid": "1", "namespace": "default", "operation": "CREATE", "object": pod}
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    with Process(words, folder, "webhook", "serving", {"RUST_LOG": "info"}) as webhook:
        sent = urllib.request.Request(
            f"https://localhost:{port}/inject", json.dumps(review).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(sent, timeout=10, context=ssl.create_default_context(cafile=str(cert))) as answer:
            response = json.load(answer)["response"]
        webhook.signal(signal.SIGTERM)
        assert webhook.ended(20) == 0
    assert response["allowed"] and "warnings" not in response, response
    pod = json.loads(json.dumps(pod))
    for step in json.loads(base64.b64decode(response["patch"])):
        *path, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
        place = pod
        for part in path:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if isinstance(place, list):
            place.insert(int(last), step["value"])
        else:
            place[last] = step["value"]
    return pod
