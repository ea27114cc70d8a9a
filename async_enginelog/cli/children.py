"""Processes that a command starts, and never leaves behind."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

__all__ = ["Child", "Children"]

# How long a process may take to end when it is asked to, in seconds.
PATIENCE = 10.0

# On Windows only a process in a group of its own can be asked to end.
_GROUP_OF_ITS_OWN = 0
if sys.platform == "win32":
    _GROUP_OF_ITS_OWN = subprocess.CREATE_NEW_PROCESS_GROUP


class Child:
    """
    A Python script in a process of its own.

    Attributes:
        name: What to call it.
        process: The process.

    """

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.process = process

    async def first_line(self, timeout: float) -> str:
        """Return the first line that it says; an empty text if it says none, or not in time."""
        assert self.process.stdout is not None  # noqa: S101  # it is a pipe
        try:
            async with asyncio.timeout(timeout):
                return (await self.process.stdout.readline()).decode(errors="replace").strip()
        except TimeoutError:
            return ""

    async def ended(self) -> str | None:
        """Wait until it ends; return what it said if it failed."""
        output, _ = await self.process.communicate()
        code = self.process.returncode
        if not code:
            return None
        return f"the {self.name} failed (exit code {code}): {output.decode(errors='replace').strip()}"

    def ask_to_end(self) -> None:
        """Ask it to end in good order."""
        if self.process.returncode is not None:
            return
        if sys.platform == "win32":
            self.process.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            self.process.terminate()


class Children:
    """Start processes; leaving the block ends those that still run, whatever happened."""

    def __init__(self) -> None:
        self._children: list[Child] = []

    async def start(self, name: str, script: Path, *arguments: str) -> Child:
        """Start ``script`` with this Python."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(script),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            creationflags=_GROUP_OF_ITS_OWN,
        )
        child = Child(name, process)
        self._children.append(child)
        return child

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        running = [child.process for child in self._children if child.process.returncode is None]
        for child in self._children:
            child.ask_to_end()
        try:
            async with asyncio.timeout(PATIENCE):
                # Also reads what they still say: a full pipe would keep them from ending.
                await asyncio.gather(*(process.communicate() for process in running))
        except TimeoutError:
            pass
        finally:
            for process in running:
                if process.returncode is None:
                    process.kill()
            await asyncio.gather(*(process.wait() for process in running))
