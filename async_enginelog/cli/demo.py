"""`enginelog demo`: a server, clients and their log, all real, in a few seconds."""

from __future__ import annotations

import asyncio
import csv
import re
import shlex
import signal
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .. import reading
from ..database import Database
from ..resources import resource
from ..tables import TABLES
from .children import PATIENCE, Child, Children
from .common import WRONG, complain, harmless, run
from .showing import View, view_for
from .watching import client_frame_hashes, longest_delay_ms

__all__ = ["demo"]

# How often the database is asked what is new, in seconds.
PERIOD = 0.1
STARTING_PATIENCE = 30.0

# How shells have it when a process was asked to end.
ASKED_TO_END = 128 + signal.SIGTERM


class DemoFailed(Exception):
    """The server or a client failed."""


def demo(
    db: Annotated[
        Path | None,
        typer.Option("--db", help="Where to log; by default a new file in a temporary folder."),
    ] = None,
) -> None:
    """Stream violins to a real server, and show its log."""
    # The file is what one looks at afterwards, so nobody deletes it.
    path = db.absolute() if db else Path(tempfile.mkdtemp(prefix="enginelog-demo-")) / "engine_log.db"
    run(_until_asked_to_end(path, Console(highlight=False, markup=False, soft_wrap=True)))


async def _until_asked_to_end(path: Path, console: Console) -> int:
    """Run the demo so that being asked to end leaves no process behind, either."""
    demonstration = asyncio.create_task(_run(path, console))
    loop, asked = asyncio.get_running_loop(), asyncio.Event()

    def end() -> None:
        asked.set()
        demonstration.cancel()

    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: loop.call_soon_threadsafe(end))
    try:
        await demonstration
    except DemoFailed as failure:
        for line in str(failure).splitlines():
            complain(line)
        return WRONG
    except asyncio.CancelledError:
        if not asked.is_set():  # Ctrl+C: the caller knows what to do
            raise
        return ASKED_TO_END
    return 0


async def _run(path: Path, console: Console) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Children() as children:
            server = await children.start(
                "server", resource("examples") / "server.py", "--port", "0", "--db", str(path)
            )
            port = await _listening_port(server)
            console.print(harmless(f"A server listens on port {port} and logs to {path}"))
            async with reading.open_database(path) as database:
                before = await reading.newest_log_seq(database)
                hashes = await _stream(children, port, Path(folder))
                with view_for(console) as view:
                    await _watch(database, before, view, list(hashes), server)
                await _sum_up(database, before, list(hashes.values()), console)
    _what_next(path, console)


async def _listening_port(server: Child) -> int:
    line = await server.first_line(STARTING_PATIENCE)
    match = re.match(r"listening on ws://.*:(\d+)/", line)
    if match is None:
        raise DemoFailed(f"the server did not start: {line or 'it said nothing'}")
    return int(match[1])


async def _stream(children: Children, port: int, folder: Path) -> dict[Child, Path]:
    """Start the clients; return them with the files that will say what they sent."""
    examples = resource("examples")
    session = str(examples / "session_28_frames.csv")
    sessions = {
        "client of the recorded session": ["--trace", session, "--speed", "2"],
        "three violins": ["--seconds", "6", "--clients", "3"],
    }
    found = {}
    for number, (name, options) in enumerate(sessions.items()):
        file = folder / f"hashes_{number}.csv"
        client = await children.start(
            name, examples / "client.py", "--port", str(port), "--hashes", str(file), *options
        )
        found[client] = file
    return found


async def _watch(database: Database, after: int, view: View, clients: list[Child], server: Child) -> None:
    """Show what is logged until the clients, and then the server, have ended."""
    work = asyncio.create_task(_until_ended(clients, server))
    try:
        done = False
        while not done:
            # What is logged before it ends is committed when it has ended: look once more then.
            done = bool((await asyncio.wait({work}, timeout=PERIOD))[0])
            newest = await reading.newest_log_seq(database)
            rows = await reading.rows_up_to(
                database, TABLES.values(), after=after, up_to=newest, recording=None
            )
            view.show(rows, await _counts(database))
            after = newest
        work.result()
    finally:
        work.cancel()
        # Until it has let go of the processes' output, nobody else can read it.
        await asyncio.gather(work, return_exceptions=True)


async def _counts(database: Database) -> dict[str, int]:
    return {name: await reading.row_count(database, table) for name, table in TABLES.items()}


async def _until_ended(clients: list[Child], server: Child) -> None:
    failures = [failure for failure in await asyncio.gather(*(child.ended() for child in clients)) if failure]
    server.ask_to_end()
    try:
        async with asyncio.timeout(PATIENCE):
            failure = await server.ended()
    except TimeoutError:
        failure = f"the server did not end within {PATIENCE:g} s"
    if failure:
        failures.append(failure)
    if failures:
        raise DemoFailed("\n".join(failures))


async def _sum_up(database: Database, before: int, sent: list[Path], console: Console) -> None:
    console.print("\nRows in the database:")
    for name, count in (await _counts(database)).items():
        console.print(f"  {name:<40}{count:>8,}")
    delay = await longest_delay_ms(database, after=before)
    console.print(f"Longest delay of the log, from the call to the commit: {delay or 0:.1f} ms")
    hashes = await client_frame_hashes(database)
    frames = [row for file in sent for row in _read_hashes(file)]
    right = sum(hashes.get((recording, number)) == sha256 for recording, number, sha256 in frames)
    console.print(f"Client frames whose SHA-256 is the one the client sent: {right} of {len(frames)}")
    if right != len(frames):
        raise DemoFailed(f"{len(frames) - right} client frames are missing or differ from what was sent")


def _read_hashes(file: Path) -> list[tuple[int, int, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return [
            (int(row["recording_id"]), int(row["audio_frame_no"]), row["sha256_hex"])
            for row in csv.DictReader(lines)
        ]


def _what_next(path: Path, console: Console) -> None:
    file = shlex.quote(str(path))
    query = "SELECT RECORDING_ID, count(*) FROM ENGINE_DB_LOG_SPLIT_100_MS_AUDIO_FRAME GROUP BY 1"
    console.print("\nThe log stays there. Look at it:")
    console.print(f"  enginelog tail {file}")
    console.print(f"  enginelog verify {file}")
    console.print(f'  sqlite3 {file} "{query}"')
