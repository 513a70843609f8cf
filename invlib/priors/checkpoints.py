"""Checkpoints: a name -> a verified file -> a network.

A checkpoint is a safetensors file that describes itself: its metadata hold the architecture's name and arguments, and
how the weights came to be. Wherever this module takes a name, it is one of

- the path of a `.safetensors` file;
- a name in `registry.toml`, which lies in the folder `weights/` beside this package, or in the folder that the
  environment variable INVLIB_WEIGHTS names;
- `hub:owner/repo/file@revision`, a file in a repository of the Hugging Face Hub. The revision may be left out and is
  then `main`; a commit is safer, because a branch can change.

A name is looked for on this machine first (`weights/`, then the Hub client's cache) and no request is sent when it is
found. HF_ENDPOINT, HF_HUB_CACHE, HF_HUB_OFFLINE and the user's login work as they do for every client of the Hub.
Nothing is unpickled, except by `convert`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import safetensors.torch
import torch
from huggingface_hub import (
    CommitOperationAdd,
    HfApi,
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import tqdm
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from invlib import runtime
from invlib.priors import denoisers
from invlib.priors.denoisers import BFCNN, Denoiser
from invlib.priors.flows import RealNVP
from invlib.priors.gans import Generator

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    **denoisers.ARCHITECTURES,
    "RealNVP": RealNVP,
    "Generator": Generator,
}
"""Every architecture that a checkpoint may name."""

Network = TypeVar("Network", bound=nn.Module)

SUFFIX = ".safetensors"

TIMEOUT = 3.0
"""Seconds that the Hub has to answer before a download is given up."""

Progress = Callable[[int, int | None], None]
"""Called with the bytes that have arrived and, where it is known, the size of the file."""

HUB_ERRORS = (HTTPError, OSError, ValueError, RuntimeError)
"""What the Hub client raises: for transport, disk, names and limits, and from its accelerated transfer."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be had, or cannot be trusted; one sentence that says which and what to do."""


# Names and the registry


@dataclass(frozen=True)
class HubFile:
    """A file in a repository of the Hugging Face Hub, at a branch, tag or commit."""

    repo: str
    filename: str
    revision: str = constants.DEFAULT_REVISION

    def __str__(self) -> str:
        return f"hub:{self.repo}/{self.filename}@{self.revision}"


@dataclass(frozen=True)
class Entry:
    """Where a checkpoint may be found.

    Attributes
    ----------
    name : the name it was asked for by.
    title : a phrase for people.
    path : where the file lies, or would lie, on this machine; None for a file known only to the Hub.
    sha256 : what its bytes must hash to, 64 hexadecimal digits; None where nothing is known.
    hub : where it can be downloaded; None if nowhere.
    """

    name: str
    title: str
    path: Path | None = None
    sha256: str | None = None
    hub: HubFile | None = None


def weights_folder() -> Path:
    """The folder of `registry.toml` and of the checkpoints that it lists."""
    return Path(os.environ.get("INVLIB_WEIGHTS") or Path(__file__).resolve().parents[2] / "weights")


def registry() -> dict[str, Entry]:
    """The checkpoints that `registry.toml` lists, in its order; none if there is no such file.

    Raises
    ------
    CheckpointError : if the file is not TOML, or an entry lacks `file`, `sha256` or `title`.
    """
    folder = weights_folder()
    entries = {}
    for name, fields in _read_registry().items():
        try:
            title, file, sha256 = (str(fields[key]) for key in ("title", "file", "sha256"))
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"{folder / 'registry.toml'}: the entry [{name}] needs a file, a sha256 and a title"
            ) from error
        hub = None
        if "repo" in fields:
            hub = HubFile(fields["repo"], fields.get("filename", file), fields.get("revision", HubFile.revision))
        entries[name] = Entry(name, title, folder / file, sha256, hub)
    return entries


def _read_registry() -> dict[str, dict[str, str]]:
    path = weights_folder() / "registry.toml"
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read as TOML: {error}") from error


def _entry(name: str | Path) -> Entry:
    """What a name stands for."""
    name = str(name)
    if name.startswith("hub:"):
        match = re.fullmatch(r"hub:([^/@]+/[^/@]+)/([^@]+)(?:@(.+))?", name)
        if match is None:
            raise CheckpointError(f"{name!r} is not of the form hub:owner/repo/file@revision")
        repo, filename, revision = match.groups()
        return Entry(name, name, hub=HubFile(repo, filename, revision or HubFile.revision))
    if name.endswith(SUFFIX):
        return Entry(name, name, path=Path(name))
    known = registry()
    if name not in known:
        raise CheckpointError(
            f"there is no checkpoint named {name!r}: give one of {', '.join(known) or 'none registered'}, "
            f"the path of a {SUFFIX} file, or hub:owner/repo/file@revision"
        )
    return known[name]


