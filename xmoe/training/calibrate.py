"""Fitted weights + validation clips -> the routing: where, how many, and calibration.

Every choice is made on validation clips and noisy copies of them, never on test, and carries its
reason. *Where*: the smallest share of windows, and the selector of windows, that loses no more
accuracy than the budget allows. *How many*: the price per expert at which the promises of the
router meet the budget. Then one temperature per K, and the probability below which an answer is
called uncertain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.base.config import LATENCY_K, RoutingConfig, RunConfig, SelectorName
from xmoe.base.errors import ConfigError
from xmoe.base.task import Task, task_of
from xmoe.features.segments import Segments, eval_segments, join_copies
from xmoe.features.store import SpectrogramStore
from xmoe.frontend.base import Frontend
from xmoe.frontend.spec_augment import add_noise_power
from xmoe.glance.router import choose_counts
from xmoe.metrics import fit_temperature
from xmoe.mixture.calls import call_experts
from xmoe.mixture.combine import blend, stack_replies
from xmoe.mixture.moe import MoE
from xmoe.mixture.plan import choose_experts
from xmoe.training.budget import Doubt, choose_doubt, no_doubt

SELECTORS: tuple[SelectorName, ...] = ("saliency", "cam", "feature", "energy")
FRACTIONS = (1 / 8, 1 / 4, 1 / 2, 1.0)
NOISE_DB = (15.0, 5.0)  # SNR of the noisy copies, mild and strong
ALLOWED_LOSS_SE = {"accuracy": 0.5, "latency": 2.0}  # standard errors of accuracy
MAX_CLIPS = 1000  # every clip is answered for each selector and share


@dataclass(frozen=True)
class Trial:
    """What every expert answered for the validation clips, for one selector and share of windows.

    ``stem`` [n, C], ``experts`` [E, n, C], ``gate`` [n, E], ``promises`` [n, K_max + 1] per
    segment; ``segments`` says whose each is; ``targets`` [clips, C].
    """

    stem: Tensor
    experts: Tensor
    gate: Tensor
    promises: Tensor
    segments: Segments
    targets: Tensor
    task: Task

    def logits_at(self, k: Tensor) -> Tensor:
        """Clip logits [clips, C] when segment i asks ``k[i]`` experts."""
        weights = choose_experts(self.gate.clamp_min(1e-12).log(), k)
        mixed = blend(self.stem, self.experts, weights)
        return self.segments.pool(mixed, len(self.targets))

    def right_at(self, k: Tensor) -> npt.NDArray[np.float64]:
        """How right each clip's answer is, [clips]."""
        return self.task.rightness(self.logits_at(k), self.targets).double().numpy()

    def loss_at(self, k: Tensor) -> float:
        return float(self.task.loss(self.logits_at(k), self.targets))

    def all_ask(self, k: int) -> Tensor:
        """K [n] with every segment asking ``k`` experts."""
        return torch.full((len(self.stem),), k)


def calibrate(
    model: MoE, frontend: Frontend, config: RunConfig, store: SpectrogramStore, budget: str | float
) -> RoutingConfig:
    """The routing that validation clips in ``store`` support for a budget.

    ``budget`` is ``"accuracy"``, ``"latency"`` or the mean number of experts per answer.
    """
    budget = check_budget(budget, config.model.k_max)
    model = model.cpu().eval()
    copies = _copies(frontend, config, store)
    k_max = config.model.k_max
    trials = {
        (selector, fraction): _merge([_try(model, c, selector, fraction) for c in copies])
        for fraction in FRACTIONS
        for selector in (SELECTORS if fraction < 1 else SELECTORS[:1])
    }
    selector, fraction, where = _choose_where(trials, k_max, budget)
    trial = trials[selector, fraction]
    price, how_many = _choose_price(trial, budget)
    clean = _try(model, copies[0], selector, fraction)
    temperatures = tuple(
        round(fit_temperature(clean.logits_at(clean.all_ask(k)), clean.targets, clean.task), 4)
        for k in range(k_max + 1)
    )
    doubt = _judge_doubt(clean, price, temperatures)
    return RoutingConfig(
        budget=budget,
        k_price=price,
        selector=selector,
        window_fraction=fraction,
        temperatures=temperatures,
        uncertain_below=doubt.threshold,
        reasons={"windows": where, "k": how_many, "uncertain": doubt.reason},
    )


def check_budget(budget: str | float, k_max: int) -> str | float:
    """Pass a valid budget on; raises ConfigError otherwise."""
    if budget in ALLOWED_LOSS_SE:
        return budget
    try:
        mean_k = float(budget)
    except ValueError:
        mean_k = -1.0
    if not 0.0 <= mean_k <= k_max:
        what = f"budget {budget!r} is neither 'accuracy', 'latency' nor a mean K from 0 to {k_max}"
        raise ConfigError(what, where="--budget", mend="name one of these")
    return mean_k


def _copies(
    frontend: Frontend, config: RunConfig, store: SpectrogramStore
) -> list[tuple[Segments, Tensor]]:
    """Clean and noisy segments of the validation clips with their targets."""
    generator = torch.Generator().manual_seed(config.train.seed)
    rows = torch.randperm(len(store), generator=generator)[:MAX_CLIPS].sort().values.tolist()
    task, classes = task_of(config.model.task), config.model.num_classes
    targets = task.soft_targets(store.targets[rows], classes)
    copies = [(eval_segments(store, frontend, rows), targets)]
    for snr_db in NOISE_DB:
        segments = eval_segments(
            store,
            frontend,
            rows,
            change=lambda power, snr=snr_db: add_noise_power(  # type: ignore[misc]
                power, snr_db_range=(snr, snr), generator=generator
            ),
        )
        copies.append((segments, targets))
    return copies


