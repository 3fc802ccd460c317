"""Quantus, which others wrote, finds what our own figures find (Hedstroem et al. 2023, JMLR 24)."""

import warnings

import numpy as np
import pytest
import torch

from benchmarks.localise import energy_in_box, pointing_game
from xmoe.explain.faithfulness import measure_faithfulness
from xmoe.explain.maps.methods import METHODS
from xmoe.explain.targets import ClassTarget

QUIET = {"disable_warnings": True, "display_progressbar": False}


@pytest.fixture(scope="module")
def quantus():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its dependencies, on import
        return pytest.importorskip("quantus", exc_type=ImportError)


class Stem(torch.nn.Module):
    """The stem's answer to images [n, 1, F, T], as Quantus feeds them."""

    def __init__(self, model):
        super().__init__()
        self.stem = model.stem

    def forward(self, images):
        return self.stem(images.squeeze(1)).logits


def maps_of(subject, specs, ids, name):
    plan = subject.model.plan(specs, subject.routing, k=0)
    return METHODS[name](subject.model, specs, plan, ClassTarget(tuple(ids.tolist())))


def ask(metric, subject, specs, ids, maps, masks=None):
    """Return what a metric of Quantus says of each clip, [n]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, of its own arithmetic
        found = metric(
            model=Stem(subject.model).eval(),
            x_batch=specs.unsqueeze(1).numpy(),
            y_batch=ids.numpy(),
            a_batch=maps.unsqueeze(1).numpy(),
            s_batch=None if masks is None else masks.unsqueeze(1).numpy(),
            device="cpu",
            channel_first=True,
        )
    return np.asarray(found, dtype=np.float64)


@pytest.mark.parametrize("name", ["saliency", "gradcam", "gradient_x_input"])
def test_pointing_and_energy_are_those_of_quantus(quantus, trained_subject, boxed, name):
    specs, ids, masks = boxed
    maps = maps_of(trained_subject, specs, ids, name)
    assert bool((maps.amax((1, 2)) > 0).all())
    args = (trained_subject, specs, ids, maps, masks)
    pointed = ask(quantus.PointingGame(**QUIET), *args)
    np.testing.assert_allclose(pointed, pointing_game(maps, masks).numpy())
    mass = ask(quantus.RelevanceMassAccuracy(**QUIET), *args)
    np.testing.assert_allclose(mass, energy_in_box(maps, masks).numpy(), rtol=1e-5)


def test_deletion_ranks_maps_as_pixel_flipping_does(quantus, trained_subject, boxed):
    """Pixel flipping fills with one value, ours with noise floor: orders agree, numbers need not.

    A true map, random ones and the true map upside down are put in the same order by both.
    """
    specs, ids, masks = boxed
    generator = torch.Generator().manual_seed(0)
    true = masks * maps_of(trained_subject, specs, ids, "saliency") + 1e-3 * torch.rand(
        specs.shape, generator=generator
    )
    candidates = [true, torch.rand(specs.shape, generator=generator), true.amax() - true]
    flip = quantus.PixelFlipping(
        features_in_step=82, perturb_baseline="mean", **QUIET
    )  # its own AUC needs numpy 1
    theirs = [float(ask(flip, trained_subject, specs, ids, m).mean()) for m in candidates]
    target = ClassTarget(tuple(ids.tolist()))
    ours = [
        float(
            measure_faithfulness(
                lambda batch: target.watch(trained_subject, batch), specs, m, generator=generator
            ).deletion.mean()
        )
        for m in candidates
    ]
    assert theirs == sorted(theirs)
    assert ours == sorted(ours)
