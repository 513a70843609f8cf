"""Checkpoints: a name -> a verified file -> a network.

A checkpoint is a safetensors file that describes itself: its metadata hold the name and the arguments of the
architecture, and how the weights were made. A function here that takes a name accepts

- the path of a `.safetensors` file;
- a name in `registry.toml`, which lies in `weights_folder()` beside the checkpoints that it lists;
- `hub:owner/repo/file@revision`, a file in a repository of the Hugging Face Hub. The revision may be left out and is
  then `main`. A commit is safer, because a branch can change.

A name is looked up on this machine first, in the weights folder and then in the Hub client's cache, and no request is
sent if it is found there. Nothing is unpickled, except by `convert`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import threading
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from invlib import runtime
from invlib.priors import denoisers, hub
from invlib.priors.denoisers import BFCNN, Denoiser
from invlib.priors.flows import RealNVP
from invlib.priors.gans import Generator
from invlib.priors.hub import CheckpointError, HubFile, first_line, matches

ARCHITECTURES: dict[str, type[nn.Module]] = {**denoisers.ARCHITECTURES, "RealNVP": RealNVP, "Generator": Generator}
"""Every architecture that a checkpoint may name."""

Network = TypeVar("Network", bound=nn.Module)
Device = torch.device | str | None
Status = Literal["ok", "missing", "altered"]

SUFFIX = ".safetensors"

LARGEST_HEADER = 2**22
LARGEST_SIZE = 4096
MOST_SCALES = 10
"""How many bytes the header of a file may have, how large a number and how long a list of an architecture's arguments
may be. A file from a stranger may ask for anything; the largest network of this library is far below."""


# Names and the registry


@dataclass(frozen=True)
class Entry:
    """Where a checkpoint can be found.

    Attributes
    ----------
    name, title : the name that was given for it, and a phrase for people.
    path : where the file is, or would be, on this machine; None for a file that only the Hub knows.
    sha256 : what its bytes must hash to, 64 hexadecimal digits; None if that is not known.
    hub : where it can be downloaded from; None if nowhere.
    """

    name: str
    title: str
    path: Path | None = None
    sha256: str | None = None
    hub: HubFile | None = None


def weights_folder() -> Path:
    """The folder that holds `registry.toml` and the checkpoints that it lists.

    It is the folder that the environment variable INVLIB_WEIGHTS names; if that is not set, `weights/` beside the
    package in a clone, and `invlib/weights/` in an installed copy.
    """
    if chosen := os.environ.get("INVLIB_WEIGHTS"):
        return Path(chosen)
    package = Path(__file__).resolve().parents[1]
    beside = package.parent / "weights"
    return beside if (beside / "registry.toml").is_file() else package / "weights"


def registry() -> dict[str, Entry]:
    """The checkpoints that `registry.toml` lists, in its order; empty if there is no such file.

    CheckpointError is raised if the file is not TOML, an entry lacks `file`, `sha256` or `title`, a field of it is not
    a string, or its file is not in the folder.
    """
    folder = weights_folder()
    entries = {}
    for name, fields in _read_registry().items():
        complaint = f"{folder / 'registry.toml'}: the entry [{name}]"
        if not isinstance(fields, dict) or not {"title", "file", "sha256"} <= fields.keys():
            raise CheckpointError(f"{complaint} needs a file, a sha256 and a title")
        if not all(isinstance(value, str) for value in fields.values()):
            raise CheckpointError(f"{complaint} has a field that is not a string")
        title, file, sha256 = fields["title"], fields["file"], fields["sha256"]
        # Backslashes and colons would lead elsewhere on Windows, and a link may lead anywhere.
        if re.search(r"[\\:\0]", file) or not (folder / file).resolve().is_relative_to(folder.resolve()):
            raise CheckpointError(f"{complaint} has a file that is not in {folder}: {file!r}")
        remote = None
        if "repo" in fields:
            remote = HubFile(fields["repo"], fields.get("filename", file), fields.get("revision", HubFile.revision))
        entries[name] = Entry(name, title, folder / file, sha256, remote)
    return entries


def _read_registry() -> dict[str, dict[str, str]]:
    path = weights_folder() / "registry.toml"
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as TOML: {error}") from error


def _entry(name: str | Path) -> Entry:
    """Where the checkpoint with this name can be found."""
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


def resolve(name: str | Path) -> Path:
    """Return the verified file of a checkpoint on this machine, and download it first if necessary.

    CheckpointError is raised if the name is unknown, the file is missing or altered, or a download fails.
    """
    entry = _entry(name)
    if entry.path is not None and entry.path.is_file():
        if not matches(entry.path, entry.sha256):
            raise CheckpointError(
                f"{entry.path} is not the file that registry.toml describes (its sha256 differs): restore it, or fetch "
                f"it again with `python -m invlib weights pull {entry.name}`"
            )
        return entry.path
    if entry.hub is None:
        raise CheckpointError(f"there is no file {entry.path}: check the path, or restore the file")
    return hub.fetch(entry.hub, entry.sha256)


def verify() -> dict[str, Status]:
    """Whether the file of each checkpoint in the registry is in the weights folder and has the right sha256."""

    def status(entry: Entry) -> Status:
        if entry.path is None or not entry.path.is_file():
            return "missing"
        return "ok" if matches(entry.path, entry.sha256) else "altered"

    return {name: status(entry) for name, entry in registry().items()}


def pull(name: str) -> Path:
    """Download a checkpoint of the registry into the weights folder, replacing the file there, and return its path.

    A checkpoint named by `hub:` goes to the Hub client's cache. CheckpointError is raised as by `resolve`, and if the
    registry names no repository for the checkpoint.
    """
    entry = _entry(name)
    if entry.hub is None:
        raise CheckpointError(f"{name} cannot be pulled: the registry names no repository on the Hub for it")
    fetched = hub.fetch(entry.hub, entry.sha256)
    if entry.path is None:
        return fetched
    _replace(entry.path, fetched.read_bytes())
    return entry.path


# From a file to a network


@overload
def load(name: str | Path, *, device: Device = None, dtype: torch.dtype | None = None) -> Denoiser: ...
@overload
def load(
    name: str | Path, kind: type[Network], *, device: Device = None, dtype: torch.dtype | None = None
) -> Network: ...
@runtime.own_defaults
def load(
    name: str | Path, kind: type[nn.Module] = Denoiser, *, device: Device = None, dtype: torch.dtype | None = None
) -> nn.Module:
    """Load the network of a checkpoint, in evaluation mode and without gradients.

    Parameters
    ----------
    name : a path, a name in the registry, or `hub:owner/repo/file@revision`.
    kind : the class that the network must have: `Denoiser`, `flows.Flow` or `gans.Generator`.
    device, dtype : where the network runs and the precision of its weights, as in `runtime.prepare`. Flows and
        generators are float32 unless `dtype` says otherwise, because an inverse in bfloat16 is off by 3e-3.

    Raises
    ------
    CheckpointError : as by `resolve`, and if the file is cut short, has no metadata, names an unknown architecture or
        one of another kind or arguments that it does not accept, or has tensors that are missing, extra, of the wrong
        shape or type, or not finite. No module is built that has more parameters than the file.

    >>> net = load("bf-recurrent-gray", device="cpu")
    >>> net(torch.zeros(1, 1, 16, 16)).shape
    torch.Size([1, 1, 16, 16])
    """
    path = resolve(name)
    with _open(path) as file:
        architecture, arguments = _architecture(path, file.metadata())
        if not issubclass(ARCHITECTURES[architecture], kind):
            raise CheckpointError(
                f"{name} is a {architecture}, not a {kind.__name__}: choose another checkpoint, or load it as what it "
                "is"
            )
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        net = _build(path, architecture, arguments, shapes)
        tensors = {key: file.get_tensor(key) for key in shapes}
    _fill(net, tensors, path)
    if dtype is None and not isinstance(net, Denoiser):
        dtype = torch.float32
    return runtime.prepare(net, device, dtype)


@dataclass(frozen=True)
class Description:
    """What a checkpoint says about itself.

    Attributes
    ----------
    path : its file; None if the file of a known name is not on this machine, and then nothing else is known.
    architecture, arguments : what builds the network.
    parameters : how many numbers the file holds.
    metadata : `recipe`, `data` and `sigma` (strings), as far as the file has them, and `quality` (measured figures).
    """

    path: Path | None
    architecture: str | None
    arguments: dict[str, Any]
    parameters: int | None
    metadata: dict[str, Any]


def describe(name: str | Path) -> Description:
    """Read from its header what a checkpoint says about itself. Nothing is built, downloaded or verified.

    CheckpointError is raised if the name is unknown, or the file is not a checkpoint.

    >>> describe("bf-recurrent-gray").arguments
    {'blocks': 3, 'channels': 1, 'passes': 4, 'width': 64}
    """
    entry = _entry(name)
    path = entry.path
    if path is None or not path.is_file():
        if path is not None and entry.sha256 is None:
            raise CheckpointError(f"there is no file {path}: check the path, or restore the file")
        path = hub.cached(entry.hub) if entry.hub is not None else None
    if path is None:
        return Description(None, None, {}, None, {})
    with _open(path) as file:
        metadata = file.metadata()
        parameters = sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
    architecture, arguments = _architecture(path, metadata)
    history = {key: metadata[key] for key in ("recipe", "data", "sigma") if key in metadata}
    quality = _json_object(path, "quality", metadata.get("quality", "{}"))
    return Description(path, architecture, arguments, parameters, {**history, "quality": quality})


def _open(path: Path) -> safe_open:
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > LARGEST_HEADER:
                raise ValueError(f"its header would have {size} bytes")
            json.loads(file.read(size), object_pairs_hook=_unique)
        return safe_open(path, "pt")
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        reason = first_line(error)
        raise CheckpointError(f"{path} is not a {SUFFIX} file, or was cut short ({reason}): fetch it again") from error


def _architecture(path: Path, metadata: Mapping[str, str] | None) -> tuple[str, dict[str, Any]]:
    """The name and the arguments of the architecture that a file's metadata name."""
    if metadata is None or "architecture" not in metadata:
        raise CheckpointError(f"{path} names no architecture in its metadata: it is not a checkpoint of this library")
    name = metadata["architecture"]
    if name not in ARCHITECTURES:
        raise CheckpointError(f"{path}: unknown architecture {name!r}; known are {', '.join(ARCHITECTURES)}")
    arguments = _json_object(path, "arguments", metadata.get("arguments", ""))
    for key, value in arguments.items():
        sizes = value if isinstance(value, list) else [value]
        if key not in ("folded", "logit", "told"):
            fine = all(type(size) is int and 0 < size <= LARGEST_SIZE for size in sizes)
        else:
            fine = isinstance(value, bool)
        if not fine or len(sizes) > MOST_SCALES:
            raise CheckpointError(f"{path}: {name} does not accept its arguments: {key} is {str(value)[:40]}")
    return name, arguments


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; ValueError if it has a key twice, so that two readers may see two things."""
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _json_object(path: Path, key: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: {key} in its metadata is not JSON ({first_line(error)})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: {key} in its metadata is not a JSON object but {text[:40]}")
    return value


def _build(
    path: Path, architecture: str, arguments: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> nn.Module:
    """Build a network whose tensors have these names and shapes, without numbers; CheckpointError if it has others."""
    thread, parameters = threading.get_ident(), 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal parameters
        parameters += threading.get_ident() == thread  # the hook sees the modules of every thread
        if parameters > len(shapes):
            raise ValueError(f"they ask for more than the {len(shapes)} tensors of the file")

    hook = register_module_parameter_registration_hook(count)
    try:
        # On the meta device nothing is initialised: quicker, and it leaves the caller's random numbers alone.
        with torch.device("meta"):
            net = ARCHITECTURES[architecture](**arguments)
    except Exception as error:  # arguments of a stranger may fail in any way
        raise CheckpointError(f"{path}: {architecture} does not accept its arguments: {first_line(error)}") from error
    finally:
        hook.remove()
    needs = {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()}
    if missing := needs.keys() - shapes.keys():
        raise CheckpointError(f"{path} lacks {len(missing)} tensors of {architecture}, the first {min(missing)}")
    if extra := shapes.keys() - needs.keys():
        raise CheckpointError(f"{path} has {len(extra)} tensors that {architecture} lacks, the first {min(extra)}")
    for key, shape in shapes.items():
        if shape != needs[key]:
            raise CheckpointError(f"{path}: {key} is {shape}, but {architecture} needs {needs[key]}")
    return net


def _fill(net: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Put the tensors of a file, as float32, in place of those of a network that `_build` returned."""
    state = {}
    for key, needed in net.state_dict().items():
        tensor = tensors[key]
        # Batch normalisation counts its batches in whole numbers.
        known = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
        if tensor.dtype not in (known if needed.is_floating_point() else (needed.dtype,)):
            raise CheckpointError(f"{path}: {key} is {tensor.dtype}, and weights must be 16, 32 or 64-bit floats")
        state[key] = tensor.float() if needed.is_floating_point() else tensor
        if not torch.isfinite(state[key]).all():
            raise CheckpointError(f"{path}: {key} has NaN or infinite weights, so the file is damaged: fetch it again")
    net.load_state_dict(state, assign=True)


