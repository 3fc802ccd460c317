"""Pretrained networks as files beside a card: loaded on trust, checked, and fed sound.

``load_backbone`` opens what a ``BackboneCard`` describes; what it returns turns windows of sound
float32 [b, n] into embeddings [b, D] and knows nothing of experts.
"""
