"""What the code that runs at the moment works on: recording, frame, chunk, connection."""

from __future__ import annotations

from contextvars import ContextVar, Token
from operator import index
from types import TracebackType
from typing import NamedTuple, Self

__all__ = ["Bound", "bind", "bind_for_good", "bound"]


class Bound(NamedTuple):
    """What is bound; the names are the columns of ENGINE_DB_LOG_FUNCTIONS."""

    recording_id: int | None = None
    frame_no: int | None = None
    audio_chunk_no: int | None = None
    websocket_connection_id: int | None = None


_NOTHING = Bound()
_bound: ContextVar[Bound] = ContextVar("enginelog_bound", default=_NOTHING)


def bound() -> Bound:
    """Return what is bound in the current context."""
    return _bound.get()


class bind:  # noqa: N801  # reads as the verb it is, as contextlib's do
    """
    Bind what the code inside works on, for all rows it logs without saying so itself.

    ::

        with bind(recording_id=202508290514312002, frame_no=7):
            await analyse(audio)

    Tasks created inside and :func:`asyncio.to_thread` take it along, as
    :mod:`contextvars` has it. What isn't passed stays as it was bound outside.

    Raises:
        TypeError: If something isn't a whole number; a row that says so would be refused.

    """

    __slots__ = ("_columns", "_tokens")

    def __init__(
        self,
        *,
        recording_id: int | None = None,
        frame_no: int | None = None,
        audio_chunk_no: int | None = None,
        websocket_connection_id: int | None = None,
    ) -> None:
        given = (recording_id, frame_no, audio_chunk_no, websocket_connection_id)
        self._columns = {
            name: _whole(name, value)
            for name, value in zip(Bound._fields, given, strict=True)
            if value is not None
        }
        self._tokens: list[Token[Bound]] = []

    def __enter__(self) -> Self:
        self._tokens.append(_bound.set(_bound.get()._replace(**self._columns)))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            _bound.reset(self._tokens.pop())
        except ValueError:
            # An async generator that is closed by another task leaves in that task's context,
            # where nothing was bound.
            pass


def _whole(name: str, value: int) -> int:
    """Return a whole number, also one of NumPy's, as an :class:`int`."""
    try:
        if not isinstance(value, bool):
            return index(value)
    except TypeError:
        pass
    raise TypeError(f"{name} is {value!r}; pass a whole number")


def bind_for_good(*, websocket_connection_id: int) -> None:
    """Bind for the rest of the current context: a listener does so in that of a connection."""
    _bound.set(_bound.get()._replace(websocket_connection_id=websocket_connection_id))
