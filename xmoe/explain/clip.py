"""One clip -> five pictures and their numbers in a folder.

    gradcam.png           why this label, and what each expert saw
    why_experts.png       why these experts
    why_k.png             why this K, and why these windows
    saliency_router.png   what the router looks at
    patch_routing.png     which experts, how many, where
    explanation.json      all of it as numbers; written last, so where it is, the pictures are

Another method adds ``<method>.png``. Each file is replaced atomically.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from xmoe.base.files import write_bytes, write_json
from xmoe.explain.methods import METHODS
from xmoe.explain.numbers import to_record
from xmoe.explain.reasons import find_reasons
from xmoe.explain.subject import Subject
from xmoe.mixture.plan import Plan


def explain_clip(
    subject: Subject,
    spec: Tensor,
    save_dir: str | Path,
    *,
    plan: Plan | None = None,
    method: str = "gradcam",
    start_s: float = 0.0,
) -> dict[str, Any]:
    """Explain the answer to one spectrogram [F, T]; return what ``explanation.json`` holds.

    ``plan`` is the plan of this clip alone, made where it is not given; ``start_s`` is where the
    spectrogram begins in its recording. ``files`` in the record names the pictures. Raises
    ValueError for an unknown method, StorageError where ``save_dir`` cannot be written.
    """
    from xmoe.explain.render import PICTURES, draw_answer
    from xmoe.pictures.style import to_png

    reasons = find_reasons(subject, spec, plan=plan, method=method, start_s=start_s)
    folder = Path(save_dir)
    figures = {f"{name}.png": draw(reasons) for name, draw in PICTURES.items()}
    if method not in ("gradcam", "saliency"):
        figures[f"{method}.png"] = draw_answer(reasons, method)
    for name, figure in figures.items():
        write_bytes(folder / name, to_png(figure))
    record = to_record(reasons) | {"method": method, "files": list(figures)}
    write_json(folder / "explanation.json", record)
    return record


def method_names() -> tuple[str, ...]:
    """Return the methods that ``explain_clip`` knows."""
    return tuple(METHODS)
