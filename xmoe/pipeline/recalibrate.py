"""A run in closed form + other costs, another budget or one expert less -> the run, routed anew.

Everything comes from the held-out answers that the run keeps; no recording is read and no head is
fitted again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from torch import nn

from xmoe.base.config import BackboneSpec, KernelsSpec, ModelConfig, RunConfig
from xmoe.base.errors import ConfigError
from xmoe.base.progress import Progress, silent
from xmoe.base.task import task_of
from xmoe.mixture.moe import MoE, load_weights_into
from xmoe.mixture.network import NetworkExpert
from xmoe.mixture.network import measure_ms as measure_network_ms
from xmoe.pipeline.closed import (
    describe_routing,
    measure_glance_ms,
    read_fit,
    with_selection,
    write_routing,
)
from xmoe.pipeline.network import NETWORK, forget_judgement
from xmoe.pipeline.outcome import renew_architecture
from xmoe.pipeline.settle import Costs, Settled, settle_routing
from xmoe.pipeline.trained_stem import read_former_stem
from xmoe.policy.policy import Policy
from xmoe.policy.records import number_rows
from xmoe.run.folder import ROUTER, STEM, RunFile, RunFolder, answering_parts
from xmoe.training.closed import stack_depths
from xmoe.training.costs import measure_ms
from xmoe.training.promises import read_table


def recalibrate(
    run: str | Path,
    *,
    budget: str | float | None = None,
    without: Sequence[str] = (),
    progress: Progress = silent,
) -> Settled:
    """Measure what experts cost here and route a run anew; everything is written to it.

    ``budget`` defaults to the run's own; experts in ``without`` are taken out. Raises ConfigError
    where the run was trained by gradient, for a bad budget, and for an expert that the run does not
    have or that is its last.
    """
    folder = RunFolder(run)
    config = read_closed_config(folder)
    with folder.changing():
        return _recalibrate(folder, config, budget, without, progress)


def _recalibrate(
    folder: RunFolder,
    config: RunConfig,
    budget: str | float | None,
    without: Sequence[str],
    progress: Progress,
) -> Settled:
    names = keep_names(config.model, without, folder)
    record = read_fit(folder)
    task = task_of(config.model.task)
    settings, kept_in = config.model, folder.mixture_file(RunFile.HELD_OUT)
    if without:
        kept = tuple(spec for spec in settings.experts if spec.name in names)
        settings = settings.model_copy(update={"experts": kept, "k_max": len(kept)})
    parts = [part for part in answering_parts(names) if part != ROUTER]
    weights = {part: folder.load_tensors(part) for part in parts}
    former = RunFolder(folder.file(RunFile.BY_GRADIENT)).file(RunFile.HELD_OUT)
    if NETWORK in without and former.is_file():  # the network knows validation clips alone
        kept_in = former
    if NETWORK in without and settings.stem == "cnn":  # its stem goes with it
        settings = settings.model_copy(update={"stem": "kernels"})
        weights[STEM] = read_former_stem(folder)
    table = read_table(kept_in, names, task)
    model = MoE(settings, config.spectro).eval()
    load_weights_into(model, {**weights, ROUTER: model.router.state_dict()})
    rate = int(record["sample_rate_hz"])
    progress("costs", 0, 1)
    costs = Costs(
        {
            name: measure_expert(expert, rate, config.spectro.segment_s)
            for name, expert in model.experts.items()
        },
        partial(measure_glance_ms, model, rate),
    )
    stacks = stack_depths(table.hold(), names)
    budget = config.routing.budget if budget is None else budget
    settled = settle_routing(model, table, stacks, costs, budget, config.classes)
    config = config.model_copy(update={"model": settings, "routing": settled.routing})
    write_routing(folder, config, model, settled, table)
    policy = folder.read_record(RunFile.POLICY, Policy)
    rows = number_rows(policy.candidates, stacks[-1].weights, "taken out by hand")
    folder.write_record(RunFile.POLICY, with_selection(policy, settings, rows))
    renew_architecture(folder)
    if NETWORK in without:  # `train --resume --fit both` may judge it again
        forget_judgement(folder)
    # Last: until it is written an expert is taken out anew by the same command.
    folder.write_record(RunFile.CLOSED, read_fit(folder) | describe_routing(stacks, settled))
    progress("costs", 1, 1)
    return settled


def measure_expert(expert: nn.Module, sample_rate_hz: int, duration_s: float) -> float:
    if isinstance(expert, NetworkExpert):
        return measure_network_ms(expert, sample_rate_hz=sample_rate_hz)
    assert isinstance(expert.spec, KernelsSpec | BackboneSpec)
    return measure_ms(expert.spec, sample_rate_hz=sample_rate_hz, duration_s=duration_s)


def read_closed_config(folder: RunFolder) -> RunConfig:
    """Settings of a run in closed form.

    ConfigError where it is none, RunFolderError where its training did not end.
    """
    config = folder.read_config()
    folder.checkpoint_folder()
    if config.model.router != "promise":
        what = "the router of this run was trained by gradient, so it knows no costs"
        raise ConfigError(what, where=str(folder.path), mend="train again with --fit closed")
    return config


def keep_names(model: ModelConfig, without: Sequence[str], folder: RunFolder) -> tuple[str, ...]:
    """The experts that stay; ConfigError where one is unknown or none is left.

    One that was taken out by a command that was stopped then, before it had written all records, is
    not unknown: the same command writes the rest.
    """
    before = read_fit(folder)["weights"][-1]
    if strange := sorted(set(without) - set(model.expert_names) - set(before)):
        what = f"the run has no expert {', '.join(strange)}"
        mend = f"name some of {', '.join(model.expert_names)}"
        raise ConfigError(what, where=str(folder.path), mend=mend)
    names = tuple(name for name in model.expert_names if name not in without)
    if not names:
        raise ConfigError(
            "one expert must stay", where=str(folder.path), mend="remove fewer experts"
        )
    return names