# From a name to a file


def resolve(name: str | Path, *, progress: Progress | None = None) -> Path:
    """The file of a checkpoint on this machine, verified; downloaded if it must be.

    Parameters
    ----------
    name : a path, a name in the registry, or `hub:owner/repo/file@revision`.
    progress : told of a download's progress; if None the Hub client draws a bar on standard error.

    Raises
    ------
    CheckpointError : for an unknown name, a missing file, a file whose sha256 is not the registry's, and a download
        that fails.
    """
    entry = _entry(name)
    if entry.path is not None and entry.path.is_file():
        if not _matches(entry.path, entry.sha256):
            raise CheckpointError(
                f"{entry.path} is not the file that registry.toml describes (its sha256 differs): restore it, or fetch "
                f"it again with `python -m invlib weights pull {entry.name}`"
            )
        return entry.path
    if entry.hub is None:
        raise CheckpointError(f"there is no file {entry.path}: check the path, or restore the file")
    return _fetch(entry.hub, entry.sha256, progress)


def verify() -> dict[str, Literal["ok", "missing", "altered"]]:
    """How each checkpoint of the registry stands in the weights folder."""
    status: dict[str, Literal["ok", "missing", "altered"]] = {}
    for name, entry in registry().items():
        if entry.path is None or not entry.path.is_file():
            status[name] = "missing"
        else:
            status[name] = "ok" if _matches(entry.path, entry.sha256) else "altered"
    return status


def pull(name: str, *, progress: Progress | None = None) -> Path:
    """Download a checkpoint of the registry into the weights folder, over whatever is there, and return its path.

    A `hub:` name goes to the Hub client's cache. Raises CheckpointError as `resolve` does, and for a checkpoint
    that has no repository.
    """
    entry = _entry(name)
    if entry.hub is None:
        raise CheckpointError(f"{name} cannot be pulled: the registry names no repository on the Hub for it")
    fetched = _fetch(entry.hub, entry.sha256, progress)
    if entry.path is None:
        return fetched
    _replace(entry.path, fetched.read_bytes())
    return entry.path


def _matches(path: Path, sha256: str | None) -> bool:
    if sha256 is None:
        return True
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _cached(source: HubFile) -> Path | None:
    """The file in the Hub client's cache, if it is there; sends no request."""
    try:
        found = try_to_load_from_cache(source.repo, source.filename, revision=source.revision)
    except ValueError as error:
        raise CheckpointError(f"{source} is no valid name: {_first_line(error)}") from error
    return Path(found) if isinstance(found, str) else None


def _fetch(source: HubFile, sha256: str | None, progress: Progress | None) -> Path:
    """A file of the Hub, from the cache or downloaded, verified."""
    cached = _cached(source)
    if cached is not None:
        if _matches(cached, sha256 or _etag(cached)):
            return cached
        _discard(cached)
    url = hf_hub_url(source.repo, source.filename, revision=source.revision)
    try:
        # When nobody answers, the download below would try again for most of a minute; this asks once, and briefly.
        metadata = get_hf_file_metadata(url, timeout=TIMEOUT)
        path = Path(
            hf_hub_download(
                source.repo,
                source.filename,
                revision=source.revision,
                etag_timeout=TIMEOUT,
                tqdm_class=None if progress is None else _bar(progress, metadata.size),
            )
        )
    except HUB_ERRORS as error:
        raise CheckpointError(f"{source} could not be downloaded: {_explain(error)}") from error
    # The client compares sizes only.
    if not _matches(path, sha256 or _etag(path)):
        _discard(path)
        raise CheckpointError(f"{source} was downloaded, but its sha256 is not the expected one: it was deleted")
    return path


def _etag(path: Path) -> str | None:
    """The sha256 of a file in the Hub client's cache by the Hub's own word, where it gave one.

    The cache links a file to a blob that is named by its ETag, and the ETag of a large file is its sha256.
    """
    etag = path.readlink().name if path.is_symlink() else ""
    return etag if re.fullmatch("[0-9a-f]{64}", etag) else None


def _discard(path: Path) -> None:
    """Delete a file from the Hub client's cache, where it is a link to a blob."""
    blob = path.resolve()
    path.unlink()
    blob.unlink(missing_ok=True)


