"""Plain numbers -> figures whose title says what they show.

Each function takes a record of the run folder and returns a matplotlib ``Figure`` made with the
object interface on the Agg canvas; ``to_png`` turns it into bytes. Nothing here knows a model, a
file name or global state. The colours suit people with any colour vision.
"""

from xmoe.pictures.calibration import draw_calibration
from xmoe.pictures.confusion import draw_confusion
from xmoe.pictures.experts import draw_expert_usage, draw_k_histogram
from xmoe.pictures.learning import draw_learning_curves
from xmoe.pictures.robustness import draw_robustness
from xmoe.pictures.style import to_png

__all__ = [
    "draw_calibration",
    "draw_confusion",
    "draw_expert_usage",
    "draw_k_histogram",
    "draw_learning_curves",
    "draw_robustness",
    "to_png",
]
