"""Ask a server of the app for runs, from Python."""

from __future__ import annotations

import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from invlib import images
from invlib.runs import Json


class ServerError(RuntimeError):
    """Raised for a request that a server refuses or cannot answer, with one sentence that says why."""


@dataclass(frozen=True)
class Answer:
    """The result of a run.

    Attributes
    ----------
    parameters : its JSON, with scores if the truth is known.
    mean : the average of the samples, (1, C, H, W) in [0, 1], in steps of 1/255.
    samples : the answers, each (1, C, H, W).
    """

    parameters: Json
    mean: Tensor
    samples: list[Tensor]


class Client:
    """A server of the app, which is asked for runs.

    >>> client = Client("http://localhost:8501")
    >>> answer = client.run(json.loads(Path("run.json").read_text()), "photo.jpg")  # doctest: +SKIP
    >>> images.save_image(answer.mean, "restored.png")  # doctest: +SKIP
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")

    def run(self, parameters: Mapping[str, Any], picture: str | Path | bytes | None = None) -> Answer:
        """Make a run again on the server, and wait for it.

        Parameters
        ----------
        parameters : the JSON of a run, as pages and the command line give it.
        picture : the file of its picture, or its bytes; not needed if it is an example, or if nothing is measured.

        Raises
        ------
        ServerError : the server cannot be reached, refuses the run, or the run fails.
        """
        file = Path(picture).read_bytes() if isinstance(picture, str | Path) else picture
        parts = {"run": ("run.json", json.dumps(parameters).encode())}
        if file is not None:
            name = Path(picture).name if isinstance(picture, str | Path) else "picture"
            parts["picture"] = (name.replace('"', "_"), file)
        boundary = secrets.token_hex(16)
        body = b"".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{part}"; filename="{name}"\r\n\r\n'.encode()
            + content
            + b"\r\n"
            for part, (name, content) in parts.items()
        )
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        answer = self._ask("/api/run", body + f"--{boundary}--\r\n".encode(), kind)
        while answer["status"] in ("waiting", "running"):
            answer = self._ask(f"/api/jobs/{answer['job']}?wait=30")
        if answer["status"] != "done":
            raise ServerError(f"the run was {answer['status']}")
        mean, *samples = (
            images.load_image(images.decode_data_url(url), min_side=1) for url in (answer["mean"], *answer["samples"])
        )
        return Answer(answer["run"], mean, samples)

    def _ask(self, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}) -> Json:
        request = urllib.request.Request(self.address + path, body, dict(headers))
        try:
            with urllib.request.urlopen(request) as response:
                return dict(json.load(response))
        except urllib.error.HTTPError as error:
            try:
                sentence = json.load(error)["error"]
            except (ValueError, KeyError):
                sentence = f"the server answers {error.code}"
            raise ServerError(sentence) from error
        except (OSError, ValueError) as error:
            raise ServerError(f"{self.address} cannot be reached ({error}): is the server running?") from error
