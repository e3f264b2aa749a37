"""A TCP relay that counts what passes, to see from outside how large something was on the wire."""

import socket
import threading


class Relay:
    """Passes every connection on to `port`. `there` and `back` count bytes.

    It listens on a port of its own, unless it is given a socket that listens.
    """

    def __init__(self, port: int, listener: socket.socket | None = None):
        self.there = self.back = 0
        self._to = ("127.0.0.1", port)
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.refuse()

    def refuse(self):
        """From now on nobody can connect; connections that there are stay."""
        if self._listener.fileno() != -1:
            # A blocked accept wakes up by a shutdown, not by a close.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._to)
            for source, sink, name in ((near, far, "there"), (far, near, "back")):
                threading.Thread(target=self._pump, args=(source, sink, name), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, name: str):
        try:
            while chunk := source.recv(65536):
                setattr(self, name, getattr(self, name) + len(chunk))
                sink.sendall(chunk)
        except OSError:
            pass
        for one in (source, sink):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
