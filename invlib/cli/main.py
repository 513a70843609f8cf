"""The command line's way in.

Progress goes to standard error. With --json standard output is exactly one JSON object. A bad argument or picture ends
with exit status 2 and one sentence.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from safetensors import SafetensorError

from invlib import runs, runtime
from invlib.cli import bench, denoise, remove_noise, restore, sample, train, weights
from invlib.cli.options import Parser
from invlib.cli.talk import escape_what_cannot_be_printed, readable, say, tell
from invlib.priors.checkpoints import CheckpointError

COMMANDS = (denoise, sample, restore, remove_noise, train, bench, weights)


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
    escape_what_cannot_be_printed()
    options = build_parser().parse_args(arguments)
    try:
        runtime.set_threads()
        result = options.command(options)
    except (ValueError, OSError, MemoryError, ImportError, CheckpointError, SafetensorError) as error:
        say(f"error: {error}")
        return 2
    except RuntimeError as error:
        if not runtime.is_out_of_memory(error):
            raise
        say("error: not enough memory: use a smaller picture or fewer samples")
        return 2
    except KeyboardInterrupt:
        say("stopped")
        return 130
    if result is None:  # another process of this training tells it
        return 0
    status = tell(json.dumps(runs.strict(result), allow_nan=False) if options.json else readable(result))
    if "error" in result:  # after the work, which is not lost
        say(f"error: {result['error']}")
        return 2
    return status
