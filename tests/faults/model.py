"""A model server for the faults: answers any unary call with the bytes it got, and writes down which calls it ran.

    model.py ADDRESS LEDGER [SECONDS]     serves until SIGTERM, then finishes what it has; each call takes SECONDS

Every message is the id of its call, or begins with it and a blank. A line of the ledger is one id that was executed. It
has eight threads, so with SECONDS it can do 8 / SECONDS calls a second.
"""

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc


class Any(grpc.GenericRpcHandler):
    def __init__(self, ledger, seconds):
        self.ledger, self.lock, self.seconds = ledger, threading.Lock(), seconds

    def service(self, details):
        # SERVING, where the pod has a gRPC probe.
        if details.method == "/grpc.health.v1.Health/Check" and os.environ.get("HEALTH"):
            return grpc.unary_unary_rpc_method_handler(lambda request, context: b"\x08\x01")
        # Else health and the like are not its own: a probe is told so.
        if not details.method.startswith("/faults."):
            return None
        return grpc.unary_unary_rpc_method_handler(self.answer)

    def answer(self, request, context):
        with self.lock:
            self.ledger.write(request[:64].split(b" ")[0].decode(errors="replace") + "\n")
        # Most wait for nothing; what begins with `hold` does, as long as its caller.
        if request.startswith(b"hold"):
            while context.is_active():
                time.sleep(0.1)
        elif self.seconds:
            time.sleep(self.seconds)
        return request


def main(address, path, seconds="0"):
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    with open(path, "w", buffering=1) as ledger:
        # Another server must not be able to share the port, as gRPC would let it.
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        server = grpc.server(ThreadPoolExecutor(8), options=options)
        server.add_generic_rpc_handlers([Any(ledger, float(seconds))])
        if not server.add_insecure_port(address):
            sys.exit(f"{address} is taken")
        server.start()
        print("serving", flush=True)
        done.wait()
        server.stop(10).wait()


main(*sys.argv[1:])