@torch.no_grad()
def _try(
    model: MoE, copy: tuple[Segments, Tensor], selector: SelectorName, fraction: float
) -> Trial:
    segments, targets = copy
    routing = RoutingConfig(selector=selector, window_fraction=fraction)
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for spec in segments.spec.split(128):
        plan, inputs = model.prepare(spec, routing, k=len(model.config.experts))
        replies = call_experts(model.callers(), model.requests(plan, inputs))
        logits, _ = stack_replies(plan, replies)
        parts.append((plan.stem_logits, logits, plan.gate, plan.promises))
    stem, experts, gate, promises = zip(*parts, strict=True)
    return Trial(
        stem=torch.cat(stem),
        experts=torch.cat(experts, 1),
        gate=torch.cat(gate),
        promises=torch.cat(promises),
        segments=segments,
        targets=targets,
        task=model.task,
    )


def _merge(trials: list[Trial]) -> Trial:
    """One trial over all copies, each copy's clips counted as clips of their own."""
    return Trial(
        stem=torch.cat([t.stem for t in trials]),
        experts=torch.cat([t.experts for t in trials], 1),
        gate=torch.cat([t.gate for t in trials]),
        promises=torch.cat([t.promises for t in trials]),
        segments=join_copies([t.segments for t in trials], len(trials[0].targets)),
        targets=torch.cat([t.targets for t in trials]),
        task=trials[0].task,
    )


def _choose_where(
    trials: dict[tuple[SelectorName, float], Trial], k_max: int, budget: str | float
) -> tuple[SelectorName, float, str]:
    allowed = ALLOWED_LOSS_SE["latency" if budget == "latency" else "accuracy"]
    whole = trials["saliency", 1.0]
    reference = whole.right_at(whole.all_ask(k_max))
    for fraction in FRACTIONS[:-1]:
        options = {s: t for (s, f), t in trials.items() if f == fraction}
        best = min(options, key=lambda s: (options[s].loss_at(options[s].all_ask(k_max)), s))
        if _ties(options["saliency"], options[best], k_max):
            best = "saliency"
        right = options[best].right_at(options[best].all_ask(k_max))
        lost = float(np.mean(reference - right))
        error = _standard_error(reference - right)
        if lost <= allowed * error:
            why = (
                f"{fraction:g} of the windows chosen by {best} score {right.mean():.3f} on "
                f"validation with noisy copies; the whole map scores {reference.mean():.3f} "
                f"(standard error of the difference {error:.3f})"
            )
            return best, fraction, why
    why = (
        f"the whole map is sent: it scores {reference.mean():.3f} on validation and every "
        f"smaller share lost more than {allowed:g} standard errors"
    )
    return "saliency", 1.0, why


def _ties(one: Trial, other: Trial, k_max: int) -> bool:
    """Whether ``one`` is as right as ``other`` within a standard error of the difference."""
    difference = other.right_at(other.all_ask(k_max)) - one.right_at(one.all_ask(k_max))
    return float(difference.mean()) <= _standard_error(difference)


def _standard_error(values: npt.NDArray[np.float64]) -> float:
    """Standard error of a mean, never under that of one clip in 4 n."""
    return max(float(values.std()) / float(np.sqrt(len(values))), 0.25 / len(values))


def _choose_price(trial: Trial, budget: str | float) -> tuple[float, str]:
    """The price per expert and the reason.

    A negative price is a bonus per expert: with -1 all K_max are always asked, which is right where
    the promises are worth little.
    """
    prices = [-1.0, -0.1, -0.03, -0.01, 0.0, *np.geomspace(1e-4, 1.0, 60).tolist()]
    rows = []
    for price in prices:
        k = choose_counts(trial.promises, price)
        rows.append((price, float(k.float().mean()), trial.right_at(k)))
    if budget == "accuracy":
        best = max(rows, key=lambda row: float(row[2].mean()))
        good = [
            row
            for row in rows
            if float((best[2] - row[2]).mean())
            <= ALLOWED_LOSS_SE["accuracy"] * _standard_error(best[2] - row[2])
        ]
        price, mean_k, right = max(good, key=lambda row: row[0])
        why = "the dearest price that loses no more than half a standard error"
    else:
        aim = LATENCY_K if budget == "latency" else float(budget)
        price, mean_k, right = min(rows, key=lambda row: (abs(row[1] - aim), row[0]))
        why = f"the price whose mean K is nearest to {aim:g}"
    return round(float(price), 6), (
        f"{why}: mean K {mean_k:.2f}, {right.mean():.3f} right on validation with noisy copies"
    )


def _judge_doubt(trial: Trial, price: float, temperatures: tuple[float, ...]) -> Doubt:
    """The top probability under which validation answers are called uncertain."""
    if not trial.task.exclusive:
        return no_doubt("several labels: no single top probability")
    k = choose_counts(trial.promises, price)
    scale = torch.tensor(temperatures)[k].unsqueeze(1)
    weights = choose_experts(trial.gate.clamp_min(1e-12).log(), k)
    logits = blend(trial.stem, trial.experts, weights) / scale
    pooled = trial.segments.pool(logits, len(trial.targets))
    top = trial.task.probabilities(pooled).amax(1).double().numpy()
    right = trial.task.rightness(pooled, trial.targets).double().numpy()
    return choose_doubt(top, right, np.arange(len(top)))
