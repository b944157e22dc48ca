"""What a headless Chromium shows of a page, asked through its debugging pipe: the standard library is enough."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TEXT = """
(function text(node) {
  if (["STYLE", "SCRIPT"].includes(node.nodeName)) return "";
  const inner = [...(node.shadowRoot ? [node.shadowRoot] : []), ...node.childNodes].map(text).join("");
  return (node.nodeType === Node.TEXT_NODE ? node.data + " " : "") + inner;
})(document)
"""
"""All text of a page, that of shadow trees included, which the dump of a page leaves out."""


class Browser:
    """A Chromium with one page of 1400 x 2000 pixels; to be closed."""

    def __init__(self, home: Path) -> None:
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
                   "--window-size=1400,2000", f"--user-data-dir={home}", "about:blank"]  # fmt: skip
        # The browser reads its descriptor 3 and writes to 4.
        script = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *command],
            pass_fds=(theirs_in, theirs_out),
            env=os.environ | {"HOME": str(home)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._number, self._rest = 0, b""
        target = self._ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]

    def text(self, address: str, expected: str, seconds: float = 60.0) -> str:
        """The page's text, once it holds what is expected or that many seconds have passed."""
        self._ask("Page.navigate", {"url": "about:blank"}, self._session)
        self._ask("Page.navigate", {"url": address}, self._session)
        deadline, found = time.monotonic() + seconds, ""
        while expected not in found and time.monotonic() < deadline:
            time.sleep(0.5)
            found = self._ask("Runtime.evaluate", {"expression": TEXT}, self._session)["result"].get("value", "")
        return found

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        os.close(self._in)
        os.close(self._out)

    def _ask(self, method: str, parameters: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        os.write(self._out, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                part = os.read(self._in, 1 << 16)
                if not part:
                    raise OSError("the browser has ended")
                self._rest += part
            line, _, self._rest = self._rest.partition(b"\0")
            answer = json.loads(line)
            if answer.get("id") == self._number:
                return answer["result"]
