"""One connection and its messages, logged: what the listeners of both kinds of server share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from ..enginelog import EngineLog
from ..errors import LogClosed
from ..messages import MAX_READ_BYTES, Message, MessageReader
from ..peers import TrustedProxies
from ..tables import FUNCTION_ERROR, WEBSOCKET_CONNECTION, WEBSOCKET_MESSAGE, Table
from ..values import MASKED_HEADERS, mask_headers

__all__ = ["ConnectionLog", "ReceivedMessage", "now", "said"]


def now() -> datetime:
    """Return the present time. With a time zone, the log needn't guess which was meant."""
    return datetime.now(UTC)


def said(error: BaseException) -> str:
    """Return what an error says. It may be anybody's, and fail at that, too."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def _id_of(next_id: Callable[[], int]) -> int:
    """Return an id, or 0 where a log that is closed gives none: it won't take the row either."""
    try:
        return next_id()
    except LogClosed:
        return 0


def _checked(message: Message) -> Message:
    """Return what a function of the engine gave back, if it is what it should be."""
    if not isinstance(message, Message):
        raise TypeError(f"it returned {type(message).__name__}; return a Message")
    numbers = (message.recording_id, message.frame_no)
    if not isinstance(message.type, str) or not all(isinstance(number, int | None) for number in numbers):
        raise TypeError(
            "the type of a Message is text, its recording_id and frame_no are whole numbers or None"
        )
    if not isinstance(message.fields, Mapping):
        raise TypeError("the fields of a Message are a mapping")
    return message


class ReceivedMessage:
    """
    A message of a connection.

    Attributes:
        id: Its MESSAGE_ID. A header and the binary message that belongs to it have one.
        message: What it says.
        header: For a binary message that belongs to a header, that header.
        received: When its first byte was there.

    """

    __slots__ = ("header", "id", "message", "received")

    def __init__(
        self, id: int, message: Message, received: datetime, header: ReceivedMessage | None = None
    ) -> None:
        self.id = id
        self.message = message
        self.received = received
        self.header = header


