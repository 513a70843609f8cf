"""The command line's way in.

Progress goes to standard error. With --json standard output is exactly one JSON object. A bad argument or picture ends
with exit status 2 and one sentence.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from invlib import runtime
from invlib.cli import bench, remove_noise, restore, sample, train, weights
from invlib.cli.options import Parser
from invlib.cli.talk import readable
from invlib.priors.checkpoints import CheckpointError

COMMANDS = (sample, restore, remove_noise, train, bench, weights)


def build_parser() -> Parser:
    """The parser of every command."""
    parser = Parser(
        prog="invlib",
        description="Image inverse problems, with the prior implicit in a denoiser or with normalizing flows.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = build_parser().parse_args(arguments)
    try:
        runtime.set_threads()
        result = options.command(options)
    except (ValueError, OSError, MemoryError, ImportError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if not runtime.is_out_of_memory(error):
            raise
        print("error: not enough memory: use a smaller picture or fewer samples", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    print(json.dumps(result) if options.json else readable(result))
    return 0
