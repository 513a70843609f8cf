"""A local server that speaks as much of the Hugging Face Hub's protocol as the Hub client uses: files, and commits."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """One repository, `ann/priors`, with a single commit.

    Attributes
    ----------
    files : what it holds; a test may alter the bytes and leave `etags` as they were.
    etags : the ETags it announces; a large file's is its sha256.
    sizes : sizes it announces where they are not the true ones.
    requests : "METHOD path" of every request so far.
    uploads : large files on their way into a commit, by sha256.
    token : what a client must show to write.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    token: str = "secret"

    def put(self, path: str, data: bytes) -> None:
        self.files[path] = data
        self.etags[path] = hashlib.sha256(data).hexdigest()

    def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """The answer to GET, and without its body to HEAD: status, headers, body."""
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if match is None:
            return 404, {}, b""
        repo, revision, file = match.groups()
        if repo != "ann/priors":
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        if revision not in ("main", COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if file not in self.files:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b""
        size = self.sizes.get(file, len(self.files[file]))
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{self.etags[file]}"', "X-Linked-Size": str(size)}
        return 200, headers, self.files[file]

    def post(self, path: str, body: bytes) -> dict[str, object]:
        """The answer to POST: the steps of a commit, in the client's order."""
        if path == "/api/repos/create":
            return {"url": f"{self.url}/ann/priors"}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if path == "/api/models/ann/priors/preupload/main":
            names = [file["path"] for file in json.loads(body)["files"]]
            mode = {True: "lfs", False: "regular"}
            return {
                "files": [
                    {"path": name, "uploadMode": mode[name.endswith(".safetensors")], "shouldIgnore": False}
                    for name in names
                ]
            }
        if path == "/ann/priors.git/info/lfs/objects/batch":
            return {
                "transfer": "basic",
                "objects": [
                    {**file, "actions": {"upload": {"href": f"{self.url}/upload/{file['oid']}"}}}
                    for file in json.loads(body)["objects"]
                ],
            }
        if path == "/api/models/ann/priors/commit/main":
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    self.put(value["path"], base64.b64decode(value["content"]))
                elif line["key"] == "lfsFile":
                    self.put(value["path"], self.uploads[value["oid"]])
            return {"commitUrl": f"{self.url}/ann/priors/commit/{COMMIT}", "commitOid": COMMIT}
        raise AssertionError(f"unexpected request: POST {path}")


@contextmanager
def serve() -> Iterator[Hub]:
    """Run the server on a free port of this machine; its requests are counted."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def body(self) -> bytes:
            hub.requests.append(f"{self.command} {self.path}")
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                data = b""
                while size := int(self.rfile.readline(), 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return data
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def do_GET(self) -> None:
            self.body()
            self.answer(*hub.get(self.path))

        do_HEAD = do_GET

        def do_POST(self) -> None:
            data = self.body()
            if self.headers.get("Authorization") != f"Bearer {hub.token}":
                self.answer(401, {}, b'{"error": "log in"}')
            else:
                self.answer(200, {"Content-Type": "application/json"}, json.dumps(hub.post(self.path, data)).encode())

        def do_PUT(self) -> None:
            hub.uploads[self.path.rpartition("/")[2]] = self.body()
            self.answer(200, {}, b"")

        def log_message(self, format: str, *args: object) -> None:
            """Requests are counted, not printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
