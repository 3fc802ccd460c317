"""The stem of a network that was trained beside a run -> the run's own, where validation says so.

A stem in closed form is fitted in a second, but in heavy noise it hears little; the network has a
stem that was trained by gradient, on the same spectrogram and no dearer. Validation clips judge, of
which neither stem knows the answer: it is taken where its log loss is lower by more than a standard
error. Saliency and promises are then made from it. The former stem is kept beside the network, for
a run that loses its network again.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from xmoe.audio.dataset import Dataset, Example
from xmoe.audio.segment import Segment
from xmoe.base.config import BackboneSpec, ModelConfig
from xmoe.base.errors import RunFolderError
from xmoe.base.files import TRAIN_AGAIN, write_bytes
from xmoe.base.layers import fold_norms
from xmoe.base.progress import Progress, silent
from xmoe.experts.probabilities import fit_sharpness, log_losses, to_logits
from xmoe.frontend.measure import measure_segments
from xmoe.frontend.registry import build_frontend
from xmoe.frontend.threads import time_ms
from xmoe.glance.stem import Stem, StemOutput
from xmoe.mixture.moe import MoE
from xmoe.policy.race import mean_and_error
from xmoe.run.folder import STEM, RunFile, RunFolder
from xmoe.training.observe import glance_at, look_at_copies
from xmoe.training.promises import HeldTable

CLOSED_STEM = f"{RunFile.BY_GRADIENT}/closed_stem.safetensors"
# Of the milliseconds of the stem in closed form: every clip is heard by it.
MOST_COST = 1.5


@dataclass(frozen=True)
class StemTrial:
    """A trained stem that is worth having, and the held-out table with its answers.

    ``model`` are the settings of a mixture with it; ``reason`` says what validation says of it.
    """

    stem: Stem
    table: HeldTable
    model: ModelConfig
    reason: str


def try_stem(
    model: MoE,
    trained: MoE,
    table: HeldTable,
    dataset: Dataset,
    examples: Sequence[Example],
    *,
    progress: Progress = silent,
) -> StemTrial | str:
    """The stem of the mixture ``trained`` for a run of ``model``, or why not.

    ``table`` holds the answers to the validation clips ``examples``.
    """
    if any(isinstance(spec, BackboneSpec) and spec.windows for spec in model.config.experts):
        return "the stem in closed form stays: a network was fitted to the windows that it chose"
    assert isinstance(trained.stem, Stem)
    stem, task, frontend = deepcopy(trained.stem).eval(), table.task, build_frontend(model.spectro)
    times = compare_ms(stem, model)
    if times > MOST_COST:
        return f"the stem in closed form stays: the network's takes {times:.1f} times as long"
    visit = partial(look_at_copies, dataset, examples, model.spectro.segment_s, progress=progress)

    def answer(segments: list[Segment], *_: object) -> Tensor:
        output: StemOutput = stem(frontend.compress(*measure_segments(segments, frontend)))
        return output.logits

    said = visit(answer, name="stem of the network")
    scores = said if task.exclusive else said + 0.5  # log-odds of 0 are a score of a half
    sharpness = fit_sharpness(scores[0], table.rows, task)
    stem.sharpen(sharpness)
    sharp = np.stack([to_logits(one, sharpness, task) for one in scores])
    former, own = (log_losses(one[0], table.rows, task) for one in (table.logits[0], sharp))
    gain, error = mean_and_error(former - own, table.units)
    told = (
        f"log loss on {len(examples)} validation clips {own.mean():.3f}, of the one in closed form "
        f"{former.mean():.3f}: {abs(gain):.3f} +- {error:.3f} {'less' if gain > 0 else 'more'}"
    )
    if gain <= error:
        return f"the stem in closed form stays; the network's has {told}"
    config = model.config.model_copy(
        update={"stem": "cnn", "stem_channels": trained.config.stem_channels}
    )
    mixture = MoE(config, model.spectro).eval()
    mixture.stem.load_state_dict(stem.state_dict())

    def see(segments: list[Segment], copy: int, rows: slice) -> Tensor:
        logits = torch.from_numpy(sharp[copy, rows]).float()
        return glance_at(mixture, frontend, segments, logits)

    glance = visit(see, name="evidence")
    logits = np.concatenate([sharp[None], table.logits[1:]])
    return StemTrial(
        stem, replace(table, logits=logits, glance=glance), config, f"the network's, with {told}"
    )


def compare_ms(stem: Stem, model: MoE) -> float:
    """How many times as long as the stem of a mixture a trained one takes, as it is served."""
    spec = torch.randn(1, model.spectro.num_bins, model.spectro.num_frames)
    folded = deepcopy(stem)
    fold_norms(folded)
    return time_ms(lambda: folded(spec)) / time_ms(lambda: model.stem(spec))


def keep_former_stem(folder: RunFolder) -> None:
    """Write the stem of a run in closed form beside its network."""
    write_bytes(folder.file(CLOSED_STEM), save(dict(folder.load_tensors(STEM))))


def read_former_stem(folder: RunFolder) -> dict[str, Tensor]:
    """The stem that ``keep_former_stem`` wrote; RunFolderError where it is damaged."""
    path = folder.file(CLOSED_STEM)
    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise RunFolderError(
            f"not a whole safetensors file: {error}", where=str(path), mend=TRAIN_AGAIN
        ) from error
