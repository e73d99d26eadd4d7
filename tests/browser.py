"""Headless Chromium through its own driver, spoken to in plain WebDriver (W3C), so that no package is needed."""

import base64
import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Browser:
    """One window."""

    def __init__(self, base: str) -> None:
        self._base = base

    def open(self, url: str) -> None:
        """Load a page."""
        _call(f"{self._base}/url", {"url": url})

    def wait_for(self, *words: str, milliseconds: int = 60_000) -> str:
        """The page's visible text once it holds all the words; TimeoutError names the ones that never came."""
        script = """
            const [words, limit, done] = arguments, start = Date.now();
            const look = () => {
              const text = document.body.innerText;
              if (words.every(word => text.includes(word)) || Date.now() - start > limit) done(text);
              else setTimeout(look, 100);
            };
            look();
        """
        text = str(_call(f"{self._base}/execute/async", {"script": script, "args": [list(words), milliseconds]}))
        missing = [word for word in words if word not in text]
        if missing:
            raise TimeoutError(f"the page never showed {missing}; it shows {text[:2000]!r}")
        return text

    def click(self, text: str) -> None:
        """Click the first innermost element that reads so."""
        script = """
            const text = arguments[0];
            const reads = each => (each.innerText || '').trim() === text;
            const found = [...document.querySelectorAll('body *')]
              .find(each => reads(each) && ![...each.children].some(reads));
            if (!found) throw new Error('nothing to click reads ' + text);
            found.dispatchEvent(new MouseEvent('mousedown', {bubbles: true, button: 0}));
            found.click();
        """
        _call(f"{self._base}/execute/sync", {"script": script, "args": [text]})

    def ask(self, script: str, *args: Any) -> Any:
        """What a script in the page returns."""
        return _call(f"{self._base}/execute/sync", {"script": script, "args": list(args)})

    def see_as(self, width: int, height: int, scheme: str = "light", medium: str = "screen") -> None:
        """Show the page as a screen of that size in CSS pixels does, in light or dark colours, or as paper."""
        phone = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.devtools("Emulation.setDeviceMetricsOverride", phone)
        colours = [{"name": "prefers-color-scheme", "value": scheme}]
        self.devtools("Emulation.setEmulatedMedia", {"media": medium, "features": colours})

    def devtools(self, command: str, values: dict[str, Any]) -> Any:
        """A command of the DevTools protocol."""
        return _call(f"{self._base}/goog/cdp/execute", {"cmd": command, "params": values})

    def messages(self, kind: str = "browser") -> list[dict[str, Any]]:
        """What stands in the console since the last look (`performance`: in the log of the network)."""
        found: list[dict[str, Any]] = _call(f"{self._base}/se/log", {"type": kind})
        return found

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """The window, or the whole page, as a PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if whole:
            shot = self.devtools("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True})["data"]
        else:
            shot = _call(f"{self._base}/screenshot")
        path.write_bytes(base64.b64decode(shot))


@contextmanager
def browser(width: int = 1400, height: int = 1000) -> Iterator[Browser]:
    """A fresh headless window on a profile of its own."""
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert driver.stdout is not None
        port = next(line.rsplit(" ", 1)[1].strip(".\n") for line in driver.stdout if "successfully on port" in line)
        root = f"http://127.0.0.1:{port}/session"
        options = {"args": [*_ARGUMENTS, f"--window-size={width},{height}"]}
        logs = {"browser": "ALL", "performance": "ALL"}
        limits = {"script": 120_000, "pageLoad": 120_000}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": logs, "timeouts": limits}
        session = _call(root, {"capabilities": {"alwaysMatch": wanted}})
        window = f"{root}/{session['sessionId']}"
        try:
            yield Browser(window)
        finally:
            urllib.request.urlopen(urllib.request.Request(window, method="DELETE"), timeout=30).close()
    finally:
        os.killpg(driver.pid, signal.SIGKILL)  # the driver and whatever window it left
        driver.wait()
        if driver.stdout is not None:
            driver.stdout.close()


def _call(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=180) as answer:
        return json.load(answer)["value"]
