"""A plan + what the router has at hand -> what each expert is sent.

The stem map is held as uint8 with one scale per clip, in this process as on the wire, so that the
same plan has the same answer wherever it is carried out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from xmoe.base.config import ExpertSpec
from xmoe.experts.protocol import ExpertRequest, Inputs
from xmoe.experts.registry import pack_payload
from xmoe.mixture.plan import Plan

LEVELS = 255


def quantise(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return (uint8 [B, D, R, W], scale [B]) of a non-negative map; one scale per clip."""
    peak = features.amax((1, 2, 3)).clamp_min(1e-8)
    scale = peak / LEVELS
    levels = (features / scale[:, None, None, None]).round().clamp(0, LEVELS)
    return levels.to(torch.uint8), scale


def make_requests(plan: Plan, inputs: Inputs, experts: Sequence[ExpertSpec]) -> list[ExpertRequest]:
    """Return one request of all its clips for each expert that any clip chose.

    ``experts`` are those of the plan, in its order.
    """
    chosen = (plan.weights > 0).cpu().numpy()
    requests = []
    for index in np.flatnonzero(chosen.any(0)).tolist():
        rows = torch.from_numpy(np.flatnonzero(chosen[:, index])).to(plan.weights.device)
        spans = plan.spans[rows, index]
        payload = pack_payload(experts[index], inputs, rows, spans)
        requests.append(ExpertRequest(plan.expert_names[index], rows, payload))
    return requests
