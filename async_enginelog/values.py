"""
What a value becomes on its way into a column: whole numbers, texts, times, headers.

Types that can't be meant are refused here, with the remedy; a value of the right type is
never refused, only fitted: into 64 bits, into the width of the column, into valid Unicode.

"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import SupportsFloat, SupportsIndex, SupportsInt

import orjson

__all__ = [
    "MASKED_HEADERS",
    "as_integer",
    "as_real",
    "as_text",
    "as_time",
    "fit_text",
    "header_names",
    "local_time_text",
    "mask_headers",
    "time_text",
]

# https://www.sqlite.org/datatype3.html: an INTEGER has at most 8 bytes, signed.
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1

# Python refuses to read longer numbers from text; any of them is outside 64 bits.
MAX_DIGITS = 4000

# What clients, gateways and proxies put credentials into. Browsers can't set a header of a websocket: they
# send a token as a subprotocol.
MASKED_HEADERS = frozenset(
    {
        *("api-key", "apikey", "authentication", "authorization", "cookie", "proxy-authorization"),
        *("sec-websocket-key", "sec-websocket-protocol", "set-cookie", "token"),
        *("x-access-token", "x-api-key", "x-auth", "x-auth-key", "x-auth-token", "x-authorization"),
        *("x-client-secret", "x-csrf-token", "x-id-token", "x-jwt", "x-password", "x-refresh-token"),
        *("x-secret", "x-session", "x-session-id", "x-session-token", "x-xsrf-token"),
        *("cf-access-jwt-assertion", "x-amz-security-token", "x-amzn-oidc-accesstoken", "x-amzn-oidc-data"),
        *("x-auth-request-access-token", "x-forwarded-access-token", "x-forwarded-client-cert"),
        *("x-goog-iap-jwt-assertion", "x-ms-client-principal", "x-ms-token-aad-access-token"),
    }
)

# In an address, as in Referer: the name and the value of each parameter; user and password. Bounded, as a
# client may send anything.
_IN_ADDRESS = re.compile(r"""(?<=[?&;#])([^=?&;#\s"']{1,100})=[^&;#\s"']+|(?<=://)[^/?#@\s"']{1,500}@""")
_SECRET = re.compile("token|secret|passw|pwd|key|auth|session|sig|jwt|code|ticket|cookie", re.IGNORECASE)


def as_integer(value: object) -> int:
    """
    Return ``value`` as a whole number of 64 bits.

    Numbers as text are taken, because websocket clients send them so. A number
    outside 64 bits becomes the nearest one that fits.

    Raises:
        TypeError: If ``value`` isn't a number.
        ValueError: If it has a fraction, or is a text that isn't a whole number.

    """
    if isinstance(value, SupportsIndex):
        number = int(value.__index__())
    elif isinstance(value, str):
        number = _integer_of_text(value)
    elif isinstance(value, SupportsFloat):
        number = _integer_of_real(value)
    else:
        raise TypeError(f"{_named(value)} isn't a whole number; pass an int")
    return min(max(number, INTEGER_MIN), INTEGER_MAX)


def _integer_of_text(text: str) -> int:
    digits = text.strip()
    if not re.fullmatch(r"[+-]?[0-9]+", digits):
        raise ValueError(f"{_short(text)} isn't a whole number; pass an int")
    if len(digits) > MAX_DIGITS:
        return INTEGER_MIN if digits.startswith("-") else INTEGER_MAX
    return int(digits)


def _integer_of_real(value: SupportsFloat) -> int:
    # Not by way of a float where there is another: it has 53 bits, and a Decimal may be an id of 63.
    real = value if isinstance(value, SupportsInt) else float(value)
    try:
        number = int(real)
    except (ValueError, OverflowError):  # NaN, infinity
        number = None
    if number is None or number != real:
        raise ValueError(f"{_short(value)} isn't a whole number; round it first")
    return number


def as_real(value: object) -> float | None:
    """
    Return ``value`` as a float; :obj:`None` for NaN and infinities, which SQL has no word for.

    Raises:
        TypeError: If ``value`` isn't a number.
        ValueError: If it is a text that isn't a number.

    """
    if not isinstance(value, SupportsFloat | SupportsIndex | str):
        raise TypeError(f"{_named(value)} isn't a number; pass a float")
    try:
        real = float(value)
    except OverflowError:  # an int beyond the largest float
        return None
    except ValueError:
        raise ValueError(f"{_short(value)} isn't a number; pass a float") from None
    return real if real - real == 0 else None


def as_text(value: object, width: int) -> str:
    """
    Return ``value`` as valid Unicode, not yet cut to its width.

    Dictionaries and lists become JSON, paths their text, numbers their digits,
    a bool "Y" or "N" in a column of one character. Lone surrogates become U+FFFD.

    Raises:
        TypeError: If ``value`` is of a type with no obvious text, such as bytes.

    """
    if isinstance(value, str):
        text = str.__str__(value)
    elif isinstance(value, bool) and width == 1:
        text = "Y" if value else "N"
    elif isinstance(value, int | float):
        text = _shown(value, str)
    elif isinstance(value, os.PathLike):
        text = os.fsdecode(value)
    elif isinstance(value, Mapping):
        text = _json({_shown(key, str): item for key, item in value.items()})
    elif isinstance(value, list | tuple | set | frozenset):
        text = _json(list(value))
    else:
        raise TypeError(f"{_named(value)} isn't text; pass a str")
    return (
        text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    )


def _json(value: object) -> str:
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # lone surrogates, huge numbers, cycles: better told than refused
        return _shown(value)


def _shown(value: object, show: Callable[[object], str] = repr) -> str:
    """Return the ``repr`` or ``str`` of a value, which may be anybody's, too deep or too long."""
    try:
        return show(value)
    except Exception as error:
        return f"<{type(value).__name__}: {type(error).__name__} in its {show.__name__}>"


def as_time(value: object) -> datetime:
    """
    Return ``value`` as an aware datetime in UTC.

    A naive datetime means local time, as :meth:`datetime.datetime.astimezone` has it.
    A text is read as ISO 8601. Where the shift to UTC would leave the years 1 to 9999,
    the time is kept unshifted.

    Raises:
        TypeError: If ``value`` is neither a datetime nor a text.
        ValueError: If it is a text that isn't a time.

    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError(f"{_short(value)} isn't a time; pass a datetime or ISO 8601") from None
    if not isinstance(value, datetime):
        raise TypeError(f"{_named(value)} isn't a time; pass a datetime")
    try:
        shifted = value.astimezone(UTC)
    except (OverflowError, ValueError, OSError):
        shifted = value.replace(tzinfo=UTC)
    # Subclasses (pandas, pendulum) may come back as themselves; the encoder wants the plain one.
    return datetime(*shifted.timetuple()[:6], shifted.microsecond, UTC)


def time_text(iso: str) -> str:
    """Turn an ISO 8601 time in UTC into the 26 characters that are stored."""
    if len(iso) == 32:  # 2026-01-31T12:34:56.123456+00:00
        return f"{iso[:10]} {iso[11:26]}"
    return f"{iso[:10]} {iso[11:19]}.000000"


def local_time_text(iso: str) -> str:
    """Turn an ISO 8601 time in UTC into 26 characters of local wall-clock time."""
    try:
        local = datetime.fromisoformat(iso).astimezone()
    except (OverflowError, ValueError, OSError):
        return time_text(iso)
    return local.replace(tzinfo=None).isoformat(" ", "microseconds")


def fit_text(text: str, width: int, *, keep_end: bool = False) -> str:
    """
    Fit ``text`` into ``width`` UTF-16 units, without splitting a character.

    NUL becomes U+2400 (␀): the ODBC driver would cut the text there.

    """
    if "\0" in text:
        text = text.replace("\0", "\u2400")
    if len(text) * 2 <= width:  # even if each character took two units
        return text
    # A character is one unit at least: what is further off needn't be looked at.
    text = text[-width - 1 :] if keep_end else text[: width + 1]
    units = text.encode("utf-16-le", "replace")
    if len(units) <= 2 * width:
        return text
    kept = units[-2 * width :] if keep_end else units[: 2 * width]
    # A half character at the cut is left out.
    return kept.decode("utf-16-le", "ignore")


def header_names(names: Iterable[str]) -> frozenset[str]:
    """
    Return these names of headers, and those that are always masked, as :func:`mask_headers` takes them.

    Raises:
        TypeError: If that isn't a collection of names.

    """
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"masked_headers is {names!r}; pass names, as in ['x-mine']")
    return MASKED_HEADERS.union(name.lower() for name in names)


def mask_headers(
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
    masked: frozenset[str] = MASKED_HEADERS,
) -> dict[str, str]:
    """
    Return request headers fit for a log: credentials replaced by ``***``, also those in addresses.

    Args:
        headers: A mapping or pairs, such as ``request.headers.raw_items()``.
        masked: Names in lower case of the headers to mask.

    Returns:
        One value for each name; values of repeated headers are joined by a comma,
        as RFC 9110, section 5.3 has it.

    """
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    result: dict[str, str] = {}
    for name, value in pairs:
        name = str(name)
        shown = "***" if name.lower() in masked else _IN_ADDRESS.sub(_masked, str(value))
        result[name] = f"{result[name]}, {shown}" if name in result else shown
    return result


def _masked(found: re.Match[str]) -> str:
    name = found[1]
    if name is None:
        return "***@"
    return f"{name}=***" if _SECRET.search(name) else found[0]


def _named(value: object) -> str:
    return f"{_short(value)} of type {type(value).__name__}"


def _short(value: object) -> str:
    text = _shown(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
