"""What is nearly a picture, a run or an address: each is used, or refused in one sentence, and none takes long."""

from __future__ import annotations

import json
import random
import re
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image
from streamlit.testing.v1 import AppTest

from invlib import decoding, runs
from invlib.decoding import STRANGERS, ImageError
from pages.ui import saved, stage
from tests import bombs
from tests.load.amounts import SEED, amounts, report
from tests.load.mutations import ODD, mutated_bytes, mutated_json
from tests.patience import PATIENCE

HANGS = max(2.0, PATIENCE / 60)
"""Seconds after which something counts as hanging."""


class Outcomes:
    """What became of the inputs, and the longest that one took."""

    def __init__(self) -> None:
        self.counts, self.longest, self.faults = Counter[str](), 0.0, dict[str, str]()

    @contextmanager
    def one(self, described: str, *refusals: type[Exception], timed: bool = True) -> Iterator[None]:
        """Try one input. Only a refusal in a sentence may be raised, and soon."""
        started, worked, outcome = time.perf_counter(), time.process_time(), "used"
        try:
            yield
        except Exception as error:
            outcome = "refused"
            if not isinstance(error, refusals) or not re.fullmatch(r"\S+ \S[\s\S]{3,2000}", str(error)):
                place = traceback.extract_tb(error.__traceback__)[-1]
                self.faults.setdefault(f"{type(error).__name__} in {place.name}, line {place.lineno}", described)
        # Others may have the processor at the moment. What waits without work comes to its end by other limits.
        seconds = min(time.perf_counter() - started, time.process_time() - worked)
        if timed:
            self.longest = max(self.longest, seconds)
            if seconds > HANGS:
                self.faults[f"{seconds:.1f} s"] = described
        self.counts[outcome] += 1

    def report(self, what: str) -> None:
        """Print the figures, and fail if there were faults."""
        report(f"{self.counts.total()} {what}: {dict(self.counts)}; the longest took {self.longest:.2f} s")
        assert not self.faults, "\n".join(f"{fault}: {described}" for fault, described in self.faults.items())


PIXELS = np.random.default_rng(0).integers(0, 256, (24, 40, 4), np.uint8)
EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x010E] = 6, "turned"
KINDS = {
    "PNG": (PIXELS, {}),
    "PNG of a palette": (Image.fromarray(PIXELS[..., :3]).quantize(16), {}),
    "PNG of 16 bits": (PIXELS[..., 0] * np.uint16(257), {}),
    "JPEG": (PIXELS[..., :3], {"exif": EXIF, "icc_profile": b"no profile", "comment": b"words"}),
    "JPEG progressive": (PIXELS[..., :3], {"progressive": True}),
    "JPEG of CMYK": (Image.fromarray(PIXELS[..., :3]).convert("CMYK"), {}),
    "WEBP": (PIXELS, {"exif": EXIF}),
    "WEBP lossless": (PIXELS, {"lossless": True}),
    "AVIF": (PIXELS[..., :3], {}),
    "TIFF": (PIXELS, {}),
    "TIFF of floats": (PIXELS[..., 0] / np.float32(300), {}),
    "TIFF of 16 bits": (PIXELS[..., 0] * np.uint16(257), {"compression": "tiff_lzw"}),
    "TIFF deflated": (PIXELS[..., :3], {"compression": "tiff_adobe_deflate"}),
    "BMP": (PIXELS[..., :3], {}),
    "GIF": (PIXELS[..., :3], {}),
    "JPEG2000": (PIXELS[..., :3], {}),
    "PPM": (PIXELS[..., :3], {}),
}


def file(kind: str) -> bytes:
    pixels, options = KINDS[kind]
    return bombs.encoded(pixels, kind.split()[0], **options)


@amounts("pictures")
def test_mutated_pictures(count: int) -> None:
    drawn, outcomes, files = random.Random(SEED), Outcomes(), {kind: file(kind) for kind in KINDS}
    limits = [STRANGERS, decoding.Limits()]  # of pages, and of the command line
    for number in range(count):
        kind = list(files)[number % len(files)]
        content = mutated_bytes(drawn, files[kind])
        with outcomes.one(f"picture {number}, {kind}", ImageError):
            decoding.check_size(content, "The picture", STRANGERS.size)
            found = decoding.decode(content, "The picture", drawn.choice(limits))
            assert found.pixels.dtype in (np.uint8, np.float32)
            assert found.pixels.ndim == 2 or found.pixels.shape[2] == 3
            assert found.alpha is None or found.alpha.shape == found.pixels.shape[:2]
    assert set(outcomes.counts) == {"used", "refused"}
    outcomes.report("mutated pictures")


@amounts("runs")
def test_mutated_runs(count: int) -> None:
    drawn, outcomes, kept = random.Random(SEED), Outcomes(), []
    for key in saved.ALL:
        run = json.loads((saved.folder_of(key) / "run.json").read_text()) | saved.problem(key).parameters
        # Of what was found nothing is read.
        kept.append(json.dumps({name: value for name, value in run.items() if name not in ("history", "frames")}))
    for number in range(count):
        parameters = mutated_json(drawn, kept[number % len(kept)])
        with outcomes.one(f"run {number}, {json.dumps(parameters)[:3000]}", ValueError):
            problem, settings = runs.read(parameters)
            seconds = stage.seconds_of(problem, settings)
            assert seconds is None or seconds >= 0
    assert set(outcomes.counts) == {"used", "refused"}
    outcomes.report("mutated runs")


PAGES = (
    "super_resolution", "deblurring", "inpainting", "compressive_sensing", "denoising", "structured_noise", "sampling",
    "benchmarks",
)  # fmt: skip
KEYS = (
    "picture", "samples", "seed", "method", "sampler", "prior", "factor", "keep", "noise", "level", "evaluations", "h0",
    "beta", "sigma_0", "sigma_L", "task", "kind", "mask", "live", "dense", "gain", "steps", "temperature", "side",
    "page", "own_picture", "arrived", "run", "defaults", "upload", "embed", "é", "",
)  # fmt: skip
VALUES = (
    *(str(value) for value in ODD if value != "\ud800"),
    *("True", "1_0", "٣", "4.0", "0x10", "1e400", "<script>", "![](http://example.org)", "%00", "9" * 6000),
    *("paper", "1", "2", "4", "8", "0.1", "random-pixels", "scribble", "gan", "flow"),
)


@amounts("addresses")
def test_addresses(open_page: Callable[..., AppTest], count: int) -> None:
    drawn, outcomes = random.Random(SEED), Outcomes()
    for number in range(count):
        name = PAGES[number % len(PAGES)]
        asked = {drawn.choice(KEYS): drawn.choice(VALUES) for _ in range(drawn.choice((1, 3, 8)))}
        # The first visit of a page reads what the later ones have at hand.
        with outcomes.one(f"address {number}, {name} {asked}"[:2000], timed=number >= len(PAGES)):
            open_page(name, **asked)
    outcomes.report("addresses")
