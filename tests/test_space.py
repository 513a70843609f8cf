"""What a Hugging Face Space needs: front matter that it accepts, and a server that runs where a Space runs it.

`make space-check` runs the slow test here, as root and without a network; `make test` leaves it out.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from invlib import Client, examples, images, runs
from invlib.images import Picture
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[1]
NOBODY = 65534

OFFLINE = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
"""Environment variables with which nothing outside the machine is reached."""


def instruction(name: str) -> str:
    """What the Dockerfile says after an instruction, its lines joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    (found,) = re.findall(rf"^{name} (.*)$", text, re.MULTILINE)
    return str(found)


def test_the_front_matter_is_one_that_a_space_accepts() -> None:
    _, front, _ = (ROOT / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    fields = dict(re.findall(r"^(\w+): (.*)$", front, re.MULTILINE))
    assert fields["sdk"] == "docker"
    assert f"EXPOSE {fields['app_port']}" in (ROOT / "Dockerfile").read_text()
    assert len(fields["short_description"]) <= 60
    assert (ROOT / fields["license_link"]).is_file()


def test_the_lock_pins_every_requirement_with_hashes() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    pinned = {name.lower() for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}
    wanted = {re.split(r"[=<>]", line)[0].lower() for line in (ROOT / "requirements.txt").read_text().split()}
    assert wanted - pinned == {"torch"}
    for requirement in re.split(r"^(?=[\w.-]+==)", lock, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in requirement


def test_what_the_image_leaves_out_is_not_what_the_app_needs() -> None:
    left_out = (ROOT / ".dockerignore").read_text().split()
    assert not {"app.py", "api.py", "server.py", "pages", "invlib", "weights", ".streamlit", "requirements.lock"} & set(
        left_out
    )


@pytest.mark.space
def test_the_command_of_the_dockerfile_serves_an_unprivileged_user(tmp_path: Path) -> None:
    """In a folder that it cannot write, with an empty home and no way to any hub."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can run the server as another user, by setpriv")
    left_out = {line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")}
    application, home = tmp_path / "app", tmp_path / "home"
    for path in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        if path.split("/")[0] not in left_out:
            (application / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, application / path)
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    # The interpreter may lie where only root may read, so that right is left to the user.
    rights = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *rights]
    server = subprocess.Popen(
        [*nobody, sys.executable, "-m", *json.loads(instruction("CMD"))],
        cwd=application,
        env={**OFFLINE, "HOME": str(home), "PATH": "/usr/bin:/bin", "no_proxy": "127.0.0.1"},
    )
    try:
        (health,) = re.findall(r"http://[^']*", shlex.join(json.loads(instruction("HEALTHCHECK").split("CMD", 1)[1])))
        deadline = time.monotonic() + PATIENCE
        while True:
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server is not healthy"
            try:
                with urllib.request.urlopen(health):
                    break
            except OSError:
                time.sleep(0.1)
        file = images.encode_png(images.to_uint8(examples.example("coffee", side=64)))
        problem = runs.pose("super-resolution", Picture("mine.png", images.load_image(file), "mine"), {"factor": 4})
        run = runs.finish(runs.solve(problem, runs.settings(problem, "fast", {"evaluations": 2})))
        answer = Client(health.rsplit("/", 2)[0]).run(run.to_json(), file)
        assert images.to_uint8(answer.mean).tolist() == run.mean.tolist()
    finally:
        server.terminate()
        server.wait(PATIENCE)
