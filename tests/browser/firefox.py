"""A client for Firefox. It speaks Marionette, the protocol that is built into every Firefox.

Playwright drives only a Firefox of its own make. Mozilla's client, `marionette_driver`, brings 16 other packages along,
and one of them cannot be imported in Python 3.13.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.patience import PATIENCE

ARROW_RIGHT = "\ue014"

PREFERENCES = {
    "marionette.port": 0,  # a free one, which Firefox writes into its profile
    "ui.prefersReducedMotion": 1,
    # No first pages, and no processes in advance: they take seconds of the processor's time.
    "browser.startup.page": 0,
    "browser.startup.homepage_override.mstone": "ignore",
    "browser.aboutwelcome.enabled": False,
    "dom.ipc.processPrelaunch.enabled": False,
}

COMPLETE = """
document.querySelector("[data-testid=stApp]")?.dataset.testScriptState === "notRunning"
&& !document.querySelector("[data-testid=stSkeleton]")
"""
"""Whether the page's script has ended and the code of all elements has arrived."""

NOT_YET = {"no such element", "stale element reference", "element click intercepted", "element not interactable"}
"""The errors while an element is not there yet, is drawn again, or moves."""


class FirefoxError(Exception):
    """What Firefox answers to a command that fails. Its `kind` is the name of the error in the WebDriver standard."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


def wait_until(holds: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} seconds for {what}"
        time.sleep(0.1)


@contextmanager
def start(program: str, folder: Path) -> Iterator[Firefox]:
    """A Firefox without windows, whose profile is made in an empty folder."""
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items()]
    (folder / "user.js").write_text("".join(lines))
    log, port = folder / "log.txt", folder / "MarionetteActivePort"
    # Access to the system: to make windows narrow, and to read what the console shows.
    options = ["--headless", "--no-remote", "--marionette", "--remote-allow-system-access", "--profile", str(folder)]
    # Where the user is root, Firefox does not start if the home belongs to somebody else.
    environment = {**os.environ, "HOME": str(folder)}
    with log.open("w") as output:
        process = subprocess.Popen([program, *options], stdout=output, stderr=output, env=environment)

    def listens() -> bool:
        assert process.poll() is None, f"Firefox did not start:\n{log.read_text()}"
        return port.exists() and port.read_text() != ""

    try:
        wait_until(listens, "Firefox to start")
        with socket.create_connection(("127.0.0.1", int(port.read_text())), 2 * PATIENCE) as connection:
            yield Firefox(connection)
    finally:
        process.terminate()
        process.wait(PATIENCE)


class Firefox:
    """One window, and what a visitor does in it. Each wait ends in an error after `PATIENCE`."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self.answers = connection, connection.makefile("rb")
        self._receive()  # a greeting
        patience = round(1000 * PATIENCE)
        self._command(
            "WebDriver:NewSession",
            timeouts={"pageLoad": patience, "script": patience},
            strictFileInteractability=False,  # Streamlit hides the input of its uploader
        )
        self._ask_program("document.documentElement.style.minWidth = 0")  # it is more than that of a telephone

    def _command(self, name: str, **parameters: Any) -> Any:
        message = json.dumps([0, 0, name, parameters]).encode()
        self.connection.sendall(b"%d:%s" % (len(message), message))
        _, _, error, result = self._receive()
        if error:
            raise FirefoxError(error["error"], error["message"])
        return result["value"] if result and "value" in result else result

    def _receive(self) -> Any:
        length = b""
        while (digit := self.answers.read(1)) != b":":
            assert digit, "Firefox has closed the connection"
            length += digit
        return json.loads(self.answers.read(int(length)))

    def ask(self, script: str, arguments: Sequence[Any] = (), sandbox: str = "default") -> Any:
        """Run a script beside those of the page, with more rights in the sandbox "system", and return its value."""
        return self._command("WebDriver:ExecuteScript", script=script, args=list(arguments), sandbox=sandbox)

    def _ask_program(self, script: str) -> Any:
        """Run a script in the window around the page."""
        self._command("Marionette:SetContext", value="chrome")
        try:
            return self.ask(script)
        finally:
            self._command("Marionette:SetContext", value="content")

    def open(self, address: str, width: int = 1280) -> None:
        self._command("WebDriver:SwitchToFrame")
        self._ask_program("Services.console.reset()")
        self._command("WebDriver:SetWindowRect", width=width, height=900)
        self._command("WebDriver:Navigate", url=address)
        self.wait("innerWidth === arguments[0]", width)

    def enter_frame(self) -> None:
        """Go on in the page's first frame."""
        self._command("WebDriver:SwitchToFrame", id=0)

    def wait(self, condition: str, *arguments: Any) -> None:
        """Until an expression of JavaScript is true."""
        wait_until(lambda: self.ask(f"return ({condition})", arguments), f"{condition} {arguments}")

    def wait_for_text(self, text: str) -> None:
        self.wait("document.body.textContent.includes(arguments[0])", text)

    def count(self, selector: str) -> int:
        return self.ask("return document.querySelectorAll(arguments[0]).length", [selector])

    def click(self, path: str) -> None:
        """Click on the element at an XPath."""
        self._act("WebDriver:ElementClick", path)

    def send_keys(self, path: str, keys: str) -> None:
        """Give the element at an XPath the focus and press keys. An input for files takes the path of a file."""
        self._act("WebDriver:ElementSendKeys", path, text=keys)

    def _act(self, name: str, path: str, **parameters: Any) -> None:
        """Do something with an element when the page is complete: what arrives late pushes it away from the mouse."""
        self.wait(COMPLETE)

        def done() -> bool:
            try:
                (found,) = self._command("WebDriver:FindElement", using="xpath", value=path).values()
                self._command(name, id=found, **parameters)
            except FirefoxError as error:
                if error.kind in NOT_YET:
                    return False
                raise
            return True

        wait_until(done, path)

    def complaints(self) -> list[str]:
        """The errors that the page or frame has written to the console, and the uncaught errors of all scripts."""
        written = self.ask(
            "const storage = Cc['@mozilla.org/consoleAPI-storage;1'].getService(Ci.nsIConsoleAPIStorage);"
            "const errors = storage.getEvents().filter(event => event.level === 'error');"
            "storage.clearEvents();"
            "return errors.map(event => event.arguments.map(String).join(' '))",
            sandbox="system",
        )
        uncaught = self._ask_program(
            "return Services.console.getMessageArray().filter(message => message instanceof Ci.nsIScriptError"
            " && message.category === 'content javascript' && !(message.flags & Ci.nsIScriptError.warningFlag))"
            ".map(String)"
        )
        return [*written, *uncaught]