def _bar(progress: Progress, total: int | None) -> type[tqdm]:
    """A progress bar that calls instead of drawing."""
    furthest = 0

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            # The client may show two bars for one file, bytes received and bytes written.
            nonlocal furthest
            self.n += n or 0
            furthest = max(furthest, int(self.n))
            progress(furthest, total)

    return Bar


def _explain(error: Exception) -> str:
    """What went wrong at the Hub, and what to do about it."""
    match error:
        case OfflineModeIsEnabled():
            return "it is not in the local cache and HF_HUB_OFFLINE forbids asking for it"
        case GatedRepoError():
            return "the repository is gated, so accept its terms on the Hub and log in with `hf auth login`"
        case RepositoryNotFoundError():
            return "there is no such repository, or it is private and needs `hf auth login`"
        case RevisionNotFoundError():
            return "the repository has no such revision"
        case RemoteEntryNotFoundError():
            return "the repository has no such file at this revision"
        case HfHubHTTPError(response=response) if response.status_code in (401, 403):
            return f"{constants.ENDPOINT} refused ({response.status_code}), so log in with `hf auth login`"
        case HfHubHTTPError(response=response):
            return f"{constants.ENDPOINT} answered with status {response.status_code}"
        case HTTPError():
            return f"{constants.ENDPOINT} did not answer ({_first_line(error)}), so check the network and HF_ENDPOINT"
        case _:
            return _first_line(error)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


# From a file to a network


