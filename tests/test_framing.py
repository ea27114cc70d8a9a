"""Any bytes in, exact frames out."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_enginelog.framing import PART_BYTES, Frame, FrameCutter, sha256_hex

PIECES = st.lists(st.binary(max_size=50), max_size=20)


def build_cutter() -> FrameCutter:
    """Build a cutter of frames of 10 ms and 16 bytes, small enough to look at."""
    return FrameCutter(frame_ms=10, sample_rate=800, sample_bytes=2)


class TestFeed:
    @given(PIECES)
    def test_loses_and_reorders_nothing(self, pieces: list[bytes]) -> None:
        """However the audio comes in, the frames put together are the audio."""
        cutter = build_cutter()
        frames = [frame for piece in pieces for frame in cutter.feed(piece)]
        last = cutter.flush()
        whole = b"".join(frame.audio for frame in [*frames, *([last] if last else [])])
        assert whole == b"".join(pieces)
        assert cutter.bytes_received == len(whole)

    @given(PIECES)
    def test_cuts_frames_of_equal_length(self, pieces: list[bytes]) -> None:
        """Frames are numbered from 1, equally long, and follow each other without a gap."""
        cutter = build_cutter()
        frames = [frame for piece in pieces for frame in cutter.feed(piece)]
        for number, frame in enumerate(frames, 1):
            assert frame[:3] == (number, (number - 1) * 10, number * 10 - 1)
            assert len(frame.audio) == cutter.frame_bytes == 16
        assert cutter.frames_cut == len(frames)

    def test_takes_audio_in_at_once(self) -> None:
        """Audio is taken in even if nobody asks for its frames yet."""
        cutter = build_cutter()
        cutter.feed(b"a" * 16)
        assert [frame.number for frame in cutter.feed(b"b" * 16)] == [1, 2]

    def test_cuts_the_engines_frames(self) -> None:
        """Without settings, a frame is 100 ms of 16 bits at 44,100 Hz: 8,820 bytes."""
        [frame] = FrameCutter().feed(bytes(8_821))
        assert frame == Frame(1, 0, 99, bytes(8_820))


class TestFlush:
    @pytest.mark.parametrize(("size", "end_ms"), [(1, 0), (2, 1), (4, 2), (8, 4), (15, 9)])
    def test_returns_a_shorter_last_frame(self, size: int, end_ms: int) -> None:
        """What is left is a frame whose end is the last millisecond that has audio."""
        cutter = build_cutter()
        assert list(cutter.feed(bytes(size))) == []
        assert cutter.flush() == Frame(1, 0, end_ms, bytes(size))

    def test_returns_nothing_twice(self) -> None:
        """What was flushed is gone; with nothing left there is no frame."""
        cutter = build_cutter()
        list(cutter.feed(bytes(17)))
        assert cutter.flush() == Frame(2, 10, 10, b"\0")
        assert cutter.flush() is None


class TestMilliseconds:
    @pytest.mark.parametrize(
        ("size", "milliseconds"), [(0, 0), (1, 0), (2, 1), (16, 10), (17, 10), (1600, 1000)]
    )
    def test_counts_whole_ones(self, size: int, milliseconds: int) -> None:
        """What isn't a whole millisecond doesn't count."""
        assert build_cutter().milliseconds(size) == milliseconds

    def test_of_a_real_client_frame(self) -> None:
        """A client's frame of 15,914 bytes lasts 180 ms, as the engine logged it."""
        assert FrameCutter().milliseconds(15_914) == 180

    @given(st.integers(0, 10**9))
    def test_is_exact(self, size: int) -> None:
        """Rounding is downwards, never more than a millisecond, however long the audio."""
        assert 0 <= size / 1.6 - build_cutter().milliseconds(size) < 1 + 1e-6


class TestSha256Hex:
    @pytest.mark.parametrize(
        "size", [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, 8_820, 100_000]
    )
    def test_is_that_of_the_whole(self, size: int) -> None:
        """Hashed in parts, it is the SHA-256 of all bytes."""
        data = bytes(number % 251 for number in range(size))
        assert sha256_hex(data) == sha256(data).hexdigest()


def test_frame_has_a_fingerprint() -> None:
    """A frame's SHA-256 is that of its audio."""
    assert Frame(1, 0, 99, b"audio").sha256_hex == sha256(b"audio").hexdigest()


@pytest.mark.parametrize(
    "arguments", [(0, 44_100, 2), (100, 0, 2), (100, 44_100, 0), (-100, 44_100, 2), (1, 44_100, 2)]
)
def test_refuses_frames_of_half_samples(arguments: tuple[int, int, int]) -> None:
    """A frame that isn't a positive, whole number of samples is a ValueError that tells the numbers."""
    with pytest.raises(ValueError, match=f"{arguments[0]} ms at {arguments[1]} samples a second isn't"):
        FrameCutter(*arguments)
