"""A run in closed form -> the same run with a network beside it, where validation says it pays.

The second phase of training. The network is trained as a run of its own, in a folder of the run, so
that its checkpoints and resuming are those of any training by gradient. Until it is trained and
judged nothing else of the run changes, and then all of it at once: wherever the run is stopped, it
gives the better of the two answers.

Validation clips judge: the network was not fitted on them, though they chose its epoch, as in any
training by gradient. It has to take more than a standard error off their log loss beside the stem
and all experts. Its stem may become that of the run (``xmoe.pipeline.trained_stem``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from torch import Tensor

from xmoe.audio.dataset import Dataset, Example
from xmoe.audio.segment import Segment
from xmoe.base.config import NetworkSpec, RunConfig
from xmoe.base.files import read_json, write_bytes
from xmoe.base.progress import Progress, silent
from xmoe.base.task import task_of
from xmoe.experts.probabilities import fit_sharpness, to_logits
from xmoe.experts.ridge import Floats
from xmoe.mixture.moe import MoE, load_weights_into
from xmoe.mixture.network import NetworkExpert, answer_segments, measure_ms
from xmoe.mixture.promise_router import STEM_NAME
from xmoe.pipeline.closed import (
    describe_routing,
    measure_glance_ms,
    read_fit,
    with_selection,
    write_routing,
)
from xmoe.pipeline.request import FitRequest
from xmoe.pipeline.settle import Costs, settle_routing
from xmoe.pipeline.trained_stem import StemTrial, keep_former_stem, try_stem
from xmoe.policy.policy import Choice, Policy, choose_policy
from xmoe.policy.records import StackRow, number_rows
from xmoe.profile.profile import Profile
from xmoe.routing.stack import Stack
from xmoe.run.folder import ROUTER, STEM, RunFile, RunFolder, answering_parts, expert_part
from xmoe.training.closed import weigh_by_depth
from xmoe.training.observe import look_at_copies
from xmoe.training.promises import HeldTable, read_table
from xmoe.training.session import TrainingJob
from xmoe.training.stack import HeldOut, judge_addition, select_experts

NETWORK = "network"
# The spread of fewer sources says little: then each recording counts as its own source.
LEAST_SOURCES = 5


def add_network(
    folder: RunFolder,
    config: RunConfig,
    dataset: Dataset,
    request: FitRequest,
    *,
    progress: Progress = silent,
) -> StackRow:
    """Train the network, or resume its training, and judge it; returns its row of the table.

    The spectrograms of the training and validation splits are in the run's stores. A network that
    was judged before is not judged again.
    """
    if (judged := judged_row(folder)) is not None:
        return judged
    began = time.monotonic()
    own = RunFolder(folder.file(RunFile.BY_GRADIENT))
    train = config.train.model_copy(update={"fit": "gradient"})
    if not own.file(RunFile.CONFIG).is_file():
        known = config.model_copy(update={"train": train})
        own.write_record(RunFile.CONFIG, network_config(folder, known, request))
    trained = own.read_config().model_copy(update={"train": train})
    request.engine(
        TrainingJob(own.path, trained, folder.file(RunFile.STORES), resume=True), progress
    )
    trial = try_network(folder, config, dataset, load_network(own), progress=progress)
    choices: list[Choice] = []
    if trial.row.taken:
        stem = _try_stem(folder, config, dataset, trial, progress)
        config = keep_network(folder, config, trial, None if isinstance(stem, str) else stem)
        reason = stem if isinstance(stem, str) else stem.reason
        choices = [Choice(name="stem", value=config.model.stem, reason=reason, source="race")]
        progress("stem", 1, 1, reason)
    policy = folder.read_record(RunFile.POLICY, Policy)
    others = [row for row in policy.candidates if row.name != NETWORK]
    weights = read_fit(folder)["weights"][-1]
    ordered = {name: weights[name] for name in config.model.expert_names}
    rows = number_rows([*others, trial.row], ordered)
    row = next(row for row in rows if row.name == NETWORK)
    folder.write_record(RunFile.POLICY, with_selection(policy, config.model, rows, *choices))
    minutes = round((time.monotonic() - began) / 60, 3)
    told = {NETWORK: row.model_dump(), "network_minutes": minutes}
    folder.write_record(RunFile.CLOSED, read_json(folder.file(RunFile.CLOSED)) | told)
    progress(NETWORK, 1, 1, row.reason)
    return row


def judged_row(folder: RunFolder) -> StackRow | None:
    """The row of a run's network, None where it was not judged."""
    row = read_json(folder.file(RunFile.CLOSED)).get(NETWORK)
    return None if row is None else StackRow.model_validate(row)


