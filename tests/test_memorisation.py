"""Samples beside their nearest training pictures: copies are found, also in a mirror, and others are not."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from invlib.cli import main
from invlib.experiments.memorisation import nearest, standardise
from invlib.experiments.rows import read
from tests.test_tables import save_prior


def test_the_nearest_training_picture_is_found_also_in_a_mirror():
    training = torch.randint(256, (2500, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    copies = torch.stack([training[7], training[2400].flip(-1), training[1200]]) / 255
    copies[2] += 0.1
    torch.testing.assert_close(nearest(copies, training), torch.tensor([0, 0, 0.1]), atol=1e-4, rtol=1e-3)

    others = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    both = torch.cat([training, training.flip(-1)]).flatten(1) / 255
    by_hand = (others.flatten(1)[:, None] - both).square().mean(-1).sqrt().amin(1)
    torch.testing.assert_close(nearest(others, training), by_hand, atol=1e-4, rtol=1e-4)


def test_a_pale_copy_is_found_where_pictures_have_the_same_contrast():
    training = torch.randint(256, (30, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pale = 0.4 + 0.1 * training[:2] / 255
    assert bool((nearest(pale, training) > 0.2).all())
    torch.testing.assert_close(nearest(pale, training, standardise), torch.zeros(2), atol=1e-3, rtol=0)
    torch.testing.assert_close(standardise(pale).flatten(1).std(1, correction=0), torch.ones(2))


@pytest.fixture
def faces(tmp_path):
    """Pictures of the proportions of CelebA's, of which two are held out."""
    folder, random = tmp_path / "faces", np.random.default_rng(0)
    folder.mkdir()
    for number in range(40):
        coarse = Image.fromarray(random.integers(256, size=(6, 5, 3), dtype=np.uint8))
        coarse.resize((89, 109), Image.Resampling.BICUBIC).save(folder / f"{number:02}.png")
    return folder


def test_the_experiment_measures_samples_and_held_out_faces(faces, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("INVLIB_WEIGHTS", str(tmp_path / "weights"))
    save_prior("bf-unet-color")
    out = tmp_path / "rows.jsonl"
    arguments = ["bench", "memorisation", "--data-training", str(faces), "--prior", "bf-unet-color", "--out", str(out)]
    assert main([*arguments, "--samples", "2", "--json"]) == 0
    [row] = read(out)
    assert json.loads(capsys.readouterr().out)["rows"] == [row]
    assert (row["method"], row["samples"], row["images"]) == ("paper", 2, 38)
    found = row["distances"]
    assert [len(found[name]) for name in ("samples", "held_out")] == [2, 2]
    assert row["ratio"] == pytest.approx(sum(found["samples"]) / sum(found["held_out"]), rel=1e-3)
    assert row["alike"]["ratio"] != row["ratio"]

    assert main([*arguments, "--samples", "3"]) == 2
    assert "--samples must be at most 2, as many as were held out, got 3" in capsys.readouterr().err
