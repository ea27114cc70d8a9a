"""The page in a real browser: it records from a microphone, streams, and shows the rows."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from .chromium import INSECURE_HOST, Chromium, Tab, find_chromium
from .running import Server, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium here; see scripts/install-chromium"),
]

# Pictures for whoever looks at the outcome of a run.
CHECKOUT = Path(__file__).resolve().parents[2]
ARTEFACTS = Path(os.environ.get("ENGINELOG_ARTEFACTS") or CHECKOUT / "artefacts")

CLIENT_FRAME_BYTES = 14_994
FRAME_BYTES = 8_820
SILENCE = sha256(bytes(FRAME_BYTES)).hexdigest()

# So many frames of the client last two seconds.
TWO_SECONDS = 12


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A browser."""
    program = find_chromium()
    assert program is not None
    with Chromium(program, tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture
async def tab(chromium: Chromium) -> AsyncIterator[Tab]:
    """A tab of it."""
    async with chromium.tab() as tab:
        yield tab


def address(server: Server, host: str = "127.0.0.1") -> str:
    return f"http://{host}:{server.port}/"


async def until_state(tab: Tab, state: str) -> None:
    await tab.until(f"document.body.dataset.state === {json.dumps(state)}")


async def until_sent(tab: Tab, frames: int) -> None:
    await tab.until(f"Number(document.querySelector('#frames').textContent) >= {frames}")


async def record(tab: Tab, frames: int) -> None:
    """Press Record, wait for so many frames, press Stop, and wait for the end."""
    await tab.click("#record")
    await until_state(tab, "recording")
    await until_sent(tab, frames)
    await tab.click("#record")
    await until_state(tab, "idle")


async def until_row(tab: Tab, what: str) -> None:
    """Return when a row says this."""
    await tab.until(f"document.querySelector('#rows').textContent.includes({json.dumps(what)})")


async def numbers_of(tab: Tab) -> dict[str, str]:
    return {name: await tab.text(f"#{name}") for name in ("frames", "resent", "bytes", "recording-id")}


def until_purged(server: Server) -> None:
    """Return when the recording is over, and that is committed."""
    wait_until(
        lambda: (
            server.rows(
                "SELECT 1 FROM ENGINE_DB_LOG_RECORDING_CONFIG WHERE DT_RECORDING_DATA_PURGED IS NOT NULL"
            )
            != []
        )
    )


def parts(audio: bytes, size: int) -> list[bytes]:
    return [audio[first : first + size] for first in range(0, len(audio), size)]


def sizes_and_hashes(rows: list[dict[str, Any]]) -> list[tuple[int, int, str]]:
    return [
        (row["AUDIO_FRAME_NO"], row["AUDIO_FRAME_SIZE_BYTES"], row["AUDIO_FRAME_SHA256_HEX"]) for row in rows
    ]


def expected(frames: list[bytes]) -> list[tuple[int, int, str]]:
    return [(number, len(audio), sha256(audio).hexdigest()) for number, audio in enumerate(frames, 1)]


class TestRecording:
    async def test_what_is_heard_is_logged(self, server: Server, tab: Tab) -> None:
        """Two seconds from the microphone are in the database, byte for byte, and the page shows it."""
        await tab.open(address(server))
        await tab.click("#record")
        await until_sent(tab, TWO_SECONDS)
        await tab.screenshot(ARTEFACTS / "recording.png")
        await tab.click("#record")
        await until_state(tab, "idle")
        await until_row(tab, "purged")
        await tab.prefer(color_scheme="dark", reduced_motion="reduce")
        await tab.screenshot(ARTEFACTS / "recorded-dark.png")
        shown = await numbers_of(tab)
        until_purged(server)
        server.stop()

        # What the browser itself says that it sent.
        sent = [message for message in tab.sent if isinstance(message, bytes)]
        audio = b"".join(sent)
        assert {len(frame) for frame in sent[:-1]} == {CLIENT_FRAME_BYTES}
        assert max(map(abs, array("h", audio))) > 1_000

        [recording] = server.table("RECORDING_CONFIG")
        assert recording["DT_RECORDING_END"] is not None
        assert recording["TOTAL_BYTES_RECEIVED"] == len(audio)
        assert recording["MAX_PRE_SPLIT_AUDIO_FRAME_NO_SPLIT"] == len(sent)

        client_frames = server.table("PRE_SPLIT_AUDIO_FRAME", "AUDIO_FRAME_NO")
        assert sizes_and_hashes(client_frames) == expected(sent)
        frames = server.table("SPLIT_100_MS_AUDIO_FRAME", "AUDIO_FRAME_NO")
        assert sizes_and_hashes(frames) == expected(parts(audio, FRAME_BYTES))
        assert {row["AUDIO_FRAME_SHA256_HEX"] for row in frames} != {SILENCE}

        id = str(recording["RECORDING_ID"])
        assert len(id) == 18
        assert shown == {
            "frames": str(len(sent)),
            "resent": "0",
            "bytes": f"{len(audio):,}",
            "recording-id": id,
        }
        assert server.table("FUNCTION_ERROR") == []
        assert tab.complaints == []

    async def test_speaks_the_protocol(self, server: Server, tab: Tab) -> None:
        """START, then each FRAME followed by its audio, then STOP, with the fields that phones send."""
        await tab.open(address(server))
        await record(tab, frames=3)

        id = await tab.text("#recording-id")
        texts = [json.loads(message) for message in tab.sent if isinstance(message, str)]
        sizes = [len(message) for message in tab.sent if isinstance(message, bytes)]
        start, *headers, stop = texts
        assert start == {
            "MESSAGE_TYPE": "START",
            "RECORDING_ID": id,
            "AUDIO_STREAM_FILE_NAME": f"{id}.wav",
        }
        assert headers == [
            {
                "MESSAGE_TYPE": "FRAME",
                "RECORDING_ID": id,
                "FRAME_NO": str(number),
                "FRAME_DURATION_IN_MS": round(size / 88.2),
                "BYTES_LEN": size,
            }
            for number, size in enumerate(sizes, 1)
        ]
        assert stop == {"MESSAGE_TYPE": "STOP", "RECORDING_ID": id}
        kinds = "".join("t" if isinstance(message, str) else "b" for message in tab.sent)
        assert kinds == "t" + "tb" * len(sizes) + "t"

    async def test_lost_frames_are_sent_again(self, server: Server, tab: Tab) -> None:
        """What the engine says it misses is sent again, and lands where it belongs."""
        # The network loses the third and fourth message: the second frame, header and audio.
        lose = """
            const send = WebSocket.prototype.send;
            let sent = 0;
            WebSocket.prototype.send = function (data) {
              sent += 1;
              if (sent !== 4 && sent !== 5) send.call(this, data);
            };
        """
        await tab.open(address(server), first=lose)
        await record(tab, frames=6)
        until_purged(server)
        shown = await numbers_of(tab)
        server.stop()

        assert shown["resent"] == "1"
        sent = [message for message in tab.sent if isinstance(message, bytes)]
        in_order = [sent[0], sent[2], sent[1], *sent[3:]]
        frames = server.table("PRE_SPLIT_AUDIO_FRAME", "AUDIO_FRAME_NO")
        assert sizes_and_hashes(frames) == expected(in_order)
        audio = b"".join(in_order)
        frames = server.table("SPLIT_100_MS_AUDIO_FRAME", "AUDIO_FRAME_NO")
        assert sizes_and_hashes(frames) == expected(parts(audio, FRAME_BYTES))

    async def test_twice(self, server: Server, tab: Tab) -> None:
        """After a recording, another one can be made; each has its own number."""
        await tab.open(address(server))
        await record(tab, frames=2)
        first = await tab.text("#recording-id")
        await record(tab, frames=2)
        assert await tab.text("#recording-id") != first
        assert (await tab.text("#status")).startswith("Done: ")

    async def test_by_keyboard(self, server: Server, tab: Tab) -> None:
        """The first thing that the keyboard reaches is the button; Enter begins, and ends."""
        await tab.open(address(server))
        await tab.press("Tab", 9)
        assert await tab.evaluate("document.activeElement.innerText.trim()") == "Record"
        await tab.press("Enter", 13)
        await until_state(tab, "recording")
        await until_sent(tab, 1)
        assert await tab.evaluate("document.activeElement.innerText.trim()") == "Stop"
        await tab.press("Enter", 13)
        await until_state(tab, "idle")

    async def test_other_sample_rates(self, server: Server, tab: Tab) -> None:
        """A tone of 48,000 samples a second is the same tone at 44,100, without a gap between blocks."""
        await tab.open(address(server))
        worst, bytes_left = await tab.evaluate(
            """
            import("/pcm.js").then(({ Framer }) => {
              const tone = (index, rate) => Math.sin((2 * Math.PI * 440 * index) / rate);
              const frames = [];
              const framer = new Framer(48000, (audio) => frames.push(...new Int16Array(audio)));
              for (let first = 0; first < 48000; first += 128) {
                framer.push(Float32Array.from({ length: 128 }, (_, index) => tone(first + index, 48000)));
              }
              framer.flush();
              const off = frames.map((sample, index) => Math.abs(sample / 32767 - tone(index, 44100)));
              return [Math.max(...off), frames.length * 2];
            })
            """
        )
        assert worst < 0.001
        assert abs(bytes_left - 88_200) <= 2


class TestProblems:
    @pytest.mark.parametrize(
        ("refusal", "words"),
        [
            ("NotAllowedError", "wasn't allowed to use the microphone"),
            ("NotFoundError", "No microphone was found"),
            ("NotReadableError", "perhaps another program holds it"),
        ],
    )
    async def test_no_microphone(self, server: Server, tab: Tab, refusal: str, words: str) -> None:
        """What the browser refuses is said in plain words, and nothing is recorded."""
        refuse = (
            f"navigator.mediaDevices.getUserMedia = async () => {{ throw new DOMException('', '{refusal}') }}"
        )
        await tab.open(address(server), first=refuse)
        await tab.click("#record")
        await tab.until("!document.querySelector('#problem').hidden")

        assert words in await tab.text("#problem")
        await until_state(tab, "idle")
        assert tab.sent == []

    async def test_insecure_page(self, server: Server, tab: Tab) -> None:
        """Where browsers give no microphone at all, the page says where they do."""
        await tab.open(address(server, INSECURE_HOST))
        await tab.click("#record")
        await tab.until("!document.querySelector('#problem').hidden")

        assert "Open http://127.0.0.1 on the computer" in await tab.text("#problem")

    async def test_server_gone(self, server: Server, tab: Tab) -> None:
        """When the engine dies, the page says so, and lets go of the microphone."""
        await tab.open(address(server))
        await tab.click("#record")
        await until_sent(tab, 2)
        server.kill()
        await until_state(tab, "idle")

        assert "The connection to the engine was lost after" in await tab.text("#problem")
        await tab.until("document.querySelector('#live').textContent === 'no server; trying again'")
        await tab.click("#record")
        await tab.until("document.querySelector('#problem').textContent.includes(\"doesn't answer\")")


class TestRows:
    async def test_text_is_shown_as_it_is(self, server: Server, tab: Tab) -> None:
        """What a stranger sends is text on the page, and never a part of it."""
        mischief = "<img src=x onerror=alert(1)>"
        await tab.open(address(server))
        async with connect(server.url(), proxy=None) as websocket:
            await websocket.send(json.dumps({"MESSAGE_TYPE": mischief}))
            await until_row(tab, mischief.upper())
            await tab.click("#filter label[data-table=WEBSOCKET_MESSAGE]")
            await tab.click("#rows summary")
            await tab.until("document.querySelector('#rows dd')")

        assert await tab.evaluate("document.querySelectorAll('#rows img').length") == 0
        assert tab.complaints == []

    async def test_words(self, server: Server, tab: Tab) -> None:
        """Each table has words for its rows, also for those of which little is known yet."""
        await tab.open(address(server))
        said = await tab.evaluate(
            """
            import("/what.js").then(({ TABLES, whatOf }) => {
              const words = (table, columns = {}) => whatOf({ table, columns });
              return [
                ...Object.keys(TABLES).map((table) => words(table)),
                words("PROCESS_REGISTRY", { process_id: 7, active_tasks: '["run","analyser"]' }),
                words("WEBSOCKET_MESSAGE", { message_type: "FRAME", audio_frame_no: 3 }),
                words("FUNCTIONS", { python_function_name: "loudness", start_stop_or_error_msg: "Start" }),
                words("A_TABLE_OF_TOMORROW", { one: 1, two: "two" }),
              ];
            })
            """
        )
        assert said[-4:] == [
            "process 7 · run, analyser",
            "FRAME · frame 3 · begins to arrive",
            "loudness · Start",
            "1 · two",
        ]
        assert not [words for words in said if "null" in words or "false" in words or "NaN" in words]

    async def test_by_table(self, server: Server, tab: Tab) -> None:
        """One table alone can be looked at; each says how many rows of it were seen."""
        await tab.open(address(server))
        await record(tab, frames=3)
        await until_row(tab, "purged")
        await tab.click("#filter label[data-table=PRE_SPLIT_AUDIO_FRAME]")

        tables = "[...document.querySelectorAll('#rows tr')].map((tr) => tr.dataset.table)"
        shown = await tab.evaluate(tables)
        assert set(shown) == {"PRE_SPLIT_AUDIO_FRAME"}
        assert str(len(shown)) == await tab.text("#filter label[data-table=PRE_SPLIT_AUDIO_FRAME] .count")
        assert str(len(shown)) == await tab.text("#frames")
        await tab.click("#filter label[data-table='']")
        assert len(set(await tab.evaluate(tables))) > 3

    async def test_newest_on_top_and_mine_marked(self, server: Server, tab: Tab) -> None:
        """Rows are in the order of their times, newest first; those of this recording are marked."""
        await tab.open(address(server))
        await record(tab, frames=3)
        await until_row(tab, "purged")
        await tab.click("#filter label[data-table=SPLIT_100_MS_AUDIO_FRAME]")

        rows = "[...document.querySelectorAll('#rows tr')]"
        times = await tab.evaluate(f"{rows}.map((tr) => tr.cells[0].textContent)")
        assert times == sorted(times, reverse=True)
        assert await tab.evaluate(f"{rows}.every((tr) => tr.classList.contains('mine'))")
        await tab.click("#filter label[data-table=WEBSOCKET_CONNECTION]")
        assert not await tab.evaluate(f"{rows}.some((tr) => tr.classList.contains('mine'))")

    async def test_pause(self, server: Server, tab: Tab) -> None:
        """A table that is paused holds still, and then shows what came meanwhile."""
        await tab.open(address(server))
        await tab.click("#pause")
        await record(tab, frames=2)
        await tab.until(
            "document.querySelector('#filter label[data-table=PRE_SPLIT_AUDIO_FRAME] .count').textContent > 1"
        )
        assert "client frame" not in await tab.text("#rows")
        await tab.click("#pause")
        assert "client frame" in await tab.text("#rows")

    async def test_server_comes_back(self, tmp_path: Path, tab: Tab) -> None:
        """The page finds the server again, and goes on."""
        with Server(tmp_path / "engine_log.db") as server:
            await tab.open(address(server))
            await tab.until("document.querySelector('#live').textContent === 'live'")
            port = str(server.port)
            server.stop()
        await tab.until("document.querySelector('#live').textContent !== 'live'")
        with Server(tmp_path / "engine_log.db", "--port", port):
            await tab.until("document.querySelector('#live').textContent === 'live'")