@overload
def load(
    name: str | Path, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> Denoiser: ...
@overload
def load(
    name: str | Path,
    kind: type[Network],
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Network: ...
def load(
    name: str | Path,
    kind: type[nn.Module] = Denoiser,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """The network of a checkpoint, ready for inference.

    Parameters
    ----------
    name : a path, a name in the registry, or `hub:owner/repo/file@revision`.
    kind : what it must be: `Denoiser`, `flows.Flow` or `gans.Generator`.
    device, dtype : where it runs and the precision of its weights, as in `runtime.prepare`; flows and generators are
        float32 unless told otherwise, because an inverse in bfloat16 is off by 3e-3.

    Returns
    -------
    The network in evaluation, without gradients, on the device and in the precision.

    Raises
    ------
    CheckpointError : as `resolve`, and for a file that is not a checkpoint: cut short, without metadata, of an unknown
        architecture or of another kind, with tensors that are missing, extra, of the wrong shape or not finite.
    """
    path = resolve(name)
    metadata, tensors = _read(path)
    architecture, arguments = _architecture(path, metadata)
    try:
        # On the meta device nothing is initialised: quicker, and it leaves the caller's random numbers alone.
        with torch.device("meta"):
            net = ARCHITECTURES[architecture](**arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: {architecture} does not accept its arguments: {_first_line(error)}") from error
    if not isinstance(net, kind):
        raise CheckpointError(
            f"{name} is a {architecture}, not a {kind.__name__}: choose another checkpoint, or load it as what it is"
        )
    _fill(net, tensors, path)
    if dtype is None and not isinstance(net, Denoiser):
        dtype = torch.float32
    return runtime.prepare(net, device, dtype)


@dataclass(frozen=True)
class Description:
    """What a checkpoint says about itself.

    Attributes
    ----------
    name : the name it was asked for by.
    path : its file; None if the file of a known name is not on this machine, and then nothing else is known.
    architecture, arguments : what builds the network.
    parameters : how many numbers the file holds.
    metadata : `recipe`, `data` and `sigma` (strings), and `quality` (measured figures), as far as they are there.
    """

    name: str
    path: Path | None
    architecture: str | None
    arguments: dict[str, Any]
    parameters: int | None
    metadata: dict[str, Any]


def describe(name: str | Path) -> Description:
    """What a checkpoint says about itself, read from its header: nothing is built, downloaded or verified.

    Raises
    ------
    CheckpointError : for an unknown name, and a file that is not a checkpoint.
    """
    entry = _entry(name)
    path = entry.path
    if path is not None and not path.is_file():
        if entry.sha256 is None:
            raise CheckpointError(f"there is no file {path}: check the path, or restore the file")
        path = None
    if path is None and entry.hub is not None:
        path = _cached(entry.hub)
    if path is None:
        return Description(entry.name, None, None, {}, None, {})
    with _open(path) as file:
        metadata = file.metadata() or {}
        parameters = sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
    architecture, arguments = _architecture(path, metadata)
    history = {key: metadata[key] for key in ("recipe", "data", "sigma") if key in metadata}
    quality = _json_object(path, "quality", metadata.get("quality", "{}"))
    return Description(entry.name, path, architecture, arguments, parameters, {**history, "quality": quality})


def _open(path: Path) -> safe_open:
    try:
        return safe_open(path, "pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a {SUFFIX} file, or was cut short ({_first_line(error)}): fetch it again"
        ) from error


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata and the tensors of a file."""
    with _open(path) as file:
        return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def _architecture(path: Path, metadata: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """The name and the arguments of the architecture."""
    name = metadata.get("architecture")
    if name is None:
        raise CheckpointError(
            f"{path} names no architecture in its metadata, so it is not a checkpoint of this library"
        )
    if name not in ARCHITECTURES:
        raise CheckpointError(f"{path}: unknown architecture {name!r}; known are {', '.join(ARCHITECTURES)}")
    return name, _json_object(path, "arguments", metadata.get("arguments", ""))


def _json_object(path: Path, key: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{path}: {key} in its metadata is not JSON ({_first_line(error)})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: {key} in its metadata is not a JSON object but {text[:40]}")
    return value


def _fill(net: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Put a file's tensors, as float32, in place of the network's own."""
    needs = {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()}
    architecture = type(net).__name__
    if missing := needs.keys() - tensors.keys():
        raise CheckpointError(f"{path} lacks {len(missing)} tensors of {architecture}, the first {min(missing)}")
    if extra := tensors.keys() - needs.keys():
        raise CheckpointError(f"{path} has {len(extra)} tensors that {architecture} has not, the first {min(extra)}")
    for key, tensor in tensors.items():
        if tuple(tensor.shape) != needs[key]:
            raise CheckpointError(f"{path}: {key} is {tuple(tensor.shape)}, but {architecture} needs {needs[key]}")
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: {key} has NaN or infinite weights, so the file is damaged: fetch it again")
    state = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
    net.load_state_dict(state, assign=True)


# From a network to a file


def save(
    net: nn.Module, path: str | Path, *, recipe: str, data: str, quality: Mapping[str, Any], sigma: str | None = None
) -> str:
    """Write a network as a checkpoint in float16; the same network and metadata give the same bytes.

    Parameters
    ----------
    net : a network of a class in `ARCHITECTURES`, with its constructor's arguments in `net.arguments`.
    path : the file to write, replaced in one step if it exists.
    recipe : how it was trained.
    data : what it was trained on.
    quality : measured figures, any JSON.
    sigma : the noise levels that a denoiser was trained at, in units of the image's range.

    Returns
    -------
    The file's sha256, 64 hexadecimal digits.

    Raises
    ------
    CheckpointError : if the class is not in `ARCHITECTURES`, or a weight does not fit float16.
    """
    architecture = type(net).__name__
    if ARCHITECTURES.get(architecture) is not type(net):
        raise CheckpointError(f"{architecture} is not in ARCHITECTURES, so its checkpoint could not be loaded")
    tensors = {}
    for key, tensor in net.state_dict().items():
        tensors[key] = tensor.cpu().half() if tensor.is_floating_point() else tensor.cpu()
        if not torch.isfinite(tensors[key]).all():
            raise CheckpointError(f"{key} holds numbers that are not finite in float16, so {path} was not written")
    metadata = {"recipe": recipe, "data": data, "quality": quality, **({"sigma": sigma} if sigma else {})}
    return _write(Path(path), tensors, {"architecture": architecture, "arguments": net.arguments, **metadata})


def annotate(path: str | Path, **metadata: str | Mapping[str, Any]) -> str:
    """Replace `recipe`, `data`, `sigma` or `quality` in a checkpoint, leave the rest, and return the new sha256.

    Raises
    ------
    CheckpointError : if the file is not a safetensors file.
    TypeError : for any other key.
    """
    if unknown := metadata.keys() - {"recipe", "data", "sigma", "quality"}:
        raise TypeError(f"annotate() sets recipe, data, sigma and quality, not {', '.join(sorted(unknown))}")
    known, tensors = _read(Path(path))
    return _write(Path(path), tensors, {**known, **metadata})


REGISTRY_HEADER = """\
# The checkpoints that `invlib.load` knows by name; written by `invlib.priors.checkpoints.register`.
# One that also lies on the Hugging Face Hub has a repo and, at best, a revision (a commit) and a filename.
"""


def register(name: str, path: str | Path, title: str) -> Entry:
    """Add a checkpoint in the weights folder to `registry.toml`, or update its file, sha256 and title there.

    Raises
    ------
    CheckpointError : if the file is missing or outside the weights folder, or the name is not letters, digits, - and _.
    """
    folder, path = weights_folder().resolve(), Path(path).resolve()
    if not re.fullmatch(r"[\w-]+", name, re.ASCII):
        raise CheckpointError(f"the name {name!r} may have letters, digits, - and _ only")
    if not path.is_file() or not path.is_relative_to(folder):
        raise CheckpointError(f"{path} is not a file in the weights folder {folder}: save the checkpoint there first")
    fields = _read_registry()
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    file = path.relative_to(folder).as_posix()
    fields[name] = {**fields.get(name, {}), "file": file, "sha256": sha256, "title": title}
    text = REGISTRY_HEADER
    for entry, values in fields.items():
        # A JSON string is a TOML string.
        lines = (f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items())
        text += f"\n[{entry}]\n" + "".join(lines)
    _replace(folder / "registry.toml", text.encode())
    return registry()[name]


def convert(source: str | Path, target: str | Path) -> str:
    """Turn a state dict of the authors' BF-CNN into a checkpoint, scales folded in, and return its sha256.

    Channels, depth, width and kernel follow from the shapes. This is the one place where a file is unpickled, and with
    `weights_only=True` it can hold tensors but not code.

    Parameters
    ----------
    source : the authors' `.pt` file: `conv_layers.{i}.weight`, and for the inner layers `running_sd.{i}` and
        `gammas.{i}`, each perhaps behind `module.`.
    target : the `.safetensors` file to write.

    Raises
    ------
    CheckpointError : if `source` cannot be read, or is not such a state dict.
    """
    source = Path(source)
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler fails in any way that a foreign file makes it fail
        raise CheckpointError(f"{source} cannot be read as a PyTorch state dict: {_first_line(error)}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{source} is not a plain state dict: save `model.state_dict()` and convert that")
    state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    depth = sum(re.fullmatch(r"conv_layers\.\d+\.weight", key) is not None for key in state)
    first = state.get("conv_layers.0.weight")
    if first is None or first.ndim != 4 or depth < 2:
        raise CheckpointError(f"{source} is not a state dict of BF-CNN: it has no conv_layers.0.weight and so on")
    width, channels, kernel = first.shape[:3]
    net = BFCNN(channels=channels, depth=depth, width=width, kernel=kernel).eval()
    _fill(net, state, source)
    return save(
        net.fold(),
        target,
        recipe=f"the authors' state dict {source.name}, its scales folded into the convolutions",
        data="the authors' (Kadkhodaie & Simoncelli 2021)",
        sigma="the authors' (Kadkhodaie & Simoncelli 2021)",
        quality={},
    )


def push(folder: str | Path, repo: str, *, private: bool = False, token: str | None = None) -> str:
    """Upload the checkpoints of a folder and its MODEL_CARD.md to a repository of the Hub, in one commit.

    Parameters
    ----------
    folder : holds `.safetensors` files and MODEL_CARD.md, which becomes the repository's README.md.
    repo : `owner/repo`, created if it does not exist.
    private : whether a new repository is private.
    token : a token that may write; the user's login if None.

    Returns
    -------
    The commit, 40 hexadecimal digits: what `revision` in `registry.toml` should pin.

    Raises
    ------
    CheckpointError : if there is no checkpoint or no card, a file is not a checkpoint, or the Hub refuses.
    """
    folder = Path(folder)
    card, files = folder / "MODEL_CARD.md", sorted(folder.glob(f"*{SUFFIX}"))
    if not files or not card.is_file():
        raise CheckpointError(f"{folder} must hold at least one {SUFFIX} file and a MODEL_CARD.md that describes them")
    for path in files:
        describe(path)
    operations = [CommitOperationAdd("README.md", card), *(CommitOperationAdd(path.name, path) for path in files)]
    hub = HfApi(token=token)
    try:
        hub.create_repo(repo, private=private, exist_ok=True)
        return hub.create_commit(repo, operations, commit_message=f"Upload {len(files)} checkpoints").oid
    except HUB_ERRORS as error:
        raise CheckpointError(f"{folder} could not be pushed to {repo}: {_explain(error)}") from error


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """Write a safetensors file in one step and return its sha256."""
    text = {
        key: value if isinstance(value, str) else json.dumps(value, sort_keys=True) for key, value in metadata.items()
    }
    data = safetensors.torch.save({key: tensor.contiguous() for key, tensor in tensors.items()}, text)
    # safetensors writes the metadata in random order, so no two files would be alike: write the header again, sorted.
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:start]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    data = len(header).to_bytes(8, "little") + header + data[start:]
    _replace(path, data)
    return hashlib.sha256(data).hexdigest()


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that nobody ever sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
