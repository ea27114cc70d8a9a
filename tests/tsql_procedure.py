"""
A procedure that puts a statement together, run without a SQL Server.

Knows what ENGINE_LOG_RANGE needs: IF, SET, SELECT @a = …, RAISERROR, RETURN, and EXEC of a text, which is
what comes out. Times are given as the text that CONVERT would make of them.

"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .tsql import Batch, Token, batches, created, parameters, tokens, unquoted

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "CONVERT": lambda _, value, *style: str(value),
    "REPLACE": lambda text, old, new: text.replace(old, new),
    "QUOTENAME": lambda name: "[" + name.replace("]", "]]") + "]",
}


class Raised(Exception):
    """What RAISERROR said."""


class Returned(Exception):
    """RETURN was reached."""


def executed(script: str, **arguments: object) -> str:
    """Return the statement that ENGINE_LOG_RANGE executes when it is called so."""
    [batch] = [
        batch
        for batch in map(tokens, batches(script))
        if created(batch) == "PROCEDURE" and any("ENGINE_LOG_RANGE" in token.text for token in batch[:8])
    ]
    return _Run(batch, arguments).statement_executed()


class _Run:
    """One call."""

    def __init__(self, batch: Batch, arguments: dict[str, Any]) -> None:
        start = next(place for place, token in enumerate(batch) if token.says("AS"))
        head = batch[:start]
        self._tokens = batch[start + 1 :]
        self._place = 0
        self._executed: list[str] = []
        self._values: dict[str, Any] = {}
        for name in parameters(batch):
            place = next(place for place, token in enumerate(head) if token.text == name)
            equals = next(n for n in range(place, len(head)) if head[n].says("=", ","))
            default = _literal(head[equals + 1]) if head[equals].says("=") else None
            self._values[name] = arguments.get(name[1:], default)

    def statement_executed(self) -> str:
        """Run it, and return the one statement that it executes."""
        try:
            self._statement(live=True)
        except Returned:
            pass
        [statement] = self._executed
        return statement

    # -- tokens ---------------------------------------------------------------------------------

    def _next(self) -> Token:
        token = self._tokens[self._place]
        self._place += 1
        return token

    def _take(self, *words: str) -> bool:
        """Go past the next token if it is one of these."""
        found = self._tokens[self._place].says(*words)
        self._place += found
        return found

    # -- statements -----------------------------------------------------------------------------

    def _statement(self, live: bool) -> None:
        word = self._next().text.upper()
        {
            "BEGIN": self._block,
            "IF": self._if,
            "SET": self._set,
            "SELECT": self._set,
            "DECLARE": self._skip,
            "RAISERROR": self._raise,
            "RETURN": self._return,
            "EXEC": self._execute,
        }[word](live)
        self._take(";")

    def _block(self, live: bool) -> None:
        while not self._take("END"):
            self._statement(live)

    def _if(self, live: bool) -> None:
        true = self._condition()
        while self._take("AND"):
            true = self._condition() and true
        self._statement(live and true)

    def _condition(self) -> bool:
        value = self._expression()
        if self._take("="):
            return bool(value == self._expression())
        assert self._take("IS")
        wanted = not self._take("NOT")
        assert self._take("NULL")
        return (value is None) == wanted

    def _set(self, live: bool) -> None:
        if self._tokens[self._place].kind != "variable":  # SET NOCOUNT ON
            self._skip(live)
            return
        while True:
            name = self._next().text
            assert self._take("=")
            value = self._expression()
            if live:
                self._values[name] = value
            if not self._take(","):
                return

    def _skip(self, live: bool) -> None:
        while not self._tokens[self._place].says(";"):
            token = self._next()
            if live and token.kind == "variable":
                self._values.setdefault(token.text, None)

    def _raise(self, live: bool) -> None:
        said = [self._next() for _ in range(2)][1]
        self._skip(False)
        if live:
            raise Raised(_literal(said))

    def _return(self, live: bool) -> None:
        if live:
            raise Returned

    def _execute(self, live: bool) -> None:
        while self._next().kind != "variable":
            pass
        if live:
            self._executed.append(self._values[self._tokens[self._place - 1].text])

    # -- expressions ----------------------------------------------------------------------------

    def _expression(self) -> Any:
        value = self._term()
        while self._take("+"):
            other = self._term()
            value = None if value is None or other is None else value + other
        return value

    def _term(self) -> Any:
        token = self._next()
        if token.kind == "variable":
            return self._values[token.text]
        if token.text.upper() in FUNCTIONS:
            return self._call(FUNCTIONS[token.text.upper()])
        return _literal(token)

    def _call(self, function: Callable[..., Any]) -> Any:
        assert self._take("(")
        given: list[Any] = []
        while not self._take(")"):
            if self._tokens[self._place + 1].says("(") and not given:  # a type with its length
                while not self._take(","):
                    self._place += 1
                given.append("type")
                continue
            given.append(self._expression())
            self._take(",")
        return None if None in given else function(*given)


def _literal(token: Token) -> Any:
    if token.kind == "number":
        return int(token.text)
    return None if token.says("NULL") else unquoted(token.text)
