"""The sidecar ends without losing a call, and outlives the model server that it stands before."""

import signal
import threading
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from echo import OPTIONS, EchoServer, call
from inference import ask, request
from models import OLD, ModelServer
from processes import free_ports, wait_for
from relay import Relay
from sidecar import Sidecar


def pinned(address: str, model: str = "echo", **more) -> dict:
    return {"models": {model: {"variants": {"only": {"endpoint": f"http://{address}", "version": "1"}}}}, **more}


def in_background(work, count: int):
    """Runs `work(number)` in `count` threads; the returned function waits for all and gives their results."""
    results, threads = [None] * count, []

    def run(number):
        results[number] = work(number)

    for number in range(count):
        threads.append(threading.Thread(target=run, args=(number,), daemon=True))
        threads[-1].start()

    def finish(seconds: float = 30.0) -> list:
        for thread in threads:
            thread.join(seconds)
        assert not any(thread.is_alive() for thread in threads)
        return results

    return finish


def test_sigterm_loses_no_call(folder, echo):
    """Open calls of every kind finish, and callers who come in the time that endpoints lag are served."""
    echo.seen.clear()
    drain = {"lag": "1s", "grace": "20s"}
    kinds = ["Unary", "Collect", "Expand", "Talk"]
    asked = threading.Event()
    with Sidecar(folder, pinned(echo.address, drain=drain), "draining") as sidecar:
        with grpc.insecure_channel(sidecar.address, OPTIONS) as channel:

            def long_call(number):
                metadata = [("do-sleep", "3"), ("call", f"long {number}")]
                return call(channel, kinds[number % 4], [f"{number}".encode()], metadata, timeout=30).code

            def many_calls(_):
                codes, until = [], None
                while until is None or time.monotonic() < until:
                    if asked.is_set() and until is None:
                        # Half of the lag, so that the last of these calls is made in time on a slow machine too.
                        until = time.monotonic() + 0.5
                    codes.append(call(channel, "Unary", [b"x"], timeout=10).code)
                return codes

            long = in_background(long_call, 40)
            wait_for("all long calls at the server", lambda: sum(k.startswith("long") for k in [*echo.seen]) == 40)
            many = in_background(many_calls, 4)
            sidecar.program.signal(signal.SIGTERM)
            asked.set()
            wait_for("not ready any more", lambda: sidecar.get("/readyz")[0] != 200, 1)
            assert long() == ["OK"] * 40
            codes = [code for codes in many() for code in codes]
            assert set(codes) == {"OK"}
            assert len(codes) > 20
        assert sidecar.program.wait(10) == 0


def test_a_second_sigterm_cuts(folder, echo):
    with Sidecar(folder, pinned(echo.address, drain={"grace": "60s"}), "impatient") as sidecar:
        with grpc.insecure_channel(sidecar.address, OPTIONS) as channel:
            metadata = [("do-sleep", "30"), ("call", "forgotten")]
            finish = in_background(lambda _: call(channel, "Unary", [b"x"], metadata, timeout=60).code, 1)
            seen = wait_for("the call at the server", lambda: echo.seen.get("forgotten"))
            sidecar.program.signal(signal.SIGTERM)
            wait_for("not ready any more", lambda: sidecar.get("/readyz")[0] != 200, 5)
            sidecar.program.signal(signal.SIGTERM)
            sidecar.program.wait(5)
            assert finish(5) == ["UNAVAILABLE"]
            assert seen.cancelled.wait(5)


def test_the_model_server_is_killed_and_comes_back(folder, classifier, collector):
    server = ModelServer("mortal", folder, {("digits", OLD): classifier.files[OLD]}, collector.port)
    message = request(classifier.rows[:1], raw=True).SerializeToString()
    server.start()
    try:
        server.wait_until_ready()
        with Sidecar(folder, pinned(server.address, "digits"), "surviving") as sidecar:
            before = ask(sidecar.address, "ModelInfer", [message])
            assert before.code == "OK"
            pid = sidecar.program.pid

            server.kill()
            during = ask(sidecar.address, "ModelInfer", [message])
            assert during.code == "UNAVAILABLE"
            # A person who reads it knows where to look.
            assert "only" in during.details and server.address in during.details
            wait_for("not ready", lambda: not sidecar.ready(), 15)

            server.start()
            server.wait_until_ready()
            wait_for("ready again", sidecar.ready, 15)
            after = ask(sidecar.address, "ModelInfer", [message])
            assert (after.code, after.messages) == ("OK", before.messages)
            assert sidecar.program.pid == pid
    finally:
        server.stop()


def test_the_sidecar_starts_before_the_model(folder):
    """It listens at once, says that it is not ready, and serves as soon as the server is there."""
    (port,) = free_ports(1)
    sidecar = Sidecar(folder, pinned(f"127.0.0.1:{port}"), "early")
    with sidecar.program:
        sidecar.program.wait_until("answers", lambda: sidecar.get("/livez")[0] == 200, 10)
        assert not sidecar.ready()
        with grpc.insecure_channel(sidecar.address, OPTIONS) as channel:
            assert call(channel, "Unary", [b"x"]).code == "UNAVAILABLE"
            with EchoServer(port):
                wait_for("ready", sidecar.ready, 15)
                assert call(channel, "Unary", [b"x"]).code == "OK"


def test_health_of_the_sidecar_itself(sidecar):
    with grpc.insecure_channel(f"127.0.0.1:{sidecar.health}") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("kind", ["Unary", "Talk"])
def test_compressed_messages_stay_compressed(folder, echo, kind):
    """Counted on the wire behind the sidecar: a mebibyte of zeros is a few kilobytes there, both ways."""
    with Relay(echo.port) as relay, Sidecar(folder, pinned(relay.address), f"squeezed-{kind}") as sidecar:
        with grpc.insecure_channel(sidecar.address, OPTIONS) as channel:
            answer = call(channel, kind, [bytes(1 << 20)], [("do-gzip", "1")], compression=grpc.Compression.Gzip)
        assert answer.messages == [bytes(1 << 20)]
        assert 1000 < relay.there < 65536
        assert 1000 < relay.back < 65536
