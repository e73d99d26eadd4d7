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

    def screenshot(self, path: Path) -> None:
        """The window as a PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(_call(f"{self._base}/screenshot")))


@contextmanager
def browser(width: int = 1400, height: int = 1000) -> Iterator[Browser]:
    """A fresh headless window on a profile of its own."""
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert driver.stdout is not None
        port = next(line.rsplit(" ", 1)[1].strip(".\n") for line in driver.stdout if "successfully on port" in line)
        root = f"http://127.0.0.1:{port}/session"
        options = {"args": [*_ARGUMENTS, f"--window-size={width},{height}"]}
        wanted = {"goog:chromeOptions": options, "timeouts": {"script": 120_000, "pageLoad": 120_000}}
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
