"""Probabilities + targets -> figures with intervals, and the temperature that calibrates logits."""

from xmoe.metrics.calibration import fit_temperature
from xmoe.metrics.summary import compute_metrics

__all__ = ["compute_metrics", "fit_temperature"]
