"""
An engine that logs at full speed, for tests that kill it.

``python -m tests.engine DATABASE`` logs steps numbered from 1 and writes to standard output,
as 8 bytes each, the number of the last row whose call had returned.

"""

from __future__ import annotations

import asyncio
import os
import struct
import sys

from async_enginelog import EngineLog

REPORT = struct.Struct("<q")
REPORT_EVERY = 10


async def main(path: str) -> None:
    """Log until killed."""
    async with EngineLog(path) as log:
        number = 0
        os.write(1, REPORT.pack(log.run_id))
        while True:
            for _ in range(REPORT_EVERY):
                number += 1
                await log.log_steps(step_id=number, step_name="x" * (number % 100), recording_id=log.run_id)
            # The pipe is read by the killer: what is in it was accepted before the death.
            os.write(1, REPORT.pack(number))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
