"""What only ``enginelog demo`` asks the database: how late the log was, and what clients sent."""

from __future__ import annotations

from ..database import Database

__all__ = ["client_frame_hashes", "longest_delay_ms"]

# The time a row was committed less the time it was logged, in milliseconds: SQLite's own date
# functions know milliseconds only, so the digits behind the point are reckoned apart.
_DELAY_SQL = """
SELECT max((strftime('%s', substr(DT_ADDED, 1, 19))
    - strftime('%s', substr(DT_FUNCTION_MESSAGE_QUEUED, 1, 19))) * 1000.0
    + (substr(DT_ADDED, 21) - substr(DT_FUNCTION_MESSAGE_QUEUED, 21)) / 1000.0)
FROM ENGINE_DB_LOG_FUNCTIONS WHERE LOG_SEQ > ?
"""


async def longest_delay_ms(database: Database, *, after: int) -> float | None:
    """Return how long a function's row waited at most for its commit, of those after a LOG_SEQ."""
    [(delay,)] = await database.fetch(_DELAY_SQL, (after,))
    return None if delay is None else float(delay)


async def client_frame_hashes(database: Database) -> dict[tuple[int, int], str]:
    """Return the SHA-256 of the frames that clients sent, by recording and number."""
    rows = await database.fetch(
        "SELECT RECORDING_ID, AUDIO_FRAME_NO, AUDIO_FRAME_SHA256_HEX FROM ENGINE_DB_LOG_PRE_SPLIT_AUDIO_FRAME"
    )
    return {(recording, number): sha256 for recording, number, sha256 in rows}
