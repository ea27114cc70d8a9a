"""What the example engines have in common: an analyser, options, and how they end."""

from __future__ import annotations

import argparse
import asyncio
import errno
import signal
from collections.abc import Sequence

from guard import Guard, Limits, own_origins
from volume import decode, volume_10_ms

from async_enginelog import Frame, Recording, default_path, logged

MAX_MESSAGE_BYTES = 2**20  # six seconds of audio; real clients send a sixth of a second


@logged
def loudness(recording: Recording, frame: Frame) -> Sequence[float]:
    """
    Analyse a frame of 100 ms: how loud each 10 ms are.

    It isn't a coroutine function, so it runs in a thread and may take its time. How many
    numbers it returns is logged as its count of records.

    """
    return volume_10_ms(decode(frame.audio))


def options_of(description: str) -> argparse.Namespace:
    """Read the options of the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", default=7070, type=port_number, help="port (7070); 0 for any free one")
    parser.add_argument(
        "--db", default=default_path(), help="database (setting ENGINELOG_DB or engine_log.db)"
    )
    parser.add_argument(
        "--allow-origin",
        metavar="ORIGIN",
        action="append",
        default=[],
        help="a page of another site that may connect, such as https://violin.example; may be given again",
    )
    limits = Limits()
    for option, default, what in (
        ("--max-connections", limits.connections, "in all"),
        ("--max-connections-of-address", limits.connections_of_address, "of one address"),
        ("--max-connects-per-second", limits.connects_per_second, "how often an address may connect"),
        ("--max-messages-per-second", limits.messages_per_second, "of one connection"),
    ):
        parser.add_argument(option, metavar="N", type=count, default=default, help=f"{what} ({default:g})")
    return parser.parse_args()


def guard_of(options: argparse.Namespace) -> Guard:
    """Return what decides who may come in."""
    limits = Limits(**{name: getattr(options, f"max_{name}") for name in Limits._fields})
    return Guard(limits, own_origins(options.host, options.port, options.allow_origin))


def count(text: str) -> int:
    """Read an option that is a count."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} isn't a count; pass a whole number from 1")
    return int(text)


def port_number(text: str) -> int:
    """Read the option ``--port``; 0 lets the system choose a free one."""
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a port; pass a number up to 65535")
    return int(text)


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set ``stop`` at Ctrl+C and when asked to end; SIGBREAK is how Windows asks."""
    loop = asyncio.get_running_loop()
    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: loop.call_soon_threadsafe(stop.set))


def reason_of(error: Exception, options: argparse.Namespace) -> str:
    """Say why the engine can't start, and what to do."""
    if not isinstance(error, OSError):
        return str(error)
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {options.port} on {options.host} is taken, perhaps by another engine; "
            "pass another one: --port 7071, or --port 0 for any that is free"
        )
    return f"can't listen on {options.host}, port {options.port}: {error.strerror or error}"