def forget_judgement(folder: RunFolder) -> None:
    """Have the network judged again, not trained again: the experts beside it have changed."""
    RunFolder(folder.file(RunFile.BY_GRADIENT)).file(RunFile.HELD_OUT).unlink(missing_ok=True)
    record = read_json(folder.file(RunFile.CLOSED))
    if record.pop(NETWORK, None) is not None:
        folder.write_record(RunFile.CLOSED, record)


def network_config(folder: RunFolder, config: RunConfig, request: FitRequest) -> RunConfig:
    """Settings of a mixture of CNNs on the run's front end, by rule."""
    profile = folder.read_record(RunFile.PROFILE, Profile)
    policy = choose_policy(profile, method="rule", overrides=request.overrides)
    policy = policy.model_copy(update={"spectro": config.spectro})
    model = policy.as_model_config(task=config.model.task, num_classes=len(config.classes))
    return RunConfig(
        classes=config.classes, spectro=config.spectro, model=model, train=config.train
    )


def load_network(own: RunFolder) -> NetworkExpert:
    config = own.read_config()
    spec = NetworkSpec(name=NETWORK, spectro=config.spectro, mixture=config.model)
    expert = NetworkExpert(spec).eval()
    parts = answering_parts(config.model.expert_names)
    load_weights_into(expert.mixture, {part: own.load_tensors(part) for part in parts})
    return expert


@dataclass(frozen=True)
class Trial:
    """A network, its cost and gain, and the held-out answers that it was judged by.

    ``examples`` are the validation clips of these answers.
    """

    expert: NetworkExpert
    row: StackRow
    table: HeldTable
    examples: list[Example]


def try_network(
    folder: RunFolder,
    config: RunConfig,
    dataset: Dataset,
    expert: NetworkExpert,
    *,
    progress: Progress = silent,
) -> Trial:
    """Judge a network by the validation clips for which the run has held-out answers.

    Its sharpness is fitted to them.
    """
    own = RunFolder(folder.file(RunFile.BY_GRADIENT))
    names = tuple(name for name in config.model.expert_names if name != NETWORK)
    if not own.file(RunFile.HELD_OUT).is_file():  # keeping the network replaces the run's own
        held = folder.mixture_file(RunFile.HELD_OUT).read_bytes()
        write_bytes(own.file(RunFile.HELD_OUT), held)
    table = read_table(own.file(RunFile.HELD_OUT), names, task_of(config.model.task))
    record = read_json(folder.file(RunFile.CLOSED))
    table, examples = pick_validation(table, dataset)
    ms = measure_ms(expert, sample_rate_hz=int(record["sample_rate_hz"]))
    said = answer_copies(expert, dataset, examples, progress)
    scores = said if table.task.exclusive else said + 0.5  # log-odds of 0 are a score of a half
    sharpness = fit_sharpness(scores[0], table.rows, table.task)
    expert.sharpness.fill_(sharpness)
    sharp = np.stack([to_logits(one, sharpness, table.task) for one in scores])
    table = replace(
        table, names=(*table.names, NETWORK), logits=np.concatenate([table.logits, sharp[None]])
    )
    clips, sources = len(examples), len(np.unique(table.units))
    judged = f"{clips} validation clips of {sources} sources, which chose its epoch too"
    if sources < LEAST_SOURCES:
        judged += "; clip by clip, for so few sources give no standard error"
        table = replace(table, units=table.clips)
    row = judge_addition(table.hold(), [STEM_NAME, *names], NETWORK, ms)
    reason = f"trained by gradient: {row.reason} on {judged}"
    return Trial(expert, row.model_copy(update={"reason": reason}), table, examples)


def _try_stem(
    folder: RunFolder, config: RunConfig, dataset: Dataset, trial: Trial, progress: Progress
) -> StemTrial | str:
    model = MoE(config.model, config.spectro).eval()
    model.stem.load_state_dict(folder.load_tensors(STEM))
    mixture, table, clips = trial.expert.mixture, trial.table, trial.examples
    return try_stem(model, mixture, table, dataset, clips, progress=progress)


