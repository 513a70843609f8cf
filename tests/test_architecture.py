"""The rooms of the library: imports point one way, and none of it needs the app."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import invlib

ROOT = Path(invlib.__file__).parent

LAYERS = [
    {"runtime", "decoding", "images", "checks", "metrics"},
    {"priors"},
    {"problems"},
    {"solvers"},
    {"examples", "scores", "pace", "runs", "jobs", "engines", "ray_engine", "training", "client"},
    {"experiments", "cli"},
]
"""What may import what stands before it, and its neighbours."""


def module_of(path: Path) -> str:
    parts = ("invlib", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in ROOT.rglob("*.py")}


def imports(path: Path) -> set[str]:
    """The modules of the library that a file imports, wherever in the file it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in names}
    return {name for name in found if name.split(".")[0] == "invlib"}


def layer_of(module: str) -> int:
    room = module.split(".")[1]
    return next(index for index, rooms in enumerate(LAYERS) if room in rooms)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_one_way(module: str) -> None:
    if module in ("invlib", "invlib.__main__"):
        return
    for imported in imports(MODULES[module]) - {"invlib"}:
        assert layer_of(imported) <= layer_of(module), f"{module} imports {imported}"
        if layer_of(module) == 0:
            assert imported.split(".")[1] in LAYERS[0]


def test_there_is_no_circle() -> None:
    order = TopologicalSorter({module: imports(path) - {module} for module, path in MODULES.items()}).static_order()
    assert set(order) >= set(MODULES)


def test_the_library_does_not_load_the_app() -> None:
    others = ("invlib.__main__", "invlib.ray_engine")  # the latter needs a package that may be missing
    modules = [name for _, name, _ in pkgutil.walk_packages([str(ROOT)], "invlib.") if name not in others]
    assert len(modules) > 50
    program = f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\n"
    program += "print({'streamlit', 'plotly', 'pages'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert done.stdout.strip() == "set()"


def test_the_library_is_imported_when_it_is_used() -> None:
    program = "import sys, invlib\nprint('torch' in sys.modules)\n"
    program += "print([name for name in invlib.__all__ if not hasattr(invlib, name)], 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert done.stdout.split("\n")[:2] == ["False", "[] True"]
