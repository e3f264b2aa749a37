"""A model server for the faults: answers any unary call with the bytes it got, and writes down which calls it ran.

    model.py ADDRESS LEDGER     serves until SIGTERM, then finishes what it has

Every message is the id of its call. A line of the ledger is one id that was executed.
"""

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc


class Any(grpc.GenericRpcHandler):
    def __init__(self, ledger):
        self.ledger, self.lock = ledger, threading.Lock()

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
            self.ledger.write(request.decode() + "\n")
        return request


def main(address, path):
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    with open(path, "w", buffering=1) as ledger:
        # Another server must not be able to share the port, as gRPC would let it.
        server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers([Any(ledger)])
        if not server.add_insecure_port(address):
            sys.exit(f"{address} is taken")
        server.start()
        print("serving", flush=True)
        done.wait()
        server.stop(10).wait()


main(*sys.argv[1:])
