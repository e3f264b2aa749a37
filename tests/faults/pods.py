"""Pods as people make them: manifests go through `parhelion inject` or the webhook, and what comes out is run container by
container, see kubelet.py. Callers of three languages have connections to the Service's virtual address, and a rule of
nftables gives each connection to a pod, as kube-proxy does. One of two pods ends; the rule hears of it a second later.

And how soon a sidecar is ready after its start.
"""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time

from kubelet import Kubelet, admitted, config_maps, documents, injected, openssl_pair
from rows import config, share, twice
from stage import HERE, ROOT, Pod, Process, Skipped, binary, free_ports, model, need, result, sh

KEPT = ROOT / "target" / "faults"
EXAMPLES = ROOT / "examples" / "kubernetes"
SERVICE = "10.97.99.9:9000"
# How long the Service leads new connections to a pod that ends already, in seconds.
LAG = 1.0


class Service:
    """The Service's virtual address in the callers' namespace."""

    def __init__(self, outside):
        self.outside = outside
        # Somewhere to send it; the rule changes it before anything leaves.
        sh("ip", "-n", outside.name, "route", "add", "10.97.99.0/24", "dev", "lo")

    def leads_to(self, port, *pods):
        host, _, own = SERVICE.partition(":")
        choice = ", ".join(f"{number} : {pod.address}" for number, pod in enumerate(pods))
        rules = f"""
            add table ip service
            delete table ip service
            table ip service {{
                chain output {{
                    type nat hook output priority -100;
                    ip daddr {host} tcp dport {own} dnat to numgen inc mod {len(pods)} map {{ {choice} }}:{port}
                }}
                chain postrouting {{
                    type nat hook postrouting priority 100;
                    ip daddr 10.97.0.0/16 masquerade
                }}
            }}
        """
        done = subprocess.run(self.outside.within("nft", "-f", "-"), input=rules, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr


def deployment(folder):
    """By port: the Service is in the stream, and its target moves to the sidecar."""
    objects, notes = injected(EXAMPLES / "deployment.yaml")
    assert "injected, by port" in notes, notes
    one = {each["kind"]: each for each in objects}
    target = one["Service"]["spec"]["ports"][0]["targetPort"]
    return one["Deployment"]["spec"]["template"], config_maps(objects), target


def inference_service(folder):
    """Redirected: the Service is KServe's, and KServe makes the container of its `model`."""
    objects, notes = injected(EXAMPLES / "inferenceservice.yaml", "--port", "8081")
    assert "injected, transparently" in notes, notes
    spec = dict(objects[0]["spec"]["predictor"])
    container = {key: value for key, value in spec.pop("model").items() if key in ("ports", "lifecycle")}
    spec["containers"] = [{"name": "kserve-container", "image": "kserve/sklearnserver", **container}]
    text = json.dumps({"models": {"digits": {"variants": {"v1": {"endpoint": "http://127.0.0.1:8081"}}}}, "drain": {"lag": "3s", "grace": "15s"}})
    return {"metadata": objects[0]["metadata"], "spec": spec}, {"parhelion": {"parhelion.yaml": text}}, 8081


def by_webhook(folder):
    """Redirected: a pod of a Deployment that nobody has touched, as the webhook has it made."""
    need("openssl")
    objects = documents((EXAMPLES / "deployment.yaml").read_text())
    template = next(one for one in objects if one["kind"] == "Deployment")["spec"]["template"]
    labels = {**template["metadata"]["labels"], "parhelion/inject": "true"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "fraud-", "labels": labels}, "spec": template["spec"]}
    return admitted(folder, pod, free_ports(1)[0]), config_maps(objects), 8001


def grpcio():
    return [sys.executable, HERE / "caller.py"], {"CHANNELS": "8"}, SERVICE


def grpc_js():
    need("node", "npm")
    folder = KEPT / "node"
    if not (folder / "node_modules").exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "package.json", folder)
        words = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", folder]
        if subprocess.run(words, capture_output=True).returncode:
            raise Skipped("needs @grpc/grpc-js, which npm did not bring")
    return ["node", HERE / "caller.mjs"], {"GRPC_JS": str(folder)}, SERVICE


