"""Reading messages tolerantly: examples/messages.py."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from messages import Malformed, Message, read_message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"MESSAGE_TYPE":"START","RECORDING_ID":"202508290514312002","AUDIO_STREAM_FILE_NAME":"a.wav"}',
            Message("START", 202508290514312002, file_name="a.wav"),
        ),
        ('{"MESSAGE_TYPE":"FRAME","RECORDING_ID":"12","FRAME_NO":"7"}', Message("FRAME", 12, 7)),
        ('{"type":"frame","recording_id":12,"audio_frame_no":7}', Message("FRAME", 12, 7)),
        ('{"type":"ping","t":1.5}', Message("PING")),
        ('{"type":"frame","FRAME_NO":"seven"}', Message("FRAME")),
        ('{"type":"frame","FRAME_NO":null,"RECORDING_ID":-1}', Message("FRAME")),
        ('{"type":"frame","RECORDING_ID":"99999999999999999999"}', Message("FRAME")),
        ("hello", Message("TEXT")),
        ("", Message("TEXT")),
    ],
)
def test_understands_what_clients_send(text: str, message: Message) -> None:
    """Names, case and types of fields vary; what can't be read is None."""
    assert read_message(text) == message


@pytest.mark.parametrize("text", ['{"MESSAGE_TYPE":', "[1, 2]", "{}", '{"type":5}', "[" * 100_000])
def test_malformed_message_raises(text: str) -> None:
    """What looks like JSON and can't be understood is said to be malformed."""
    with pytest.raises(Malformed):
        read_message(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
FIELDS = st.sampled_from(["type", "MESSAGE_TYPE", "RECORDING_ID", "FRAME_NO", "audio_frame_no"])


@given(st.text() | st.dictionaries(FIELDS | st.text(), JSON).map(json.dumps))
def test_any_text_is_a_message_or_malformed(text: str) -> None:
    """No text raises anything else; numbers fit the database."""
    try:
        message = read_message(text)
    except Malformed:
        return
    assert all(0 <= (number or 0) < 2**63 for number in (message.recording_id, message.frame_no))
