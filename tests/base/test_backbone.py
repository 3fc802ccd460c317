"""A card: windows in the seconds of a recording, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from xmoe.base.backbone import BackboneCard
from xmoe.base.config import BackboneSpec

FILE = {"path": "net.onnx", "sha256": "0" * 64, "input": "sound", "output": "embedding"}


def card(**changed: Any) -> BackboneCard:
    return BackboneCard.model_validate(
        {
            "name": "net",
            "format": "onnx",
            "files": [FILE],
            "sample_rate_hz": 48_000,
            "window_s": 3.0,
            "embedding_size": 1024,
            "licence": "MIT",
            "source": "a test",
        }
        | changed
    )


def test_windows_are_in_seconds_of_the_network():
    assert card().window_samples == 144_000
    assert card().step_s == 1.5
    slowed = card(speed_factor=10.0, hop_s=1.0)
    assert slowed.span_s == pytest.approx(0.3)
    assert slowed.step_s == pytest.approx(0.1)
    assert BackboneSpec(name="net", card=slowed).band_hz == (0.0, 240_000.0)


def test_a_head_reads_each_pooling():
    assert card().num_features == 2048
    assert card(pooling=["mean"]).num_features == 1024


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"least_s": 4.0}, "longer than window_s"),
        ({"files": [FILE | {"output": None}]}, "no file names the output"),
        ({"files": [FILE | {"sha256": "abc"}]}, "sha256"),
        ({"name": "../net"}, "name"),
        ({"licence": ""}, "licence"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_a_card_refuses(changed: dict[str, Any], said: str):
    with pytest.raises(ValidationError, match=said):
        card(**changed)
