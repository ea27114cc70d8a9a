"""Reading messages, whatever clients send: messages.py."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from async_enginelog import Message, read_message

from .pure_helpers import ANY_CHARACTERS

RECORDING = 202508290514312002


class TestWhatRealClientsSend:
    def test_start(self) -> None:
        """START tells its recording as text of 18 digits, and what else it says is kept."""
        text = f'{{"MESSAGE_TYPE":"START","RECORDING_ID":"{RECORDING}","AUDIO_STREAM_FILE_NAME":"a.wav"}}'
        message = read_message(text)
        assert message[:4] == ("START", RECORDING, None, False)
        assert message.fields["AUDIO_STREAM_FILE_NAME"] == "a.wav"
        assert message.problem is None

    @pytest.mark.parametrize(
        "number", ['"FRAME_NO":"7"', '"FRAME_NO":7', '"audio_frame_no":" 7 "', '"FRAME_NO":7.0']
    )
    def test_frame(self, number: str) -> None:
        """A FRAME header has a number, as text or not, by one of two names; its audio follows."""
        text = f'{{"MESSAGE_TYPE":"FRAME","RECORDING_ID":"{RECORDING}",{number},"BYTES_LEN":14000}}'
        message = read_message(text)
        assert message[:4] == ("FRAME", RECORDING, 7, True)
        assert message.fields["BYTES_LEN"] == 14000

    def test_stop(self) -> None:
        """STOP tells its recording."""
        assert read_message(f'{{"MESSAGE_TYPE":"STOP","RECORDING_ID":{RECORDING}}}')[:3] == (
            "STOP",
            RECORDING,
            None,
        )

    @pytest.mark.parametrize(
        "text", ['{"type":"ping","t":1.5}', ' {"Message_Type": " ping "}', '{"TYPE":"Ping"}']
    )
    def test_names_in_any_case(self, text: str) -> None:
        """Names and types are taken in upper and lower case."""
        assert read_message(text).type == "PING"

    @pytest.mark.parametrize(
        ("data", "kind"),
        [
            ("hello", "TEXT"),
            ("", "TEXT"),
            ("7", "TEXT"),
            ('"{}"', "TEXT"),
            ("[1, 2]", "JSON"),
            (b"\x00\x01", "BINARY"),
            (b'{"type":"ping"}', "BINARY"),
            (b"", "BINARY"),
        ],
    )
    def test_other_kinds(self, data: str | bytes, kind: str) -> None:
        """Plain text, other JSON and binary messages say nothing of a recording, and are no problem."""
        assert read_message(data) == Message(kind)

    def test_message_type_before_type(self) -> None:
        """Where both names are there, MESSAGE_TYPE counts, unless it's empty."""
        assert read_message('{"type":"a","MESSAGE_TYPE":"b"}').type == "B"
        assert read_message('{"type":"a","MESSAGE_TYPE":null}').type == "A"

    def test_frame_no_before_audio_frame_no(self) -> None:
        """Where both names are there, FRAME_NO counts, unless it's empty."""
        assert read_message('{"type":"frame","AUDIO_FRAME_NO":1,"FRAME_NO":0}').frame_no == 0
        assert read_message('{"type":"frame","AUDIO_FRAME_NO":1,"FRAME_NO":null}').frame_no == 1


class TestProblems:
    @pytest.mark.parametrize(
        "text", ["{", '{"type":"ping"', "[1", "{'type': 'ping'}", '{"a":NaN}', "{}}", "[" * 5000]
    )
    def test_what_begins_as_json_and_is_none(self, text: str) -> None:
        """It is MALFORMED, and the problem shows how it begins."""
        message = read_message(text)
        assert message.type == "MALFORMED"
        assert message.problem is not None
        assert message.problem.startswith("not JSON (")
        assert len(message.problem) < 300

    @pytest.mark.parametrize("kind", ["null", "5", '""', '"  "', "[]", "{}", "true"])
    def test_without_a_type(self, kind: str) -> None:
        """JSON that doesn't say its type is JSON."""
        for text in ("{}", f'{{"MESSAGE_TYPE":{kind},"RECORDING_ID":1}}'):
            message = read_message(text)
            assert message[:4] == ("JSON", None, None, False)
            assert message.problem == "it has no MESSAGE_TYPE of text"

    @pytest.mark.parametrize(
        "value",
        [
            '"seven"',
            "7.5",
            "true",
            "[7]",
            "{}",
            '""',
            '"-"',
            '"--7"',
            '"1_0"',
            '"\uff17"',
            '"9223372036854775808"',
            "1e300",
            "9223372036854775808",
            "18446744073709551616",
            "-9223372036854775808",
            '"99999999999999999999"',
        ],
    )
    def test_numbers_that_are_none(self, value: str) -> None:
        """A number that isn't one, or has more than 64 bits, is None, and the problem names it."""
        for name in ("RECORDING_ID", "FRAME_NO"):
            message = read_message(f'{{"type":"frame","{name}":{value}}}')
            assert message[:4] == ("FRAME", None, None, True)
            assert message.problem is not None
            assert message.problem.startswith(f"{name} isn't a whole number of 64 bits: ")

    @pytest.mark.parametrize("value", [0, 1, -1, 2**63 - 1, 1 - 2**63])
    def test_numbers_of_64_bits(self, value: int) -> None:
        """Whole numbers of 64 bits are read, as numbers or as text."""
        for text in (value, f'"{value}"'):
            assert read_message(f'{{"type":"frame","FRAME_NO":{text}}}').frame_no == value

    @pytest.mark.parametrize("depth", [100, 500, 900, 990, 1000, 1020])
    def test_deep_values(self, depth: int) -> None:
        """A value that is too deep to be shown is told of all the same."""
        value = "[" * depth + "]" * depth
        problem = read_message(f'{{"type":"frame","FRAME_NO":{value}}}').problem
        assert problem is not None
        assert len(problem) < 150

    def test_fields_can_not_be_changed(self) -> None:
        """A message without fields shares its empty ones with others, which nobody can fill."""
        with pytest.raises(TypeError):
            Message("A").fields["x"] = 1  # type: ignore[index]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
FIELDS = st.sampled_from(["type", "Type", "MESSAGE_TYPE", "RECORDING_ID", "FRAME_NO", "audio_frame_no"])
NEARLY_JSON = st.builds(
    lambda text, cut: text[:cut] + text[cut + 1 :],
    st.dictionaries(FIELDS, JSON).map(json.dumps),
    st.integers(0, 40),
)


@given(
    st.text(ANY_CHARACTERS)
    | st.binary()
    | JSON.map(json.dumps)
    | st.dictionaries(FIELDS | st.text(), JSON).map(json.dumps)
    | NEARLY_JSON
)
@example('{"type":"frame","FRAME_NO":' + "[" * 1000 + "]" * 1000 + "}")
@example('{"type":"\ud800"}')
@example('{"FRAME_NO":1e400,"type":"a"}')
def test_never_raises(data: Any) -> None:
    """Any text and any bytes are a message, with a type in upper case, and numbers that fit the database."""
    message = read_message(data)
    assert message.type
    assert message.type == message.type.strip().upper()
    assert all(abs(number or 0) < 2**63 for number in (message.recording_id, message.frame_no))
    assert message.audio_follows == (message.type == "FRAME")
    assert all(name == name.upper() for name in message.fields)
