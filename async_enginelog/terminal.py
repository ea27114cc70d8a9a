"""
Texts of others, made harmless for a terminal and for whoever reads along; performs no I/O.

What a client sends may be meant for the terminal of whoever looks at the log: escape sequences that
colour, hide, overwrite or answer as if typed; line breaks that pretend to be another row;
signs of direction that show a text backwards (https://trojansource.codes).

"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["harmless", "harmless_json"]

# Cc and Cf: control and direction; Cs, Co, Cn: no characters; Zl, Zp: line breaks.
HARMFUL = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def harmless(text: str) -> str:
    """Return ``text`` with all that would move a terminal's cursor, or hide, written as its number."""
    if text.isprintable():
        return text
    return "".join(map(_harmless, text))


def _harmless(character: str) -> str:
    if unicodedata.category(character) not in HARMFUL:
        return character
    return character.encode("unicode_escape").decode("ascii")


def harmless_json(json: str) -> str:
    """
    Return JSON that says the same, with such characters in its texts written as JSON writes them.

    Line breaks between its values stay.

    """
    if json.isprintable():
        return json
    return re.sub(r"[^\n -~]", _escaped, json)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if unicodedata.category(character) not in HARMFUL:
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))
