"""Callers who do not wait for each other: so many calls a second, whatever becomes of them.

    pacer.py TARGET RATE SECONDS BYTES DEADLINE CHANNELS RESULT

RESULT gets one JSON object: how many calls were meant, how long each that went well took, and of the others how long they
took by their status. Times are from the moment that a call was meant to begin.
"""

import asyncio
import contextlib
import json
import sys
import time

import grpc

METHOD = "/faults.Model/Call"


async def main(target, rate, seconds, size, deadline, channels, result):
    options = [
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        # A connection that is refused for want of memory is tried again soon.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
    ]
    padding = b"x" * size
    ok, failed = [], {}
    async with contextlib.AsyncExitStack() as stack:
        calls_of = []
        for _ in range(channels):
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(target, options=options))
            await asyncio.wait_for(channel.channel_ready(), 30)
            calls_of.append(channel.unary_unary(METHOD))
        print("calling", flush=True)

        async def one(number, meant):
            try:
                await calls_of[number % channels](b"%d %b" % (number, padding), timeout=deadline)
                ok.append(time.monotonic() - meant)
            except grpc.aio.AioRpcError as error:
                failed.setdefault(error.code().name, []).append(time.monotonic() - meant)

        began, meant, calls = time.monotonic(), 0, set()
        while meant < rate * seconds:
            due = began + meant / rate
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(one(meant, due))
            calls.add(task)
            task.add_done_callback(calls.discard)
            meant += 1
        took = time.monotonic() - began
        if calls:
            await asyncio.wait(calls)
    with open(result, "w") as file:
        json.dump({"meant": meant, "ok": sorted(ok), "failed": failed, "took": took}, file)


asyncio.run(main(sys.argv[1], *map(float, sys.argv[2:4]), int(sys.argv[4]), float(sys.argv[5]), int(sys.argv[6]), sys.argv[7]))