# From a network to a file


def save(
    net: nn.Module, path: str | Path, *, recipe: str, data: str, quality: Mapping[str, Any], sigma: str | None = None
) -> str:
    """Write a network as a checkpoint in float16. The same network and metadata give the same bytes.

    Parameters
    ----------
    net : a network whose class is in `ARCHITECTURES` and whose constructor's arguments are in `net.arguments`.
    path : the file to write, replaced in one step if it exists.
    recipe, data : how and on what it was trained.
    quality : measured figures, as JSON.
    sigma : the noise levels that a denoiser was trained at, in units of the image's range.

    Returns
    -------
    The file's sha256, 64 hexadecimal digits.

    Raises
    ------
    CheckpointError : if the class is not in `ARCHITECTURES`, or a weight does not fit float16.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     sha256 = save(BFCNN(1, 3, 4), f"{folder}/net.safetensors", recipe="none", data="none", quality={})
    ...     load(f"{folder}/net.safetensors", device="cpu").arguments["depth"]
    3
    """
    architecture = type(net).__name__
    if ARCHITECTURES.get(architecture) is not type(net):
        raise CheckpointError(f"{architecture} is not in ARCHITECTURES, so its checkpoint could not be loaded")
    tensors = {}
    for key, tensor in net.state_dict().items():
        tensors[key] = tensor.cpu().half() if tensor.is_floating_point() else tensor.cpu()
        if not torch.isfinite(tensors[key]).all():
            raise CheckpointError(f"{key} holds numbers that are not finite in float16, so {path} was not written")
    metadata = {"architecture": architecture, "recipe": recipe, "data": data, **({"sigma": sigma} if sigma else {})}
    metadata |= {"arguments": json.dumps(net.arguments, sort_keys=True), "quality": json.dumps(quality, sort_keys=True)}
    content = safetensors.torch.save({key: tensor.contiguous() for key, tensor in tensors.items()}, metadata)
    # safetensors writes the metadata in random order, so no two files would be alike: write the header again, sorted.
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:start]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    content = len(header).to_bytes(8, "little") + header + content[start:]
    _replace(Path(path), content)
    return hashlib.sha256(content).hexdigest()