def pick_validation(table: HeldTable, dataset: Dataset) -> tuple[HeldTable, list[Example]]:
    known = {example.clip_id: example for example in dataset.split("val")}
    places = [place for place, name in enumerate(table.clip_ids) if name in known]
    ids = tuple(table.clip_ids[place] for place in places)
    rows = np.flatnonzero(np.isin(table.clips, places))
    picked = replace(
        table,
        logits=table.logits[:, :, rows],
        glance=table.glance[:, rows],
        rows=table.rows[rows],
        units=table.units[rows],
        clips=np.unique(table.clips[rows], return_inverse=True)[1].astype(np.int64),
        clip_ids=ids,
    )
    return picked, [known[name] for name in ids]


def answer_copies(
    expert: NetworkExpert, dataset: Dataset, examples: Sequence[Example], progress: Progress
) -> Floats:
    """Logits [2, n, C] of the segments of clips, clean and under noise."""

    def answer(segments: list[Segment], *_: object) -> Tensor:
        return answer_segments(expert, segments)

    segment_s, name = expert.spec.spectro.segment_s, "network answers"
    return look_at_copies(dataset, examples, segment_s, answer, name=name, progress=progress)


def keep_network(
    folder: RunFolder, config: RunConfig, trial: Trial, stem: StemTrial | None = None
) -> RunConfig:
    """Make the network an expert: find order, weights and promises again; fit no head.

    It may be worth asking before others, which then have less to add. Its ``stem``, where there is
    one, becomes the run's. Nothing of the run changes before its checkpoint does. Returns the
    settings.
    """
    table, settings = trial.table, config.model
    if stem is not None:
        if settings.stem == "kernels":  # not once more, where this was stopped halfway
            keep_former_stem(folder)
        table, settings = stem.table, stem.model
    record = read_json(folder.file(RunFile.CLOSED))
    known = dict(zip(settings.expert_names, config.routing.costs_ms, strict=True))
    costs_ms = known | {NETWORK: trial.row.ms}
    stacks = order_anew(table.hold(), table.experts, costs_ms)
    names = tuple(name for name in stacks[-1].weights if name != STEM_NAME)
    spec = trial.expert.spec.model_copy(update={"reason": trial.row.reason})
    specs = {one.name: one for one in settings.experts} | {NETWORK: spec}
    experts = tuple(specs[name] for name in names)
    settings = settings.model_copy(update={"experts": experts, "k_max": len(names)})
    model = MoE(settings, config.spectro).eval()
    weights = {part: folder.load_tensors(part) for part in parts_beside_network(names)}
    weights |= {ROUTER: model.router.state_dict(), expert_part(NETWORK): trial.expert.state_dict()}
    time_glance = partial(float, config.routing.glance_ms)
    if stem is not None:
        weights[STEM] = stem.stem.state_dict()
        time_glance = partial(measure_glance_ms, model, int(record["sample_rate_hz"]))
    load_weights_into(model, weights)
    table, costs = table.keep(names), Costs(costs_ms, time_glance)
    settled = settle_routing(model, table, stacks, costs, config.routing.budget, config.classes)
    config = config.model_copy(update={"model": settings, "routing": settled.routing})
    write_routing(folder, config, model, settled, table)
    folder.write_record(RunFile.CLOSED, record | describe_routing(stacks, settled))
    return config


def order_anew(
    held: HeldOut, experts: Sequence[str], costs_ms: Mapping[str, float]
) -> tuple[Stack, ...]:
    """Weights of the stem and the first 0, 1, ... experts, the most worth asking first.

    An expert that no longer gains more than a standard error comes last, one that weighs nothing
    not at all.
    """
    own = {name: costs_ms[name] for name in experts}
    selected = select_experts(held, own, always=[STEM_NAME]).stack.weights
    first = [name for name in selected if name != STEM_NAME]
    return weigh_by_depth(held, [*first, *(name for name in experts if name not in first)])


def parts_beside_network(names: Sequence[str]) -> list[str]:
    """Parts that a run has before a network becomes one of its experts ``names``."""
    parts = answering_parts(name for name in names if name != NETWORK)
    return [part for part in parts if part != ROUTER]
