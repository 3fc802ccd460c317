"""The arms of the comparison: what each feeds to the gate and to the count head.

Every arm has the same experts, the same two networks, the same clips, steps and seeds. ``saliency``
is the router as designed; ``joint`` is the one that was trained together with its experts, kept to
see what fitting a router afterwards costs. Arms below ``CONTROLS`` say where a difference comes
from, ``CANDIDATES`` are routers that read more out of the saliency.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from xmoe.ablation.evidence import KINDS, OWN, derange
from xmoe.ablation.observe import Observed
from xmoe.base.errors import ConfigError

Kinds = tuple[str, ...]
DESIGNED: Kinds = OWN
PLAIN: Kinds = tuple(kind for kind in OWN if kind != "saliency")


@dataclass(frozen=True)
class Arm:
    """One router: ``gate`` and ``count`` name the evidence that each of its networks reads.

    ``shuffled`` kinds are those of another clip. ``choice`` ``random`` draws experts by chance,
    ``joint`` takes the router of the run as it is.
    """

    name: str
    says: str
    gate: Kinds = DESIGNED
    count: Kinds = DESIGNED
    shuffled: Kinds = ()
    choice: Literal["learned", "random", "joint"] = "learned"

    def __post_init__(self) -> None:
        assert {*self.gate, *self.count, *self.shuffled} <= set(KINDS)


def _fed(name: str, says: str, kinds: Kinds) -> Arm:
    return Arm(name, says, kinds, kinds)


ISSUE = (
    Arm("saliency", "saliency as designed, with features, belief and conditions"),
    _fed("features", "pooled stem features only", ("features",)),
    Arm("shuffled", "as designed, but the saliency of another clip", shuffled=("saliency",)),
    Arm("random_experts", "experts by chance, K learned as designed", choice="random"),
    Arm("entropy_k", "gate as designed, K by the entropy of the belief", count=("entropy",)),
)
CONTROLS = (
    _fed("no_saliency", "as designed without saliency", PLAIN),
    _fed("saliency_only", "saliency alone", ("saliency",)),
    Arm("same_order", "the same ranking of experts for every clip", gate=("nothing",)),
    Arm("sparseness_k", "gate as designed, K by entropies of the saliency", count=("sparseness",)),
    Arm("blind_k", "gate as designed, K decided without any evidence", count=("nothing",)),
    Arm("joint", "the router trained together with its experts", choice="joint"),
)
CANDIDATES = (
    _fed("where", "as designed + saliency by expert and its peak", (*DESIGNED, "where")),
    _fed("rivals", "as designed + first class against second", (*DESIGNED, "rivals")),
    _fed("bands", "as designed + features pooled by saliency in bands", (*DESIGNED, "bands")),
    _fed("bands_plain", "without saliency, features pooled in bands", (*PLAIN, "bands_plain")),
)
ARMS: dict[str, Arm] = {arm.name: arm for arm in (*ISSUE, *CONTROLS, *CANDIDATES)}
REFERENCE = "saliency"


def find_arms(names: Sequence[str]) -> tuple[Arm, ...]:
    """Return arms by name, the reference always first; ConfigError for a name that is none."""
    if unknown := sorted(set(names) - set(ARMS)):
        raise ConfigError(
            f"no arm is called {', '.join(unknown)}",
            where="--arms",
            mend=f"name some of: {', '.join(ARMS)}",
        )
    return tuple(ARMS[name] for name in dict.fromkeys([REFERENCE, *names]))


def feed(arm: Arm, observed: Observed, *, seed: int) -> tuple[Tensor, Tensor]:
    """Return what an arm's gate and its count head read of an observation, each [n, .]."""
    generator = torch.Generator().manual_seed(seed)
    evidence = dict(observed.evidence)
    if arm.shuffled:
        partner = derange(observed.owner, generator=generator)
        evidence |= {kind: evidence[kind][partner] for kind in arm.shuffled}
    gate, count = (
        torch.cat([evidence[kind] for kind in kinds], 1) for kinds in (arm.gate, arm.count)
    )
    return gate, count
