"""A client that never stops."""

from __future__ import annotations

import gc
import itertools
from pathlib import Path

import psutil
import pytest

from async_enginelog.listeners.client_frames import MAX_RECOGNISED

from .clients import RECORDING, MemoryClient, frame, recording, start, until

FRAMES = 40_000
AUDIO = b"0123456789abcdef"


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_takes_no_more_memory(path: Path) -> None:
    """After 40,000 client frames, nothing that is kept of a recording is larger than after 8,000."""
    analysed, memory, objects = itertools.count(), list[int](), list[int]()
    async with recording(path, {"fft": lambda *_: next(analysed)}) as (log, recorder):
        client = MemoryClient(log).connect(recorder)
        await client.say(start())
        for number in range(1, FRAMES + 1):
            client.say_nowait(frame(number), AUDIO)
            if not number % 1000:
                await client.say('{"type":"ping"}', "rubbish", frame(number), AUDIO)
                client.message_ids.clear()
            if not number % 8_000:
                await log.flush()
                gc.collect()
                memory.append(psutil.Process().memory_info().rss)
                objects.append(len(gc.get_objects()))
        stream = recorder._recordings._running[RECORDING]
        assert len(stream._client_frames._recognised) == MAX_RECOGNISED
        assert len(stream._client_frames._frames._gaps) == 1
        assert stream._cutter._rest == b""
        await until(lambda: stream._analysis.backlog == 0)
        await client.leave()
    assert next(analysed) == FRAMES
    print(f"after each 8,000 frames: {objects} objects, {[rss // 2**20 for rss in memory]} MiB")
    assert max(objects) - objects[0] < 1000
    # The log maps files of 16 MiB.
    assert max(memory) - memory[0] < 40 * 2**20
