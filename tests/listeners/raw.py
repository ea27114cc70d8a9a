"""A client that sends any bytes, such as no decent client would."""

from __future__ import annotations

import asyncio
import socket
import struct
import zlib
from typing import Any, NamedTuple, Self

__all__ = [
    "BINARY",
    "CLOSE",
    "CONT",
    "PING",
    "PONG",
    "TEXT",
    "UPGRADE",
    "Raw",
    "close",
    "deflated",
    "frame",
    "request",
]

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

PATIENCE = 10.0

UPGRADE = (
    "Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
)


def request(headers: str = UPGRADE, line: str = "GET /ws/stream HTTP/1.1") -> bytes:
    """Return a request, as it is or with other headers."""
    return f"{line}\r\n{headers}\r\n".encode()


def frame(
    opcode: int,
    data: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    size: int | None = None,
) -> bytes:
    """Return a frame, right or wrong (RFC 6455, section 5.2); masked with zeros unless told otherwise."""
    size = len(data) if size is None else size
    mask = 0x80 if masked else 0
    head = bytes([0x80 * fin | rsv << 4 | opcode])
    if size < 126:
        head += bytes([mask | size])
    elif size < 65_536:
        head += struct.pack("!BH", mask | 126, size)
    else:
        head += struct.pack("!BQ", mask | 127, size)
    return head + bytes(4) * masked + data


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    """Return a close frame."""
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def deflated(data: bytes) -> bytes:
    """Return data as it is in a compressed message (RFC 7692, section 7.2.1)."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


class _Frame(NamedTuple):
    opcode: int
    fin: bool
    rsv: int
    data: bytes


class Raw:
    """A TCP connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._has_ended = False

    @classmethod
    async def open(cls, port: int, **settings: Any) -> Self:
        """Connect; each write is sent at once."""
        host = settings.pop("host", "127.0.0.1")
        reader, writer = await asyncio.open_connection(host, port, **settings)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(reader, writer)

    async def upgrade(self, headers: str = "") -> str:
        """Ask for a websocket, and return the head of the response."""
        self.send(request(UPGRADE + headers))
        return await self.head()

    async def head(self) -> str:
        """Return the head of the response."""
        async with asyncio.timeout(PATIENCE):
            return (await self._reader.readuntil(b"\r\n\r\n")).decode()

    def send(self, *data: bytes) -> None:
        """Send bytes, in one segment."""
        self._writer.write(b"".join(data))

    async def send_bytewise(self, data: bytes) -> None:
        """Send bytes one by one."""
        for byte in data:
            self._writer.write(bytes([byte]))
            await asyncio.sleep(0)

    async def next_frame(self) -> _Frame | None:
        """Return the next frame of the server; None at the end."""
        async with asyncio.timeout(PATIENCE):
            try:
                first, size = await self._reader.readexactly(2)
                if size == 126:
                    (size,) = struct.unpack("!H", await self._reader.readexactly(2))
                elif size == 127:
                    (size,) = struct.unpack("!Q", await self._reader.readexactly(8))
                data = await self._reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
        return _Frame(first & 0x0F, bool(first & 0x80), first >> 4 & 7, data)

    async def frames_to_end(self, *, answer: bool = True) -> list[_Frame]:
        """Return all frames of the server; answer its close frame, and close when it does."""
        frames = []
        while (received := await self.next_frame()) is not None:
            frames.append(received)
            if answer and received.opcode == CLOSE and not self._has_ended:
                self.send(frame(CLOSE, received.data))
                self.end()
        await self.gone()
        return frames

    async def bytes_to_end(self) -> bytes:
        """Return all bytes of the server; close when it does."""
        async with asyncio.timeout(PATIENCE):
            try:
                data = await self._reader.read()
            except ConnectionError:
                data = b"(reset)"
        await self.gone()
        return data

    def end(self) -> None:
        """Say that nothing more is sent; what the server sends is still read."""
        self._has_ended = True
        try:
            self._writer.write_eof()
        except OSError:  # the server is gone already
            pass

    def abort(self) -> None:
        """Reset the connection."""
        self._writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self._writer.transport.abort()

    def stop_reading(self) -> None:
        """Leave what the server sends in the kernel's buffers."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def read_again(self) -> None:
        """Go on reading."""
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]

    async def gone(self) -> None:
        """Close the connection."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            pass
