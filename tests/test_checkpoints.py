"""Checkpoints: what is saved is what is loaded, and nothing else is ever loaded."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from invlib.priors import checkpoints
from invlib.priors import hub as hub_client
from invlib.priors.checkpoints import CheckpointError
from invlib.priors.denoisers import BFCNN, Denoiser
from tests.hub_server import COMMIT, Hub, serve

ROOT = Path(__file__).resolve().parent.parent
ABOUT = {"recipe": "none", "data": "none", "sigma": "0 to 1", "quality": {"0.1": 30.5}}
REMOTE = "hub:ann/priors/small/net.safetensors"


@pytest.fixture
def net() -> BFCNN:
    """A tiny network whose weights float16 holds exactly."""
    torch.manual_seed(0)
    net = BFCNN(channels=1, depth=3, width=4).eval()
    for tensor in (*net.gammas, net.running_sd[0]):
        tensor.data.uniform_(0.5, 2)
    net.half().float()
    return net


@pytest.fixture
def path(tmp_path: Path, net: BFCNN) -> Path:
    """A checkpoint of `net`."""
    checkpoints.save(net, tmp_path / "net.safetensors", **ABOUT)
    return tmp_path / "net.safetensors"


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty weights folder."""
    monkeypatch.setenv("INVLIB_WEIGHTS", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


@pytest.fixture
def hub(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub on this machine that holds the checkpoint at small/net.safetensors, and an empty cache."""
    with serve() as hub:
        hub.put("small/net.safetensors", path.read_bytes())
        point_client_at(hub.url, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        # The client's own extras: a look at its list of agents, and a protocol that the server does not speak.
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


def point_client_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT does, for a client that is already imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


def altered(data: bytes) -> bytes:
    """The same length and header, another weight."""
    return data[:-1] + bytes([data[-1] ^ 1])


def register_remote(weights: Path, data: bytes, revision: str = COMMIT) -> None:
    """A registry with one checkpoint, `tiny`, that lies on the Hub only."""
    (weights / "registry.toml").write_text(
        f'[tiny]\nfile = "tiny.safetensors"\nsha256 = "{hashlib.sha256(data).hexdigest()}"\ntitle = "A tiny network"\n'
        f'repo = "ann/priors"\nrevision = "{revision}"\nfilename = "small/net.safetensors"\n'
    )


def cached_files() -> list[Path]:
    return [file for file in Path(constants.HF_HUB_CACHE).rglob("*.safetensors") if file.is_file()] + [
        file for file in Path(constants.HF_HUB_CACHE).glob("*/blobs/*") if file.is_file()
    ]


def same_function(loaded: Denoiser, net: BFCNN) -> bool:
    y = torch.randn(2, 1, 9, 7, generator=torch.Generator().manual_seed(1))
    return torch.equal(loaded(y), net(y))


# Files


def test_a_saved_network_loads_as_the_same_function(path: Path, net: BFCNN) -> None:
    loaded = checkpoints.load(path, device="cpu", dtype=torch.float32)
    assert same_function(loaded, net)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}


def test_loading_leaves_the_random_numbers_alone(path: Path) -> None:
    before = torch.get_rng_state()
    checkpoints.load(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_saving_twice_gives_the_same_bytes_and_their_hash(path: Path, net: BFCNN) -> None:
    first = path.read_bytes()
    for _ in range(8):
        sha256 = checkpoints.save(net, path, **dict(reversed(ABOUT.items())))
        assert path.read_bytes() == first
    assert sha256 == hashlib.sha256(first).hexdigest()
    assert os.listdir(path.parent) == [path.name]


def test_describe(path: Path, net: BFCNN) -> None:
    description = checkpoints.describe(path)
    assert (description.path, description.architecture, description.arguments) == (path, "BFCNN", net.arguments)
    assert description.parameters == sum(tensor.numel() for tensor in net.state_dict().values())
    assert description.metadata == ABOUT


def test_weights_that_float16_cannot_hold_are_not_saved(net: BFCNN, tmp_path: Path) -> None:
    net.conv_layers[0].weight.data[0] = 1e5
    with pytest.raises(CheckpointError, match=r"conv_layers\.0\.weight"):
        checkpoints.save(net, tmp_path / "big.safetensors", **ABOUT)
    assert not list(tmp_path.iterdir())


def test_a_network_that_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    class Mine(BFCNN):
        pass

    with pytest.raises(CheckpointError, match="Mine is not in ARCHITECTURES"):
        checkpoints.save(Mine(depth=3, width=4), tmp_path / "mine.safetensors", **ABOUT)


HEADER = {"architecture": "BFCNN", "arguments": json.dumps({"channels": 1, "depth": 3, "width": 4})}


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        (None, "names no architecture"),
        ({**HEADER, "architecture": "os.system"}, "unknown architecture 'os.system'; known are BFCNN"),
        ({**HEADER, "arguments": "{channels: 1}"}, "not JSON"),
        ({**HEADER, "arguments": "[1, 3, 4]"}, "not a JSON object"),
        ({"architecture": "BFCNN"}, "arguments in its metadata"),
        ({**HEADER, "arguments": '{"colour": true}'}, "does not accept its arguments.*colour"),
        ({**HEADER, "arguments": '{"depth": "three"}'}, "does not accept its arguments"),
        ({**HEADER, "arguments": '{"channels": 1, "depth": 3, "width": -4}'}, "does not accept its arguments"),
        ({**HEADER, "arguments": '{"channels": 1, "depth": 4, "width": 4}'}, "ask for more than the 5 tensors"),
        ({**HEADER, "arguments": '{"channels": 1, "depth": 2, "width": 4}'}, r"has 3 tensors that.*conv_layers\.2"),
        ({**HEADER, "arguments": '{"channels": 1, "depth": 3, "width": 5}'}, r"is \(.*needs \("),
    ],
)
def test_wrong_metadata(path: Path, metadata: dict[str, str] | None, complaint: str) -> None:
    save_file(load_file(path), path, metadata)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        checkpoints.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(path: Path, value: float) -> None:
    tensors = load_file(path)
    tensors["gammas.0"][0, 2] = value
    save_file(tensors, path, HEADER)
    with pytest.raises(CheckpointError, match=r"net\.safetensors: gammas\.0 has NaN or infinite"):
        checkpoints.load(path)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_files(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    for read in (checkpoints.load, checkpoints.describe):
        with pytest.raises(CheckpointError, match=r"net\.safetensors is not a \.safetensors file, or was cut short"):
            read(path)


def test_a_pickle_is_not_loaded(path: Path) -> None:
    path.write_bytes(pickle.dumps({"architecture": "BFCNN"}))
    with pytest.raises(CheckpointError, match=r"not a \.safetensors file"):
        checkpoints.load(path)


# The registry


def test_registered_checkpoints_load_by_name(weights: Path, net: BFCNN) -> None:
    sha256 = checkpoints.save(net, weights / "net.safetensors", **ABOUT)
    title = 'The "tiny" réseau, σ ≤ 1 🙂'
    assert checkpoints.register("tiny", weights / "net.safetensors", title).sha256 == sha256
    entry = checkpoints.registry()["tiny"]
    assert (entry.title, entry.path, entry.hub) == (title, weights / "net.safetensors", None)
    assert same_function(checkpoints.load("tiny", dtype=torch.float32, device="cpu"), net)
    assert checkpoints.describe("tiny").metadata == ABOUT


def test_registering_again_keeps_the_other_entries_and_fields(weights: Path, net: BFCNN) -> None:
    register_remote(weights, b"")
    checkpoints.save(net, weights / "net.safetensors", **ABOUT)
    checkpoints.register("other", weights / "net.safetensors", "Another")
    before = checkpoints.registry()["tiny"]
    checkpoints.register("tiny", weights / "net.safetensors", "Renamed")
    after = checkpoints.registry()
    assert list(after) == ["tiny", "other"]
    assert after["tiny"].hub == before.hub
    assert after["tiny"].title == "Renamed"
    assert after["tiny"].sha256 == after["other"].sha256 != before.sha256


def test_only_files_in_the_weights_folder_are_registered(weights: Path, path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a file in the weights folder"):
        checkpoints.register("tiny", path, "Elsewhere")
    with pytest.raises(CheckpointError, match="may have letters"):
        checkpoints.register("tiny]", path, "Elsewhere")
    assert checkpoints.registry() == {}


def test_verify_and_altered_weights(weights: Path, net: BFCNN) -> None:
    for name in ("good", "bad", "gone"):
        checkpoints.save(net, weights / f"{name}.safetensors", **ABOUT)
        checkpoints.register(name, weights / f"{name}.safetensors", name)
    bad = weights / "bad.safetensors"
    bad.write_bytes(altered(bad.read_bytes()))
    (weights / "gone.safetensors").unlink()
    assert checkpoints.verify() == {"good": "ok", "bad": "altered", "gone": "missing"}
    assert checkpoints.describe("gone").path is None
    with pytest.raises(CheckpointError, match=r"there is no file .*gone\.safetensors"):
        checkpoints.describe(weights / "gone.safetensors")
    with pytest.raises(CheckpointError, match=r"bad\.safetensors is not the file that registry\.toml describes"):
        checkpoints.load("bad")
    with pytest.raises(CheckpointError, match=r"there is no file .*gone\.safetensors"):
        checkpoints.load("gone")


@pytest.mark.parametrize("text", ["[tiny", "tiny = 3", '[tiny]\nfile = "a"\nsha256 = "b"'])
def test_a_malformed_registry(weights: Path, text: str) -> None:
    (weights / "registry.toml").write_text(text)
    with pytest.raises(CheckpointError, match=r"registry\.toml"):
        checkpoints.registry()


def test_the_registry_that_ships_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INVLIB_WEIGHTS", raising=False)
    assert checkpoints.weights_folder() == ROOT / "weights"
    status = checkpoints.verify()
    assert status.keys() >= {"bf-unet-color", "bf-unet-gray"}
    assert set(status.values()) == {"ok"}
    for name in status:
        about = checkpoints.describe(name)
        net = checkpoints.load(name, kind=checkpoints.ARCHITECTURES[about.architecture], device="cpu")
        assert sum(tensor.numel() for tensor in net.state_dict().values()) == about.parameters


def test_where_the_weights_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INVLIB_WEIGHTS", raising=False)
    monkeypatch.setattr(checkpoints, "__file__", str(tmp_path / "invlib" / "priors" / "checkpoints.py"))
    assert checkpoints.weights_folder() == tmp_path / "invlib" / "weights", "an installed copy"
    (tmp_path / "weights").mkdir()
    assert checkpoints.weights_folder() == tmp_path / "invlib" / "weights", "somebody else's folder"
    (tmp_path / "weights" / "registry.toml").touch()
    assert checkpoints.weights_folder() == tmp_path / "weights", "a clone"
    monkeypatch.setenv("INVLIB_WEIGHTS", str(tmp_path / "mine"))
    assert checkpoints.weights_folder() == tmp_path / "mine"


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("tinny", "no checkpoint named 'tinny': give one of tiny"),
        ("nowhere/net.safetensors", "no file nowhere/net.safetensors"),
        ("hub:priors/net.safetensors", "not of the form hub:owner/repo/file@revision"),
        ("hub:ann/priors", "not of the form"),
        ("hub:ann/priors/../../net.safetensors", "is not a valid name"),
        ("hub:ann/pri..ors/net.safetensors", "is not a valid name: Cannot have"),
    ],
)
def test_wrong_names(weights: Path, hub: Hub, name: str, complaint: str) -> None:
    register_remote(weights, b"")
    with pytest.raises(CheckpointError, match=complaint):
        checkpoints.load(name)
    assert not hub.requests


# The Hub


@pytest.mark.parametrize("revision", [f"@{COMMIT}", "@main", ""])
def test_a_download_is_cached_and_then_needs_no_request(hub: Hub, net: BFCNN, revision: str) -> None:
    assert checkpoints.describe(REMOTE + revision).path is None
    assert not hub.requests
    loaded = checkpoints.load(REMOTE + revision, dtype=torch.float32, device="cpu")
    assert same_function(loaded, net)
    assert sum(request.startswith("GET") for request in hub.requests) == 1
    hub.requests.clear()
    assert same_function(checkpoints.load(REMOTE + revision, dtype=torch.float32, device="cpu"), net)
    assert checkpoints.describe(REMOTE + revision).architecture == "BFCNN"
    assert not hub.requests


def test_the_weights_folder_comes_before_the_hub(weights: Path, hub: Hub) -> None:
    data = hub.files["small/net.safetensors"]
    register_remote(weights, data)
    (weights / "tiny.safetensors").write_bytes(data)
    assert checkpoints.resolve("tiny") == weights / "tiny.safetensors"
    assert not hub.requests


@pytest.mark.parametrize("etag", ["sha256", "git"])
def test_altered_bytes_of_the_right_length_are_refused(weights: Path, hub: Hub, net: BFCNN, etag: str) -> None:
    good = hub.files["small/net.safetensors"]
    register_remote(weights, good)
    if etag == "git":
        hub.etags["small/net.safetensors"] = "0" * 40
    hub.files["small/net.safetensors"] = altered(good)
    # With a git ETag nothing but the registry tells what the bytes should be.
    for name in ["tiny"] if etag == "git" else ["tiny", f"{REMOTE}@{COMMIT}"]:
        with pytest.raises(CheckpointError, match="its sha256 is not the expected one"):
            checkpoints.load(name)
        assert not cached_files()
    hub.files["small/net.safetensors"] = good
    assert same_function(checkpoints.load("tiny", dtype=torch.float32, device="cpu"), net)


@pytest.mark.parametrize(("name", "etag"), [("tiny", "sha256"), ("tiny", "git"), (f"{REMOTE}@{COMMIT}", "sha256")])
def test_a_file_altered_in_the_cache_is_downloaded_again(weights: Path, hub: Hub, name: str, etag: str) -> None:
    good = hub.files["small/net.safetensors"]
    register_remote(weights, good)
    if etag == "git":
        hub.etags["small/net.safetensors"] = "0" * 40
    cached = checkpoints.resolve(name)
    cached.write_bytes(altered(good))
    hub.requests.clear()
    assert checkpoints.resolve(name).read_bytes() == good
    assert sum(request.startswith("GET") for request in hub.requests) == 1


def test_a_truncated_download_is_refused_and_not_kept(hub: Hub, net: BFCNN) -> None:
    good = hub.files["small/net.safetensors"]
    hub.sizes["small/net.safetensors"] = len(good)
    hub.files["small/net.safetensors"] = good[:-100]
    with pytest.raises(CheckpointError, match=f"should be of size {len(good)} but has size {len(good) - 100}"):
        checkpoints.load(REMOTE)
    assert not cached_files()
    hub.files["small/net.safetensors"] = good
    assert same_function(checkpoints.load(REMOTE, dtype=torch.float32, device="cpu"), net)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("hub:ann/priors/absent.safetensors", "has no such file"),
        ("hub:ann/priors/small/net.safetensors@v2", "has no such revision"),
        ("hub:bob/priors/small/net.safetensors", "no such repository, or it is private"),
    ],
)
def test_what_the_hub_does_not_have(hub: Hub, name: str, complaint: str) -> None:
    with pytest.raises(CheckpointError, match=complaint) as caught:
        checkpoints.load(name)
    assert "\n" not in str(caught.value)
    assert len(hub.requests) == 1


def refuse_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        point_client_at(f"http://127.0.0.1:{unused.getsockname()[1]}", monkeypatch)

    def no_waiting(seconds: float) -> None:
        raise AssertionError(f"waits {seconds} s to try again")

    monkeypatch.setattr("time.sleep", no_waiting)


def test_a_refused_connection_ends_at_once_and_a_cached_file_still_loads(
    hub: Hub, net: BFCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.resolve(REMOTE)
    refuse_connections(monkeypatch)
    assert same_function(checkpoints.load(REMOTE, dtype=torch.float32, device="cpu"), net)
    with pytest.raises(CheckpointError, match=r"did not answer .*check the network and HF_ENDPOINT"):
        checkpoints.load("hub:ann/priors/absent.safetensors")


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (ImportError("Using SOCKS proxy, but 'socksio' is not installed. Use pip."), "is not installed, so install it"),
        (ValueError("Unknown scheme for proxy URL 'foo'"), "'foo', so check the proxy"),
        (type("InvalidURL", (Exception,), {})("Invalid port: 'b'"), "Invalid port: 'b', so check the proxy"),
    ],
)
def test_a_bad_proxy_is_told_in_a_sentence(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, raised: Exception, said: str
) -> None:
    """What the Hub client raises when HTTPS_PROXY or ALL_PROXY cannot be used."""

    def fail(*arguments: object, **others: object) -> None:
        raise raised

    monkeypatch.setattr(hub_client.client, "get_hf_file_metadata", fail)
    with pytest.raises(CheckpointError, match=re.escape(said)):
        checkpoints.load(REMOTE)


def test_a_server_that_never_answers_is_given_up(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        point_client_at(f"http://127.0.0.1:{silent.getsockname()[1]}", monkeypatch)
        monkeypatch.setattr(hub_client, "TIMEOUT", 0.2)
        with pytest.raises(CheckpointError, match="did not answer"):
            checkpoints.load(REMOTE)


def test_offline(hub: Hub, net: BFCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints.resolve(REMOTE)
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert same_function(checkpoints.load(REMOTE, dtype=torch.float32, device="cpu"), net)
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE forbids"):
        checkpoints.load("hub:ann/priors/absent.safetensors")
    assert not hub.requests


def test_the_clients_environment_variables_are_honoured(hub: Hub, tmp_path: Path) -> None:
    cache = tmp_path / "elsewhere"
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1"}
    program = f"from invlib.priors import checkpoints; print(checkpoints.resolve('{REMOTE}'))"
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    downloaded = Path(result.stdout.strip())
    assert downloaded.is_relative_to(cache)
    assert downloaded.read_bytes() == hub.files["small/net.safetensors"]


def test_pull_repairs_the_weights_folder(weights: Path, hub: Hub) -> None:
    good = hub.files["small/net.safetensors"]
    register_remote(weights, good)
    assert checkpoints.verify() == {"tiny": "missing"}
    assert checkpoints.pull("tiny") == weights / "tiny.safetensors"
    (weights / "tiny.safetensors").write_bytes(altered(good))
    assert checkpoints.verify() == {"tiny": "altered"}
    checkpoints.pull("tiny")
    assert checkpoints.verify() == {"tiny": "ok"}


def test_pull_needs_a_repository(path: Path) -> None:
    with pytest.raises(CheckpointError, match="names no repository"):
        checkpoints.pull(str(path))


def test_what_is_pushed_can_be_loaded_at_its_commit(
    hub: Hub, path: Path, net: BFCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.files.clear()
    (path.parent / "MODEL_CARD.md").write_text("---\nlicense: other\n---\n# A tiny network\n")
    (path.parent / "notes.txt").write_text("private")
    monkeypatch.setenv("HF_TOKEN", hub.token)
    commit = checkpoints.push(path.parent, "ann/priors")
    assert commit == COMMIT
    assert hub.files["README.md"].endswith(b"# A tiny network\n")
    assert hub.files.keys() == {"README.md", "net.safetensors"}
    loaded = checkpoints.load(f"hub:ann/priors/net.safetensors@{commit}", dtype=torch.float32, device="cpu")
    assert same_function(loaded, net)


def test_push_without_the_right_token_or_card(hub: Hub, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(CheckpointError, match=r"MODEL_CARD\.md"):
        checkpoints.push(path.parent, "ann/priors")
    (path.parent / "MODEL_CARD.md").write_text("# A tiny network\n")
    with pytest.raises(CheckpointError, match=r"refused \(401\), so log in"):
        checkpoints.push(path.parent, "ann/priors")


# The authors' state dicts


@pytest.mark.parametrize("prefix", ["", "module."])
def test_converting_folds_the_authors_scales(tmp_path: Path, net: BFCNN, prefix: str) -> None:
    source, target = tmp_path / "model.pt", tmp_path / "model.safetensors"
    torch.save({prefix + key: tensor for key, tensor in net.state_dict().items()}, source)
    checkpoints.convert(source, target)
    converted = checkpoints.load(target, device="cpu", dtype=torch.float32)
    assert converted.arguments == {"channels": 1, "depth": 3, "width": 4, "kernel": 3, "folded": True}
    y = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    # The folded weights are rounded to float16, 11 bits.
    assert (converted(y) - net(y)).norm() / net(y).norm() < 2**-10


def test_converting_computes_in_float32(tmp_path: Path, net: BFCNN) -> None:
    # The weights fit float16, their products with the scales do not.
    torch.save(net.state_dict(), tmp_path / "full.pt")
    torch.save(net.half().state_dict(), tmp_path / "half.pt")
    checkpoints.convert(tmp_path / "full.pt", tmp_path / "full.safetensors")
    checkpoints.convert(tmp_path / "half.pt", tmp_path / "half.safetensors")
    full, half = load_file(tmp_path / "full.safetensors"), load_file(tmp_path / "half.safetensors")
    assert all(torch.equal(full[key], half[key]) for key in full)


class Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.target,)


def test_converting_runs_no_code(tmp_path: Path) -> None:
    torch.save({"conv_layers.0.weight": Bomb(tmp_path / "exploded")}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"model\.pt cannot be read as a PyTorch state dict"):
        checkpoints.convert(tmp_path / "model.pt", tmp_path / "model.safetensors")
    assert os.listdir(tmp_path) == ["model.pt"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "cannot be read"),
        (b"hello", "cannot be read"),
        (b"PK\x03\x04 not a zip", "cannot be read"),
        ([1, 2], "not a plain state dict"),
        ({"state_dict": {"conv_layers.0.weight": torch.zeros(1)}}, "not a plain state dict"),
        ({"weight": torch.zeros(4, 1, 3, 3)}, "not a state dict of BF-CNN"),
        ({f"conv_layers.{i}.weight": torch.zeros(1, 1, 3, 3) for i in range(3)}, "ask for more than the 3 tensors"),
    ],
)
def test_converting_something_else(tmp_path: Path, content: object, complaint: str) -> None:
    source = tmp_path / "model.pt"
    if isinstance(content, bytes):
        source.write_bytes(content)
    else:
        torch.save(content, source)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        checkpoints.convert(source, tmp_path / "model.safetensors")
    assert str(source) in str(caught.value)


def test_converting_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoints.convert(tmp_path / "absent.pt", tmp_path / "model.safetensors")


# Files of strangers

HALF = {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}
KINDS = {torch.float16: "F16", torch.int16: "I16", torch.bool: "BOOL", torch.complex64: "C64"}
KINDS |= {torch.float8_e4m3fn: "F8_E4M3", torch.float32: "F32", torch.uint8: "U8"}


def raw(header: object, body: bytes = b"\0\0", size: int | None = None) -> bytes:
    """A safetensors file by hand."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + body


def checkpoint(arguments: object, architecture: str = "BFCNN", tensors: dict[str, torch.Tensor] | None = None) -> bytes:
    """A checkpoint by hand; its tensors are those of a folded BFCNN(1, 3, 4), unless others are given."""
    sizes = [(4, 1, 3, 3), (4, 4, 3, 3), (1, 4, 3, 3)]
    plain = {f"conv_layers.{index}.weight": torch.ones(size).half() for index, size in enumerate(sizes)}
    header, body = {}, b""
    for key, tensor in {**plain, **(tensors or {})}.items():
        data = tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        offsets = [len(body), len(body) + len(data)]
        header[key] = {"dtype": KINDS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        body += data
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return raw({"__metadata__": {"architecture": architecture, "arguments": text}, **header}, body)


GOOD = {"channels": 1, "depth": 3, "width": 4, "folded": True}
FIRST = "conv_layers.0.weight"
DEEP = "[" * 10**5 + "]" * 10**5
HOSTILE = {
    "nothing": b"",
    "a short length": b"\1\2",
    "no header": raw(b""),
    "a header longer than the file": raw(b"{}", size=100),
    "a header of 2^60 bytes": raw(b"{}", size=2**60),
    "a header that is a list": raw(b"[]"),
    "a header that is a number": raw(b"3"),
    "a header that is null": raw(b"null"),
    "a header cut short": raw(b'{"a": '),
    "a header that is not UTF-8": raw(b'{"\xff": 1}'),
    "a header of nested lists": raw(b'{"a": ' + DEEP.encode() + b"}"),
    "a header with a key twice": raw(b'{"a":%b,"a":%b}' % ((json.dumps(HALF).encode(),) * 2)),
    "offsets beyond the end": raw({"a": {**HALF, "data_offsets": [0, 10**12], "shape": [5 * 10**11]}}),
    "offsets that overlap": raw({"a": HALF, "b": HALF}),
    "offsets with a hole": raw({"a": {**HALF, "data_offsets": [2, 4]}}, b"\0" * 4),
    "offsets backwards": raw({"a": {**HALF, "data_offsets": [2, 0]}}),
    "negative offsets": raw({"a": {**HALF, "data_offsets": [-2, 0]}}),
    "a shape that is negative": raw({"a": {**HALF, "shape": [-1]}}),
    "a shape that overflows": raw({"a": {**HALF, "shape": [2**40, 2**40]}}),
    "a shape of other bytes": raw({"a": {**HALF, "shape": [7]}}),
    "an unknown type": raw({"a": {**HALF, "dtype": "F17"}}),
    "metadata of numbers": raw({"__metadata__": {"architecture": 3}, "a": HALF}),
    "metadata that are a list": raw({"__metadata__": [], "a": HALF}),
    "no metadata": raw({"a": HALF}),
    "another architecture": checkpoint(GOOD, "os.system"),
    "arguments that are not JSON": checkpoint("{"),
    "arguments that are a list": checkpoint("[]"),
    "arguments of nested lists": checkpoint('{"depth": ' + DEEP + "}"),
    "an argument twice": checkpoint('{"channels": 1, "depth": 3, "depth": 3, "width": 4, "folded": true}'),
    "an argument of 5000 digits": checkpoint('{"depth": ' + "9" * 5000 + "}"),
    "an unknown argument": checkpoint({**GOOD, "colour": 1}),
    "folded as a number": checkpoint({**GOOD, "folded": 1}),
    "another kernel": checkpoint({**GOOD, "kernel": 5}),
    "an even kernel": checkpoint({**GOOD, "kernel": 2}),
    "one layer": checkpoint({**GOOD, "depth": 1}),
    "layers that the file lacks": checkpoint({**GOOD, "depth": 4}),
    "layers that the file has too many of": checkpoint({**GOOD, "depth": 2}),
    **{
        f"{key} = {value}": checkpoint({**GOOD, key: value})
        for key in ("depth", "width", "channels", "kernel")
        for value in (10**9, 1e9, -1, 0, 3.0, "3", True, None, [3], math.nan, math.inf, {})
    },
    "a U-Net of a billion blocks": checkpoint({"channels": 1, "width": [4], "blocks": 10**9}, "BFUNet"),
    "a U-Net of 4000 blocks": checkpoint({"channels": 1, "width": [4], "blocks": 4000}, "BFUNet"),
    "a U-Net of no scales": checkpoint({"channels": 1, "width": []}, "BFUNet"),
    "a U-Net of 10^5 scales": checkpoint({"channels": 1, "width": [4] * 10**5}, "BFUNet"),
    "a U-Net of lists": checkpoint({"channels": 1, "width": [[4]]}, "BFUNet"),
    "4000 dense blocks": checkpoint({"channels": 1, "blocks": 4000, "layers": 4000}, "BFDenseNet"),
    "a billion passes": checkpoint({"channels": 1, "passes": 10**9}, "BFRecurrentCNN"),
    "4000 passes": checkpoint({"channels": 1, "passes": 4000}, "BFRecurrentCNN"),
    "a flow of 4000 blocks": checkpoint({"image_shape": [1, 8, 8], "width": [4], "blocks": 4000}, "RealNVP"),
    "a flow of two sides": checkpoint({"image_shape": [8, 8], "width": [4]}, "RealNVP"),
    "a flow of a huge picture": checkpoint({"image_shape": [1, 10**9, 10**9], "width": [4]}, "RealNVP"),
    "a generator of one number": checkpoint({"image_shape": 8, "width": [4]}, "Generator"),
    "a generator of no width": checkpoint({"image_shape": [1, 8, 8], "width": []}, "Generator"),
    "a generator of a huge code": checkpoint({"image_shape": [1, 8, 8], "latent_dim": 10**12}, "Generator"),
    "an extra tensor": checkpoint(GOOD, tensors={"extra": torch.ones(1).half()}),
    "10^4 extra tensors": checkpoint(GOOD, tensors={f"extra.{index}": torch.ones(1).half() for index in range(10**4)}),
    "a tensor of no numbers": checkpoint(GOOD, tensors={FIRST: torch.ones(0, 1, 3, 3).half()}),
    "a tensor of another shape": checkpoint(GOOD, tensors={FIRST: torch.ones(4, 9).half()}),
    **{
        f"weights of {kind}": checkpoint(GOOD, tensors={FIRST: torch.ones(4, 1, 3, 3).to(kind)})
        for kind in (torch.int16, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn)
    },
    **{
        f"weights that are {value}": checkpoint(GOOD, tensors={FIRST: torch.full((4, 1, 3, 3), value).half()})
        for value in (math.nan, math.inf, -math.inf)
    },
}


def test_the_checkpoint_by_hand_is_good_where_nothing_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "net.safetensors").write_bytes(checkpoint(GOOD))
    assert checkpoints.load(tmp_path / "net.safetensors", device="cpu").arguments["depth"] == 3


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_of_a_stranger_ends_in_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(HOSTILE[name])
    started = time.process_time()
    with pytest.raises(CheckpointError) as caught:
        checkpoints.load(path, torch.nn.Module, device="cpu")
    assert time.process_time() - started < 5
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


ONE = torch.ones(1)
SPREAD = {f"conv_layers.{i}.weight": ONE.expand(size) for i, size in enumerate([(4000, 1, 3, 3), (1, 4000, 3, 3)])}


@pytest.mark.parametrize(
    "content",
    [
        {1: torch.ones(4, 1, 3, 3), "conv_layers.1.weight": ONE},
        SPREAD,
        {f"conv_layers.{index}.weight": torch.ones(4, 4, 3, 3) for index in range(300)},
        {"conv_layers.0.weight": torch.ones(0, 1, 3, 3), "conv_layers.1.weight": torch.ones(1, 0, 3, 3)},
        {"conv_layers.0.weight": torch.ones(4, 1, 2, 2), "conv_layers.1.weight": torch.ones(1, 4, 2, 2)},
        *(
            {"conv_layers.0.weight": torch.ones(4, 1, 3, 3).to(kind), "conv_layers.1.weight": torch.ones(1, 4, 3, 3)}
            for kind in (torch.int16, torch.bool, torch.complex64, torch.float8_e4m3fn)
        ),
        {"conv_layers.0.weight": torch.ones(4, 1, 3, 3).to_sparse(), "conv_layers.1.weight": torch.ones(1, 4, 3, 3)},
        {"conv_layers.0.weight": torch.ones(4, 1, 3, 3, device="meta"), "conv_layers.1.weight": ONE},
        {"conv_layers.0.weight": torch.full((4, 1, 3, 3), math.nan), "conv_layers.1.weight": torch.ones(1, 4, 3, 3)},
    ],
)
def test_a_state_dict_of_a_stranger_ends_in_one_sentence(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"model\.pt"):
        checkpoints.convert(tmp_path / "model.pt", tmp_path / "model.safetensors")
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize(
    "file",
    ["/etc/passwd", "../net.safetensors", "a/../../net.safetensors", "link", r"..\net", "C:/net", "C:net", r"\\h\s"],
)
def test_a_file_of_the_registry_cannot_leave_the_folder(weights: Path, path: Path, file: str) -> None:
    (weights / "link").symlink_to(path)
    (weights / "registry.toml").write_text(
        f"[tiny]\nfile = {json.dumps(file)}\nsha256 = '{'0' * 64}'\ntitle = 'Tiny'\n"
    )
    with pytest.raises(CheckpointError, match="has a file that is not in"):
        checkpoints.load("tiny")


@pytest.mark.parametrize("field", ["file = 3", "title = ['a']", "repo = 3", f"sha256 = {'[' * 10**5}{']' * 10**5}"])
def test_a_registry_of_other_kinds(weights: Path, field: str) -> None:
    fields = {"file": "'a'", "title": "'a'", "sha256": "'a'"}
    key, value = field.split(" = ")
    text = "\n".join(f"{name} = {content}" for name, content in {**fields, key: value}.items())
    (weights / "registry.toml").write_text(f"[tiny]\n{text}\n")
    with pytest.raises(CheckpointError, match=r"registry\.toml"):
        checkpoints.registry()