def tonic():
    words = ["cargo", "build", "--locked", "--quiet", "--example", "fault-caller"]
    subprocess.run(words, cwd=ROOT, check=True)
    return [ROOT / "target" / "debug" / "examples" / "fault-caller"], {}, SERVICE


def pods_end(manifest, client):
    def row(folder, quick):
        need("ip", "nft", "unshare", "nsenter", "setpriv", root=True)
        words, env, target = client()
        template, maps, port = manifest(folder)
        calls = 20_000 if quick else 100_000
        with Pod(1) as outside, Pod(2, outside) as ending, Pod(3, outside) as staying:
            service = Service(outside)
            with (
                Kubelet(folder, "ending", template, ending, outside, maps) as first,
                Kubelet(folder, "staying", template, staying, outside, maps) as second,
            ):
                number = port if isinstance(port, int) else first.port_of(port)
                service.leads_to(number, ending, staying)
                command = [*words, target, str(calls), "32", "10", folder / "callers.json"]
                with Process(outside.within(*command), folder, "callers", "calling", env) as load:
                    time.sleep(1.0)
                    seen = first.end(LAG, lambda: service.leads_to(number, staying))
                    load.ended(900)
                ledgers = [one.ledger.read_text().split() for one in (first, second)]
        said = result(folder, "callers")
        (_, drained, waited), (code, took) = seen[f"{first.containers[0].name} preStop"], seen["parhelion"]
        again = twice(ledgers[0] + ledgers[1])
        measured = (
            f"{share(said)}, {again} executed twice, slowest {said['slowest']:.2f} s, not ready after "
            f"{seen.get('not ready', 99):.2f} s, preStop {waited:.2f} s, exit {code} after {took:.2f} s, all {seen['took']:.1f} s "
            f"of {seen['grace']} s, {len(ledgers[0])} calls in the pod that ended"
        )
        in_order = seen["parhelion preStop"][0] == 0 and drained.endswith("drained") and code == 0
        bounds = took <= 1.0 and seen["took"] < seen["grace"] and "not ready" in seen
        return measured, in_order and bounds and not said["failed"] and again == 0 and len(ledgers[0]) > 0

    return row


def start_to_ready(folder, more):
    """Milliseconds from the start of the process until /readyz says so, the model being there."""
    listen, health, admin = (f"127.0.0.1:{port}" for port in free_ports(3))
    (server,) = (f"127.0.0.1:{port}" for port in free_ports(1))
    host, _, port = health.partition(":")
    file = folder / "sidecar.yaml"
    file.write_text(json.dumps(config([server], listen, health, admin, **more)))
    took = []
    with model(folder, "model", server):
        for _ in range(20):
            began = time.perf_counter()
            child = subprocess.Popen([binary(), "run", "-c", str(file)], stderr=subprocess.DEVNULL)
            try:
                while time.perf_counter() - began < 5 and child.poll() is None:
                    try:
                        with socket.create_connection((host, int(port)), 1) as peer:
                            peer.sendall(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                            if peer.recv(64).split(b" ")[1:2] == [b"200"]:
                                break
                    except OSError:
                        pass
                    time.sleep(0.0005)
                assert child.poll() is None, "it did not start"
                took.append(1000 * (time.perf_counter() - began))
            finally:
                child.send_signal(signal.SIGTERM)
                child.wait(30)
    return sorted(took)


def start(folder, quick):
    """A start while the model is there, with and without TLS, twenty times each."""
    need("openssl")
    cert, key = map(str, openssl_pair(folder, "port"))
    plain = start_to_ready(folder, {})
    port = {"cert": cert, "key": key}
    towards = {"ca": cert, "cert": cert, "key": key}
    tls = start_to_ready(folder, {"tls": {"listen": {**port, "client_ca": cert}, "admin": port, "endpoints": towards}})
    middle = len(plain) // 2
    measured = (
        f"without TLS {plain[middle]:.0f} ms ({plain[0]:.0f} to {plain[-1]:.0f}), "
        f"with TLS {tls[middle]:.0f} ms ({tls[0]:.0f} to {tls[-1]:.0f})"
    )
    return measured, plain[middle] <= 50 and tls[middle] <= 100


PLAYED = {
    "E1-port": pods_end(deployment, grpcio),
    "E1-kserve": pods_end(inference_service, grpc_js),
    "E1-webhook": pods_end(by_webhook, tonic),
    "start": start,
}
