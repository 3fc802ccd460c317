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

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xmoe.base.files import write_bytes, write_json
from xmoe.explain.reasons import Reasons
from xmoe.explain.show.numbers import to_record


def explain_clip(
    reasons: Reasons, save_dir: str | Path, *, recording: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write why one clip was answered as it was; returns the content of ``explanation.json``.

    ``recording`` says what all of the recording got whose segment this is; ``files`` in the record
    names the pictures. Raises StorageError where ``save_dir`` cannot be written.
    """
    from xmoe.explain.show.render import PICTURES, draw_answer
    from xmoe.pictures.style import to_png

    folder, method = Path(save_dir), reasons.whys["label"].method
    figures = {f"{name}.png": draw(reasons) for name, draw in PICTURES.items()}
    if method not in ("gradcam", "saliency"):
        figures[f"{method}.png"] = draw_answer(reasons, method)
    for name, figure in figures.items():
        write_bytes(folder / name, to_png(figure))
    record = to_record(reasons) | {"method": method, "files": list(figures)}
    if recording is not None:
        record["recording"] = dict(recording)
    write_json(folder / "explanation.json", record)
    return record
