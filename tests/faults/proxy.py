"""A TCP proxy that does harm: delay, jitter, drip, cut.

    proxy.py LISTEN TARGET

It reads commands from standard input, one a line, in force at once for all connections:

    delay SECONDS    every chunk waits so long        jitter SECONDS   and up to so much longer, in order still
    drip BYTES       so many bytes a second           cut              all connections end by a reset
    hold             nothing passes                   pass             everything passes again
"""

import asyncio
import random
import socket
import struct
import sys


class Harm:
    def __init__(self):
        self.delay = self.jitter = 0.0
        self.drip = 0
        self.open = asyncio.Event()
        self.open.set()
        self.sockets = set()

    def heed(self, line):
        word, _, value = line.strip().partition(" ")
        match word:
            case "delay":
                self.delay = float(value)
            case "jitter":
                self.jitter = float(value)
            case "drip":
                self.drip = int(value)
            case "hold":
                self.open.clear()
            case "pass":
                self.delay = self.jitter = 0.0
                self.drip = 0
                self.open.set()
            case "cut":
                for writer in list(self.sockets):
                    raw = writer.get_extra_info("socket")
                    # Closed without lingering, the kernel sends a reset.
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    writer.transport.abort()
            case _:
                raise SystemExit(f"{word}: no such harm")


async def pump(harm, reader, writer):
    try:
        while chunk := await reader.read(harm.drip or 65536):
            await asyncio.sleep(harm.delay + random.random() * harm.jitter if harm.delay or harm.jitter else 0)
            await harm.open.wait()
            writer.write(chunk)
            await writer.drain()
            if harm.drip:
                await asyncio.sleep(len(chunk) / harm.drip)
    except (ConnectionError, OSError):
        pass
    finally:
        harm.sockets.discard(writer)
        writer.close()


async def main(listen, target):
    harm = Harm()
    host, _, port = target.rpartition(":")

    async def accept(reader, writer):
        try:
            there, back = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        harm.sockets |= {writer, back}
        await asyncio.gather(pump(harm, reader, back), pump(harm, there, writer))

    at, _, number = listen.rpartition(":")
    await asyncio.start_server(accept, at, int(number))
    print("serving", flush=True)
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        harm.heed(line.decode())
        print("done", flush=True)


asyncio.run(main(*sys.argv[1:]))
