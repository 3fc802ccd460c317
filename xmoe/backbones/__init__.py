"""Pretrained networks as files beside a card: loaded on trust, checked, and fed sound.

``load_backbone`` opens what a ``BackboneCard`` describes; what it returns turns windows of sound
float32 [b, n] into embeddings [b, D] and knows nothing of experts.
"""

from __future__ import annotations

from xmoe.backbones.backbone import Backbone, load_backbone
from xmoe.backbones.files import read_card

__all__ = ["Backbone", "load_backbone", "read_card"]