class ConnectionLog:
    """
    Log a connection, and each message it receives. Nothing here waits or raises.

    What begins before the log is open, or after it was closed, isn't logged, and has the id 0.

    Args:
        log: Where to.
        read_message: Tells what a message says.
        trusted_proxies: Whose word is taken for who the client is.

    Attributes:
        id: The WEBSOCKET_CONNECTION_ID.
        taken: The message that the engine took last.
        is_requested: Whether a websocket was asked for.
        is_disconnected: Whether the connection began to end.

    """

    def __init__(
        self,
        log: EngineLog,
        read_message: MessageReader,
        trusted_proxies: TrustedProxies,
        masked_headers: frozenset[str] = MASKED_HEADERS,
    ) -> None:
        self.log = log
        self.id = _id_of(log.next_connection_id)
        self.taken: ReceivedMessage | None = None
        self._read_message = read_message
        self._trusted_proxies = trusted_proxies
        self._masked_headers = masked_headers
        # A message whose binary message comes next, and its row until that is logged.
        self._header: ReceivedMessage | None = None
        self._header_row: dict[str, Any] = {}
        self.is_requested = self.is_disconnected = self._is_closed = False

    # -- the connection -----------------------------------------------------------------------------

    def requested(self, address: object, headers: Iterable[tuple[str, str]]) -> None:
        """Log that a client asks for a websocket."""
        self.is_requested = True
        headers = list(headers)
        peer = self._trusted_proxies.client(address, headers)
        self._log_connection(
            client_host_ip_address=peer.host,
            client_port=None if peer.port is None else str(peer.port),
            client_headers=mask_headers(headers, self._masked_headers),
            dt_connection_request=now(),
        )

    def accepted(self) -> None:
        """Log that it got one."""
        self._log_connection(dt_connection_accepted=now())

    def disconnected(self) -> None:
        """Log that the connection begins to end: from now on nothing is received."""
        if not self.is_disconnected:
            self.is_disconnected = True
            self._log_connection(dt_websocket_disconnect_event=now())

    def closed(self) -> None:
        """Log that the connection is gone."""
        if not self._is_closed:
            self._is_closed = True
            self._log_connection(dt_connection_closed=now())

    def failed(self, name: str, error: BaseException) -> None:
        """Log why the connection was refused or failed."""
        text = f"connection {self.id}: {said(error)}"
        self._offer(FUNCTION_ERROR, {"python_function_name": name, "error_message_text": text})

    def _log_connection(self, **columns: Any) -> None:
        self._offer(WEBSOCKET_CONNECTION, {"websocket_connection_id": self.id, **columns})

    def _offer(self, table: Table, columns: dict[str, Any]) -> None:
        if self.id:
            self.log.offer(table, columns)
        else:
            self.log.tell("offer", f"{self.log!r}: connections made while it isn't open aren't logged")

    # -- its messages -------------------------------------------------------------------------------

    def read(self, data: str | bytes) -> Message:
        """Tell what a message says; one longer than 64 KiB isn't read."""
        if len(data) > MAX_READ_BYTES:
            return Message("TEXT" if isinstance(data, str) else "BINARY")
        try:
            return _checked(self._read_message(data))
        except Exception as error:  # the engine's own function
            problem = f"read_message failed: {said(error)}"
            self.log.tell("read_message", f"{problem}; its message is UNREAD")
            return Message("UNREAD", problem=problem)

    def arrived(
        self, message: Message, received: datetime, *, binary: bool, is_complete: bool = True
    ) -> ReceivedMessage:
        """
        Log a message that is complete, or one that never will be.

        The next binary message after a header is that header's, whatever text comes between:
        both are one row. A header waits to be logged, with its binary message if that comes at once:
        until :meth:`settle`, or until it is taken.

        Args:
            message: What it says.
            received: When its first byte was there.
            binary: Whether it is a binary message.
            is_complete: Whether all of it came; else it is nobody's, and never queued.

        """
        if binary and is_complete and self._header is not None:
            return self._audio_arrived(message, received, self._header)
        self.settle()
        arrived = ReceivedMessage(_id_of(self.log.next_message_id), message, received)
        columns: dict[str, Any] = {
            "recording_id": message.recording_id,
            "message_type": message.type,
            "audio_frame_no": message.frame_no,
            "dt_message_received": received,
        }
        if message.audio_follows:
            # A header isn't all: the message is there when its binary message is.
            self._header, self._header_row = arrived, self._row(arrived, columns)
        else:
            queued = now() if is_complete else None
            self._log_message(arrived, **columns, dt_message_process_queued_to_start=queued)
        return arrived

    def _audio_arrived(
        self, message: Message, received: datetime, header: ReceivedMessage
    ) -> ReceivedMessage:
        audio = ReceivedMessage(header.id, message, received, header)
        self._header = None
        self._log_message(audio, **self._take_header_row(), dt_message_process_queued_to_start=now())
        return audio

    def settle(self) -> None:
        """Log a header whose binary message didn't come at once."""
        if self._header_row:
            self._offer(WEBSOCKET_MESSAGE, self._take_header_row())

    def _take_header_row(self) -> dict[str, Any]:
        row, self._header_row = self._header_row, {}
        return row

    def took(self, message: ReceivedMessage, started: datetime | None = None) -> None:
        """Log that the engine took a message to process it, now or when it ``started``."""
        self.taken = message
        self.settle()
        if not message.message.audio_follows:
            self._log_message(message, dt_message_process_started=started or now())

    def _log_message(self, message: ReceivedMessage, **columns: Any) -> None:
        self._offer(WEBSOCKET_MESSAGE, self._row(message, columns))

    def _row(self, message: ReceivedMessage, columns: dict[str, Any]) -> dict[str, Any]:
        return {"message_id": message.id, "websocket_connection_id": self.id, **columns}
