"""Callers for the faults, as grpcio has them: so many calls at once, each with an id of its own, until told to stop.

    caller.py TARGETS CALLS CONCURRENCY DEADLINE RESULT

TARGETS is ADDRESS[,ADDRESS…], CALLS how many there are at most. SIGTERM ends them early; calls under way end first. RESULT
gets one JSON object: ids that were answered well, ids that failed with their status, and the moments of first and last.
CHANNELS in the environment: so many channels with connections of their own, else one.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import grpc

METHOD = "/faults.Model/Call"


async def main(targets, calls, concurrency, deadline, result):
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    options = [
        ("grpc.lb_policy_name", "round_robin"),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
        ("grpc.enable_retries", 0),
        # Of two addresses grpcio would make a name that is none.
        ("grpc.default_authority", "model"),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    ok, failed, slowest, last = [], [], 0.0, 0.0
    ids, tag = iter(range(calls)), Path(result).stem
    async with contextlib.AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel("ipv4:" + targets, options=options))
            for _ in range(int(os.environ.get("CHANNELS", "1")))
        ]
        for channel in channels:
            await asyncio.wait_for(channel.channel_ready(), 30)
        print("calling", flush=True)

        async def work(call):
            nonlocal slowest, last
            for number in ids:
                if stop.is_set():
                    return
                name, began = f"{tag}-{number}", time.monotonic()
                try:
                    answer = await call(name.encode(), timeout=deadline)
                    (ok if answer == name.encode() else failed).append(name)
                except grpc.aio.AioRpcError as error:
                    failed.append([name, error.code().name, error.details(), time.time()])
                slowest, last = max(slowest, time.monotonic() - began), time.time()

        methods = [channel.unary_unary(METHOD) for channel in channels]
        await asyncio.gather(*(work(methods[index % len(methods)]) for index in range(concurrency)))
    with open(result, "w") as file:
        json.dump({"ok": ok, "failed": failed, "slowest": slowest, "last": last}, file)


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]))
