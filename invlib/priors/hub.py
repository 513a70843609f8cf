"""Files of the Hugging Face Hub: fetched once, verified, kept in the Hub client's cache, and uploaded.

HF_ENDPOINT, HF_HUB_CACHE, HF_HUB_OFFLINE and the user's login work as they do for every client of the Hub.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub as client
from huggingface_hub import constants, errors

TIMEOUT = 3.0
"""Seconds that the Hub has to answer before a download is given up."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be found, read, trusted or written; the message is one sentence that says what to do."""


@dataclass(frozen=True)
class HubFile:
    """A file in a repository of the Hugging Face Hub, at a branch, tag or commit."""

    repo: str
    filename: str
    revision: str = constants.DEFAULT_REVISION

    def __str__(self) -> str:
        return f"hub:{self.repo}/{self.filename}@{self.revision}"


def cached(source: HubFile) -> Path | None:
    """The file in the Hub client's cache, or None if it is not there. No request is sent."""
    try:
        found = client.try_to_load_from_cache(source.repo, source.filename, revision=source.revision)
    except ValueError as error:
        raise CheckpointError(f"{source} is not a valid name: {first_line(error)}") from error
    return Path(found) if isinstance(found, str) else None


def fetch(source: HubFile, sha256: str | None) -> Path:
    """Return the verified file from the cache, after downloading it if it is not there.

    Its bytes must hash to `sha256` or, if that is None, to the hash that the Hub itself gave, where it gave one.
    CheckpointError is raised if they do not, or the download fails.
    """
    path = cached(source)
    if path is not None:
        if matches(path, sha256 or _etag(path)):
            return path
        _discard(path)
    url = client.hf_hub_url(source.repo, source.filename, revision=source.revision)
    try:
        # When nobody answers, the download below would try again for most of a minute; this asks once, and briefly.
        client.get_hf_file_metadata(url, timeout=TIMEOUT)
        path = Path(
            client.hf_hub_download(source.repo, source.filename, revision=source.revision, etag_timeout=TIMEOUT)
        )
    except Exception as error:  # a bad proxy alone raises ImportError, ValueError or what only the transport knows
        raise CheckpointError(f"{source} could not be downloaded: {_explain(error)}") from error
    # The client compares sizes only.
    if not matches(path, sha256 or _etag(path)):
        _discard(path)
        raise CheckpointError(f"{source} was downloaded, but its sha256 is not the expected one: it was deleted")
    return path


def upload(files: Mapping[str, Path], repo: str, message: str, *, private: bool = False) -> str:
    """Upload files in one commit, by their names in the repository, and return the hash of the commit."""
    api, operations = client.HfApi(), [client.CommitOperationAdd(name, path) for name, path in files.items()]
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        return api.create_commit(repo, operations, commit_message=message).oid
    except Exception as error:  # as in `fetch`
        raise CheckpointError(f"the files could not be pushed to {repo}: {_explain(error)}") from error


def matches(path: Path, sha256: str | None) -> bool:
    """Whether the bytes of a file hash to `sha256`; True if that is None, because then nothing is known."""
    return sha256 is None or hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def first_line(error: Exception) -> str:
    """The first line of an error's message, to be quoted in a sentence."""
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


def _etag(path: Path) -> str | None:
    """The sha256 that the Hub itself gave for a file in the client's cache, or None if it gave none.

    The cache links a file to a blob that is named by its ETag, and the ETag of a large file is its sha256.
    """
    etag = path.readlink().name if path.is_symlink() else ""
    return etag if re.fullmatch("[0-9a-f]{64}", etag) else None


def _discard(path: Path) -> None:
    """Delete a file from the Hub client's cache, and the blob that it links to."""
    blob = path.resolve()
    path.unlink()
    blob.unlink(missing_ok=True)


def _explain(error: Exception) -> str:
    """What went wrong at the Hub, and what to do about it."""
    match error:
        case errors.OfflineModeIsEnabled():
            return "it is not in the local cache and HF_HUB_OFFLINE forbids asking for it"
        case errors.GatedRepoError():
            return "the repository is gated, so accept its terms on the Hub and log in with `hf auth login`"
        case errors.RepositoryNotFoundError():
            return "there is no such repository, or it is private and needs `hf auth login`"
        case errors.RevisionNotFoundError():
            return "the repository has no such revision"
        case errors.RemoteEntryNotFoundError():
            return "the repository has no such file at this revision"
        case errors.HfHubHTTPError(response=response) if response.status_code in (401, 403):
            return f"{constants.ENDPOINT} refused ({response.status_code}), so log in with `hf auth login`"
        case errors.HfHubHTTPError(response=response):
            return f"{constants.ENDPOINT} answered with status {response.status_code}"
        case errors.HTTPError():
            advice = "check the network and HF_ENDPOINT, or the proxy"
            return f"{constants.ENDPOINT} did not answer ({first_line(error)}), so {advice}"
        case ImportError():  # "Using SOCKS proxy, but the 'socksio' package is not installed."
            return f"{first_line(error).split('. ')[0]}, so install it or unset ALL_PROXY and HTTPS_PROXY"
        case OSError() | RuntimeError():
            return first_line(error)
        case _:
            return f"{first_line(error)}, so check the proxy that HTTPS_PROXY or ALL_PROXY names"