REGISTRY_HEADER = """\
# The checkpoints that `invlib.load` knows by name; written by `invlib.priors.checkpoints.register`.
# One that also lies on the Hugging Face Hub has a repo and, at best, a revision (a commit) and a filename.
"""


def register(name: str, path: str | Path, title: str) -> Entry:
    """Add a checkpoint in the weights folder to `registry.toml`, or update its file, sha256 and title there.

    CheckpointError is raised if the file is missing or outside the weights folder, or the name has other characters
    than letters, digits, - and _.
    """
    folder, path = weights_folder().resolve(), Path(path).resolve()
    if not re.fullmatch(r"[\w-]+", name, re.ASCII):
        raise CheckpointError(f"the name {name!r} may have letters, digits, - and _ only")
    if not path.is_file() or not path.is_relative_to(folder):
        raise CheckpointError(f"{path} is not a file in the weights folder {folder}: save the checkpoint there first")
    fields = _read_registry()
    known = {"file": path.relative_to(folder).as_posix(), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    fields[name] = {**fields.get(name, {}), **known, "title": title}
    text = REGISTRY_HEADER
    for entry, values in fields.items():
        # A JSON string is a TOML string.
        lines = (f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items())
        text += f"\n[{entry}]\n" + "".join(lines)
    _replace(folder / "registry.toml", text.encode())
    return registry()[name]


@runtime.own_defaults
def convert(source: str | Path, target: str | Path) -> str:
    """Turn a state dict of BF-CNN by the paper's authors into a checkpoint, and return its sha256.

    `source` is a `.pt` file with `conv_layers.{i}.weight` and, for the inner layers, `running_sd.{i}` and `gammas.{i}`;
    each name may begin with `module.`. The scales are folded into the convolutions; channels, depth, width and kernel
    follow from the shapes. This is the only place where a file is unpickled, with `weights_only=True`, so that it can
    hold tensors but not code. CheckpointError is raised if `source` cannot be read, or is not such a state dict.
    """
    source = Path(source)
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler fails in any way that a foreign file makes it fail
        raise CheckpointError(f"{source} cannot be read as a PyTorch state dict: {first_line(error)}") from error
    if not isinstance(state, dict) or not all(isinstance(key, str) and _is_plain(state[key]) for key in state):
        raise CheckpointError(f"{source} is not a plain state dict: save `model.state_dict()` and convert that")
    # A few bytes can be seen as a tensor of any size, or as many tensors.
    if sum(tensor.numel() * tensor.element_size() for tensor in state.values()) > source.stat().st_size:
        raise CheckpointError(f"{source} has fewer bytes than its tensors: save `model.state_dict()` and convert that")
    state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    depth = sum(re.fullmatch(r"conv_layers\.\d+\.weight", key) is not None for key in state)
    first = state.get("conv_layers.0.weight")
    if first is None or first.ndim != 4 or depth < 2:
        raise CheckpointError(f"{source} is not a state dict of BF-CNN: it has no conv_layers.0.weight and so on")
    width, channels, kernel = first.shape[:3]
    sizes = {"channels": channels, "depth": depth, "width": width, "kernel": kernel}
    if not all(0 < size <= LARGEST_SIZE for size in sizes.values()):
        raise CheckpointError(f"{source} is not a state dict of BF-CNN: it would have {sizes}")
    net = _build(source, "BFCNN", sizes, {key: tuple(tensor.shape) for key, tensor in state.items()})
    _fill(net, state, source)
    recipe = f"the authors' state dict {source.name}, its scales folded into the convolutions"
    authors = "the authors' (Kadkhodaie & Simoncelli 2021)"
    assert isinstance(net, BFCNN)
    return save(net.eval().fold(), target, recipe=recipe, data=authors, sigma=authors, quality={})


def _is_plain(value: Any) -> bool:
    """Whether a value is a tensor whose numbers lie in memory one by one."""
    plain = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized
    return plain and value.device.type == "cpu"


def push(folder: str | Path, repo: str, *, private: bool = False) -> str:
    """Upload the checkpoints of a folder to a repository of the Hub, in one commit, and return the hash of the commit.

    The `revision` in `registry.toml` should be this hash. The folder's MODEL_CARD.md becomes the README.md of the
    repository, which is named `owner/repo` and created if it does not exist, `private` or not. CheckpointError is
    raised if there is no checkpoint or no card, a file is not a checkpoint, or the Hub refuses.
    """
    folder = Path(folder)
    card, files = folder / "MODEL_CARD.md", sorted(folder.glob(f"*{SUFFIX}"))
    if not files or not card.is_file():
        raise CheckpointError(f"{folder} must hold at least one {SUFFIX} file and a MODEL_CARD.md that describes them")
    for path in files:
        describe(path)
    contents = {"README.md": card, **{path.name: path for path in files}}
    return hub.upload(contents, repo, f"Upload {len(files)} checkpoints", private=private)


def _replace(path: Path, data: bytes) -> None:
    """Write a file in one step, so that nobody reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
