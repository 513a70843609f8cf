"""Files and JSON that are nearly right: what strangers and faults make of good ones. All of it is seeded."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from typing import Any

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, 10**30, -(10**400), 0.5, -0.0, 1e-320, 1e308, math.nan, math.inf,
    -math.inf, "", "0", "1e9", "nan", "fast", "\0", "\ud800", "../../etc/passwd", "data:image/png;base64,", "x" * 5000,
    [], {}, [[]], [0, 0, 0], [3, 10**9, 10**9], [-1, -1, -1], {"": None},
]  # fmt: skip
"""Values of every type, at the ends of their ranges and beyond."""


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def mutated_bytes(drawn: random.Random, content: bytes) -> bytes:
    """A file with a few bytes changed, cut, put in or repeated, more often at its start, where formats keep sizes."""
    changed = bytearray(content)
    for _ in range(drawn.choice((1, 1, 1, 2, 6))):
        near = min(len(changed), drawn.choice((64, 512, len(content))))
        start = drawn.randrange(near + 1)
        length = drawn.choice((1, 1, 1, 2, 4, 16, 256))
        match drawn.randrange(6):
            case 0:
                changed[start : start + 1] = bytes([drawn.randrange(256)])
            case 1:
                changed[start : start + length] = drawn.choice((b"\0", b"\xff", b"\x7f")) * length
            case 2:
                del changed[start : start + length]
            case 3:
                changed[start:start] = drawn.randbytes(length)
            case 4:
                changed[start:start] = changed[start : start + length] * drawn.choice((1, 2, 300))
            case _:
                del changed[drawn.randrange(len(changed) + 1) :]
    return bytes(changed)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every list and object of a JSON value with each of its indices or keys."""
    if isinstance(value, list | dict):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


def mutated_json(drawn: random.Random, text: str) -> Any:
    """A JSON value with a few members changed, lost, renamed, wrapped or exchanged."""
    value = json.loads(text)
    for _ in range(drawn.choice((1, 1, 1, 2, 4))):
        found = list(places(value))
        if not found:
            break
        (holder, key), (other, its) = drawn.choice(found), drawn.choice(found)
        old = holder[key]
        match drawn.randrange(7):
            case 0 | 1:
                holder[key] = json.loads(json.dumps(drawn.choice(ODD)))
            case 2:
                del holder[key]
            case 3:
                holder[key] = drawn.choice(([old], {"value": old}, nested(drawn.choice((3, 300)))))
            case 4:
                holder[key] = json.loads(json.dumps(other[its]))
            case 5 if isinstance(old, int | float):
                holder[key] = old * drawn.choice((-1, 0, 1.5, 2, 1000, 10**12))
            case 5 if isinstance(old, str) and old:
                at = drawn.randrange(len(old))
                holder[key] = old[:at] + drawn.choice(("", "é", "\0", old)) + old[at + 1 :]
            case _ if isinstance(holder, dict):
                holder[drawn.choice((key.upper(), key + " ", "", "seed", "settings", "knobs"))] = holder.pop(key)
    return value
