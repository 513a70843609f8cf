"""`invlib weights`: list, check and exchange checkpoints."""

from __future__ import annotations

import argparse
from pathlib import Path

from invlib.cli.options import Commands, add, add_group
from invlib.cli.talk import Result
from invlib.priors import checkpoints


def add_to(commands: Commands) -> None:
    weights = add_group(commands, "weights", "list, check and exchange checkpoints")
    add(weights, "list", weights_list, "what is registered")
    add(weights, "verify", weights_verify, "compare every file with its sha256")
    command = add(weights, "pull", weights_pull, "download a registered checkpoint into weights/")
    command.add_argument("name")
    command = add(weights, "push", weights_push, "upload a folder of checkpoints to a repository of yours")
    command.add_argument("folder", type=Path)
    command.add_argument("repo", metavar="OWNER/REPO")
    command.add_argument("--private", action="store_true")
    command = add(weights, "convert", weights_convert, "fold the authors' BF-CNN state dict into a checkpoint")
    command.add_argument("source", type=Path)
    command.add_argument("target", type=Path)
    command = add(weights, "register", weights_register, "add a checkpoint in weights/ to the registry, or update it")
    command.add_argument("name")
    command.add_argument("file", type=Path)
    command.add_argument("--title", required=True, help="a phrase that says what it is")


def weights_list(options: argparse.Namespace) -> Result:
    rows = {}
    for name, entry in checkpoints.registry().items():
        known = checkpoints.describe(name)
        rows[name] = {
            "title": entry.title,
            "architecture": known.architecture,
            "parameters": known.parameters,
            "here": known.path is not None,
            **known.metadata,
        }
    return rows


def weights_verify(options: argparse.Namespace) -> Result:
    status = checkpoints.verify()
    bad = [name for name, state in status.items() if state != "ok"]
    if bad:
        raise checkpoints.CheckpointError("; ".join(f"{name} is {status[name]}" for name in bad))
    return dict(status)


def weights_pull(options: argparse.Namespace) -> Result:
    return {"file": str(checkpoints.pull(options.name))}


def weights_push(options: argparse.Namespace) -> Result:
    return {"revision": checkpoints.push(options.folder, options.repo, private=options.private)}


def weights_convert(options: argparse.Namespace) -> Result:
    return {"file": str(options.target), "sha256": checkpoints.convert(options.source, options.target)}


def weights_register(options: argparse.Namespace) -> Result:
    return {"sha256": checkpoints.register(options.name, options.file, options.title).sha256}
