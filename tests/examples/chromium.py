"""
Headless Chromium with a fake microphone, driven over its own protocol.

See https://chromedevtools.github.io/devtools-protocol/. Each tab has a websocket; commands have
a number, and so have their answers; all else are events.

"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

PATIENCE = 30.0

# As a host of this name has no https, Chromium doesn't trust it with a microphone.
INSECURE_HOST = "engine.test"

FLAGS = (
    "--headless",
    "--no-sandbox",  # it needs rights that containers and root don't give it
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",  # beeps
    "--use-fake-ui-for-media-stream",  # says yes
    f"--host-resolver-rules=MAP {INSECURE_HOST} 127.0.0.1",
    "--remote-debugging-port=0",
)


def find_chromium() -> str | None:
    """Return the program, if there is one."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Chromium:
    """A browser of its own, with an empty profile; a context manager that never leaves it behind."""

    def __init__(self, program: str, profile: Path) -> None:
        command = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        quiet = subprocess.DEVNULL
        # In a session of its own, so that all its processes can be ended at once.
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)
        try:
            self.address = f"127.0.0.1:{self._port(profile / 'DevToolsActivePort')}"
        except BaseException:
            self.close()
            raise

    def _port(self, file: Path) -> int:
        deadline = time.monotonic() + PATIENCE
        while not (file.exists() and file.read_text("utf-8").strip()):
            assert self.process.poll() is None, f"Chromium ended with {self.process.returncode}"
            assert time.monotonic() < deadline, "Chromium did not start"
            time.sleep(0.02)
        return int(file.read_text("utf-8").split()[0])

    def _ask(self, path: str, method: str = "GET") -> Any:
        request = urllib.request.Request(f"http://{self.address}{path}", method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
            return json.loads(answer.read())

    @asynccontextmanager
    async def tab(self) -> AsyncIterator[Tab]:
        """Open a tab, and close it."""
        about = self._ask("/json/new?about:blank", "PUT")
        async with connect(about["webSocketDebuggerUrl"], max_size=None, proxy=None) as websocket:
            tab = Tab(websocket)
            listening = asyncio.create_task(tab.listen())
            try:
                await tab.prepare()
                yield tab
                await tab.call("Page.close")
            finally:
                listening.cancel()

    def close(self) -> None:
        """End the browser, and all its processes."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Tab:
    """
    A tab.

    Attributes:
        complaints: What went wrong in the page: exceptions, errors on its console, broken rules of
            its Content-Security-Policy.
        sent: The messages it sent over websockets, in order.

    """

    def __init__(self, websocket: ClientConnection) -> None:
        self.complaints: list[str] = []
        self.sent: list[str | bytes] = []
        self._websocket = websocket
        self._ids = count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def listen(self) -> None:
        """Take answers and events in, until the tab is closed."""
        with suppress(ConnectionClosed):
            async for data in self._websocket:
                message = json.loads(data)
                if "id" in message:
                    self._answers.pop(message["id"]).set_result(message)
                else:
                    self._take_event(message["method"], message["params"])

    def _take_event(self, name: str, event: dict[str, Any]) -> None:
        match name:
            case "Runtime.exceptionThrown":
                self.complaints.append(str(event["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if event["type"] in ("error", "warning", "assert"):
                self.complaints.append(str(event["args"]))
            case "Log.entryAdded" if event["entry"]["level"] in ("error", "warning"):
                self.complaints.append(event["entry"]["text"])
            case "Network.webSocketFrameSent":
                frame = event["response"]
                is_text = frame["opcode"] == 1
                data = frame["payloadData"]
                self.sent.append(data if is_text else base64.b64decode(data))

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give a command and return what comes of it."""
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._websocket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        async with asyncio.timeout(PATIENCE):
            message = await answer
        assert "error" not in message, f"{method}: {message['error']}"
        return dict(message["result"])

    async def prepare(self) -> None:
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        await self.resize(1280, 860)

    async def resize(self, width: int, height: int) -> None:
        """Make the page so large."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    async def prefer(self, **features: str) -> None:
        """Have the user prefer something, such as ``color_scheme="dark"``."""
        wanted = [
            {"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()
        ]
        await self.call("Emulation.setEmulatedMedia", features=wanted)

    async def open(self, url: str, *, first: str = "") -> None:
        """Go to a page and return when its scripts have run; ``first`` is a script that runs before them."""
        if first:
            await self.call("Page.addScriptToEvaluateOnNewDocument", source=first)
        gone = await self.call("Page.navigate", url=url)
        assert "errorText" not in gone, f"{url}: {gone['errorText']}"
        await self.until("document.readyState === 'complete'")

    async def evaluate(self, expression: str) -> Any:
        """Return what a JavaScript expression is, or what its promise comes to."""
        result = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def until(self, expression: str) -> None:
        """Return when a JavaScript expression is true; fail if that takes too long."""
        deadline = time.monotonic() + PATIENCE
        while not await self.evaluate(f"Boolean({expression})"):
            assert time.monotonic() < deadline, f"not reached in time: {expression}"
            await asyncio.sleep(0.02)

    async def text(self, selector: str) -> str:
        """Return the text of an element."""
        return str(await self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent"))

    async def click(self, selector: str) -> None:
        """Press the mouse in the middle of an element, as a user does."""
        box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        middle = "({x, y, width, height}) => [x + width / 2, y + height / 2]"
        x, y = await self.evaluate(f"({middle})({box})")
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def press(self, key: str, code: int) -> None:
        """Press a key, such as ``Tab`` or ``Enter``."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text
            )

    async def screenshot(self, file: Path) -> None:
        """Keep a picture of what the user sees."""
        picture = await self.call("Page.captureScreenshot", format="png")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(picture["data"]))
