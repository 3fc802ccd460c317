"""A store of clips -> the answers of stem and every expert, and from them any mixture's accuracy.

Every expert is asked once. Fixed numbers of experts, each expert alone, dead experts and every
price of the router are then arithmetic on known answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.backbones.windows import place_windows
from xmoe.base.config import BackboneSpec
from xmoe.base.progress import Progress, silent
from xmoe.features.segments import eval_segments
from xmoe.features.store import SpectrogramStore
from xmoe.frontend.threads import one_thread
from xmoe.glance.router import choose_counts, count_costs
from xmoe.mixture.calls import call_experts
from xmoe.mixture.combine import blend, stack_replies
from xmoe.mixture.plan import Plan, Preference
from xmoe.mixture.promise_router import PromiseRouter, renew_evidence
from xmoe.predict.predictor import Predictor
from xmoe.training.closed import rightness
from xmoe.training.promise import PRICES, mix_blindly
from xmoe.training.promises import HeldTable, mix_depths

SHARES = (0.1, 0.2, 0.35, 0.5, 0.75)  # of the cost of all experts
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """Answers to n segments: ``stem`` [n, C], ``experts`` [E, n, C], and the router's evidence.

    ``evidence`` [n, G], ``promises`` [n, K_max + 1]; ``clip`` [n] says whose each segment is,
    ``truth`` [clips, C].
    """

    stem: Tensor
    experts: Tensor
    evidence: Tensor
    promises: Tensor
    preference: Preference
    clip: Tensor
    truth: Tensor


def ask_everyone(
    predictor: Predictor, store: SpectrogramStore, *, progress: Progress = silent
) -> Answers:
    model, config = predictor.model, predictor.config
    everyone = len(config.model.experts)
    plans: list[Plan] = []
    said: list[Tensor] = []
    clip: list[int] = []
    with one_thread(), torch.inference_mode():
        for index in range(len(store)):
            segments = eval_segments(store, predictor.frontend, [index])
            plan, inputs = model.prepare(
                segments.spec, config.routing, sound=segments.sound, k=everyone
            )
            replies = call_experts(predictor.experts, model.requests(plan, inputs))
            plans.append(plan)
            said.append(stack_replies(plan, replies)[0])
            clip += [index] * len(segments.spec)
            progress("experts alone", index + 1, len(store))
    truth = predictor.task.rows(store.targets, len(config.classes))
    return Answers(
        stem=torch.cat([plan.stem_logits for plan in plans]),
        experts=torch.cat(said, 1),
        evidence=torch.cat([plan.evidence for plan in plans]),
        promises=torch.cat([plan.promises for plan in plans]),
        preference=_join([plan.preference for plan in plans]),
        clip=torch.tensor(clip),
        truth=torch.from_numpy(truth),
    )


def _join(parts: Sequence[Preference]) -> Preference:
    names = ("ranking", "log_shares", "stem_shares")
    return Preference(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


class DepthJudge:
    """What any choice of experts would have scored; what is blind is chosen by ``held``."""

    def __init__(self, predictor: Predictor, answers: Answers, held: HeldTable) -> None:
        self.answers, self.predictor = answers, predictor
        config = predictor.config
        self.names, self.routing = config.model.expert_names, config.routing
        most = config.model.k_max
        self.costs = count_costs(most + 1, self.routing.costs_ms, answers.stem.device).double()
        self.temperatures = torch.tensor(self.routing.temperatures or (1.0,) * (most + 1))
        assert isinstance(predictor.model.router, PromiseRouter)
        self.router = predictor.model.router
        self.renewed = [self._renew(depth) for depth in range(most + 1)]
        self.held_rights = held_rights(held, self.router.shares)

    def describe(self) -> dict[str, Any]:
        """All figures; none needs another call to an expert."""
        everyone = len(self.names)
        return {
            "accuracy_at_fixed_k": {str(k): self.at(k) for k in range(everyone + 1)},
            "ms_at_fixed_k": {
                str(k): round(self.routing.glance_ms + float(self.costs[k]), 3)
                for k in range(everyone + 1)
            },
            "alone": {name: self.alone(index) for index, name in enumerate(self.names)},
            "ms_alone": dict(zip(self.names, self.routing.costs_ms, strict=True)),
            "dead": {str(count): self.dead(count) for count in (1, 2) if count < everyone},
            "everyone": self.point(torch.full((len(self.answers.stem),), everyone)),
            "curve": self.curve(),
            "at_share": {f"{share:g}": self.at_share(share) for share in SHARES},
        }

    def right_of(self, k: Tensor, gone: Sequence[int] = ()) -> Floats:
        """How right each clip's answer is where segment i asks ``k[i]`` experts [n].

        Experts in ``gone`` do not answer; the others' weights are renormalised.
        """
        answers, preference = self.answers, self.answers.preference
        weights = preference.choose(k)
        if gone:
            weights = weights.index_fill(1, torch.tensor(list(gone)), 0.0)
            weights = weights / weights.sum(1, keepdim=True).clamp_min(1e-12)
        answered = (weights > 0).sum(1)
        most = preference.stem_shares.shape[1] - 1
        share = preference.stem_shares.gather(1, answered.clamp_max(most)[:, None]).squeeze(1)
        logits = blend(answers.stem, answers.experts, weights, share)
        return self._judge(logits / self.temperatures[answered.clamp_max(most)].unsqueeze(1))

    def at(self, k: int) -> float:
        """Accuracy with ``k`` experts everywhere."""
        return float(self.right_of(torch.full((len(self.answers.stem),), k)).mean())

    def alone(self, index: int) -> float:
        return float(self._judge(self.answers.experts[index]).mean())

    def dead(self, count: int) -> dict[str, float]:
        """Mean and worst accuracy where ``count`` experts are dead."""
        k = torch.full((len(self.answers.stem),), len(self.names))
        sets = combinations(range(len(self.names)), count)
        rights = [float(self.right_of(k, gone).mean()) for gone in sets]
        return {"mean": float(np.mean(rights)), "worst": min(rights)}

    def curve(self) -> list[dict[str, float]]:
        return [{"price": price, **self.point(self.count_at(price))} for price in PRICES]

    def point(self, k: Tensor) -> dict[str, float]:
        """Cost and accuracy where segment i asks ``k[i]`` experts [n].

        Where pretrained networks may be asked, ``calls`` are the windows sent to them, as a share
        of all windows of all segments.
        """
        found = {
            "mean_ms": round(self.routing.glance_ms + float(self.costs[k].mean()), 4),
            "mean_k": round(float(k.double().mean()), 4),
            "accuracy": float(self.right_of(k).mean()),
        }
        sent, whole = 0.0, 0
        for index, spec in enumerate(self.predictor.config.model.experts):
            if isinstance(spec, BackboneSpec):
                every = len(place_windows(self.predictor.config.spectro.segment_s, spec.card))
                sent += float((k > index).double().mean()) * min(spec.windows or every, every)
                whole += every
        return found | ({"calls": round(sent / whole, 4)} if whole else {})

    def at_share(self, share: float) -> dict[str, float]:
        """What the router scores at a share of the milliseconds of all, and what others score.

        ``random`` asks everyone for clips drawn by lot. ``blind`` mixes fixed numbers of experts;
        which, it knows from held-out clips, as the router knows its promises. ``hindsight`` is the
        best that such a choice can do on test.
        """
        glance = self.routing.glance_ms
        spent = share * (glance + float(self.costs[-1]))
        points = sorted((p["mean_ms"], p["accuracy"]) for p in self.curve())
        costs, rights = (np.array(column) for column in zip(*points, strict=True))
        fixed, ends = np.array([self.at(k) for k in range(len(self.names) + 1)]), [0, -1]
        of_fixed = glance + self.costs.numpy()
        blind = {
            name: float(mix_blindly(of_fixed, known, spent) @ fixed)
            for name, known in (("blind", self.held_rights), ("hindsight", fixed))
        }
        return {
            "ms": spent,
            "routed": float(np.interp(spent, costs, rights)),
            "random": float(np.interp(spent, of_fixed[ends], fixed[ends])),
        } | blind

    def count_at(self, price: float) -> Tensor:
        """How many experts each segment asks at a price, in two rounds."""
        first = int(self.router.first_most)
        asked = choose_counts(self.answers.promises, price, first, costs_ms=self.routing.costs_ms)
        final = asked.clone()
        for depth in range(1, len(self.names)):
            rows = asked == depth
            worth = (
                self.renewed[depth][:, depth:] - price * (self.costs - self.costs[depth])[depth:]
            )
            final[rows] = depth + worth.argmax(1)[rows]
        return final

    def _renew(self, depth: int) -> Tensor:
        """Promises [n, K_max + 1] once the first ``depth`` experts have answered."""
        answers = self.answers
        if depth == 0:
            return answers.promises
        k = torch.full((len(answers.stem),), depth)
        share = answers.preference.stem_shares[:, depth]
        mixed = blend(answers.stem, answers.experts, answers.preference.choose(k), share)
        experts = torch.cat([answers.stem.unsqueeze(0), answers.experts[:depth]])
        evidence = renew_evidence(answers.evidence, experts, mixed, self.router.task)
        return self.router.promise(evidence, depth)

    def _judge(self, logits: Tensor) -> Floats:
        """How right clips are whose segments have logits [n, C]."""
        clips = len(self.answers.truth)
        count = torch.bincount(self.answers.clip, minlength=clips).unsqueeze(1)
        pooled = (
            torch.zeros(clips, logits.shape[1]).index_add_(0, self.answers.clip, logits) / count
        )
        right = self.predictor.task.rightness(pooled, self.answers.truth)
        return right.double().numpy()


def held_rights(held: HeldTable, shares: Tensor) -> Floats:
    """How often held-out segments are right [K_max + 1] with the first 0, 1, ... experts.

    ``shares`` are those of the router.
    """
    mixed = mix_depths(torch.from_numpy(held.logits[:, 0]), shares.double()).numpy()
    return np.array([rightness(one, held.rows, held.task).mean() for one in mixed])
