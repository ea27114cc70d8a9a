"""
An engine that records, for tests that kill it.

``python -m tests.listeners.engine DATABASE`` serves on a free port and writes to standard output, as 8
bytes each, the port, and then the number of each frame of 100 ms that was analysed.

"""

from __future__ import annotations

import asyncio
import os
import struct
import sys

from websockets.asyncio.server import serve

from async_enginelog import EngineLog, Frame, Recorder, Recording, server_connection

REPORT = struct.Struct("<q")


async def analyse(recording: Recording, frame: Frame) -> int:
    """Tell that a frame is there: its row was accepted before."""
    os.write(1, REPORT.pack(frame.number))
    return frame.number


async def main(path: str) -> None:
    """Record until killed."""
    async with (
        EngineLog(path) as log,
        Recorder(log, {"fft": analyse}) as recorder,
        serve(recorder.handle, "127.0.0.1", 0, create_connection=server_connection(log)) as server,
    ):
        os.write(1, REPORT.pack(next(iter(server.sockets)).getsockname()[1]))
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
