"""TLS with peers that were not written for this project: grpcio on both sides, certificates made by openssl.

The certificates are those of `examples/tls`, so the example's script is tried too.
"""

import subprocess
import threading
from pathlib import Path

import grpc
import pytest

from echo import OPTIONS, EchoServer, call
from processes import wait_for
from sidecar import Sidecar

ROOT = Path(__file__).resolve().parents[2]
CALLER = "spiffe://shop.example/ns/shop/sa/web"


@pytest.fixture(scope="module")
def certificates(folder):
    made = folder / "tls"
    subprocess.run([ROOT / "examples/tls/certificates", made], check=True, capture_output=True)
    return made


def read(certificates, name: str) -> bytes:
    return (certificates / name).read_bytes()


def credentials(certificates, name: str | None = "web") -> grpc.ChannelCredentials:
    shown = (read(certificates, f"{name}.key"), read(certificates, f"{name}.crt")) if name else (None, None)
    return grpc.ssl_channel_credentials(read(certificates, "ca.crt"), *shown)


@pytest.fixture(scope="module")
def secure(folder, certificates):
    """A sidecar with TLS on both sides before an echo server that wants a certificate too."""
    pair = (read(certificates, "tls.key"), read(certificates, "tls.crt"))
    server = EchoServer(
        credentials=grpc.ssl_server_credentials([pair], read(certificates, "ca.crt"), require_client_auth=True)
    )
    files = {"cert": str(certificates / "tls.crt"), "key": str(certificates / "tls.key")}
    ca = str(certificates / "ca.crt")
    config = {
        "tls": {
            "listen": {**files, "client_ca": ca, "allow": [CALLER]},
            "endpoints": {**files, "ca": ca, "allow": ["spiffe://shop.example/ns/models/*"]},
        },
        "models": {"echo": {"variants": {"v1": {"endpoint": f"https://{server.address}"}}}},
    }
    with server, Sidecar(folder, config, "tls") as sidecar:
        yield sidecar


def channel(sidecar, credentials) -> grpc.Channel:
    return grpc.secure_channel(f"localhost:{sidecar.port}", credentials, options=OPTIONS)


@pytest.mark.parametrize("method", ["Unary", "Collect", "Expand", "Talk"])
def test_every_kind_of_call(secure, certificates, method):
    messages = [b"first", b"x" * 300_000, b"third"] if method in ("Collect", "Talk") else [b"y" * 5_000_000]
    with channel(secure, credentials(certificates)) as open:
        told = call(open, method, messages, [("echo-a", "1"), ("trail-b", "2")])
    assert told.code == "OK", told.details
    want = {"Collect": [b"|".join(messages)], "Expand": messages * 3}.get(method, messages)
    assert told.messages == want
    assert told.initial["echo-a"] == ["1"] and told.trailing["trail-b"] == ["2"]


@pytest.mark.parametrize("name", [None, "release"])
def test_who_is_not_let_in(secure, certificates, name):
    with channel(secure, credentials(certificates, name)) as open:
        told = call(open, "Unary", [b"hello"], timeout=10.0)
    assert told.code == "UNAVAILABLE", told


def test_rotation_under_calls(secure, certificates):
    """New certificates while two callers go on: one on a connection that lasts, one with a new one for each call."""
    stop, failed, good = threading.Event(), [], []

    def run(fresh: bool):
        open = channel(secure, credentials(certificates_of_callers))
        while not stop.is_set():
            if fresh:
                open.close()
                open = grpc.secure_channel(
                    f"localhost:{secure.port}",
                    credentials(certificates_of_callers),
                    options=[*OPTIONS, ("grpc.use_local_subchannel_pool", 1)],
                )
            told = call(open, "Unary", [b"hello"])
            (good if told.code == "OK" else failed).append(told)
        open.close()

    # The callers' own files stay as they are: the authority does too.
    certificates_of_callers = certificates.parent / "tls-callers"
    certificates_of_callers.mkdir()
    for name in ["ca.crt", "web.crt", "web.key"]:
        (certificates_of_callers / name).write_bytes(read(certificates, name))
    callers = [threading.Thread(target=run, args=(fresh,)) for fresh in (False, True)]
    for caller in callers:
        caller.start()
    applied = secure.counted("parhelion_certificate_reloads_total", "result")["applied"]
    for number in range(1, 6):
        anew(certificates, "tls")
        # The port and the way to the server have the same files.
        wait_for(
            "the next certificate",
            lambda: secure.counted("parhelion_certificate_reloads_total", "result")["applied"] >= applied + 2 * number,
        )
        before = len(good)
        wait_for("further calls", lambda: len(good) > before + 20)
    stop.set()
    for caller in callers:
        caller.join(20)
    assert failed == [] and len(good) > 100


def anew(certificates, name: str):
    """The same names, another key, signed by the same authority; renamed into place one after the other."""
    subject = {"tls": "DNS:localhost,IP:127.0.0.1,URI:spiffe://shop.example/ns/models/sa/fraud"}[name]
    script = f"""
    cd {certificates}
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj / -keyout new.key -out new.csr
    printf 'subjectAltName={subject}\\nextendedKeyUsage=serverAuth,clientAuth\\n' > new.ext
    openssl x509 -req -in new.csr -CA ca.crt -CAkey ca.key -days 7 -extfile new.ext -out new.crt
    mv new.crt {name}.crt && mv new.key {name}.key
    """
    subprocess.run(["sh", "-ec", script], check=True, capture_output=True)
