"""From a card's format to what opens its files; other packages add theirs by an entry point.

An opener is a function ``(card, file, path, threads) -> Runner`` and is named in the entry point
group ``xmoe.backbones``. It is imported when a card asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xmoe.base.backbone import BackboneCard, BackboneFile
from xmoe.base.errors import ConfigError

FloatArray = NDArray[np.float32]
# One file of a network: its input of the card's shape -> the output that the card names.
Runner = Callable[[FloatArray], FloatArray]
Opener = Callable[[BackboneCard, BackboneFile, Path, int], Runner]

GROUP = "xmoe.backbones"
BUILT_IN = {
    "onnx": "xmoe.backbones.onnx:open_file",
    "litert": "xmoe.backbones.litert:open_file",
    "huggingface": "xmoe.backbones.huggingface:open_file",
    "torch_export": "xmoe.backbones.torch_files:open_export",
    "torchscript": "xmoe.backbones.torch_files:open_script",
}
# Formats whose files can run code when they are opened.
UNSAFE = frozenset({"torch_export", "torchscript"})


def find_opener(name: str) -> Opener:
    """The opener of a format; ConfigError for one that no package brings."""
    theirs = {point.name: point for point in entry_points(group=GROUP)}
    known = theirs | {key: EntryPoint(key, value, GROUP) for key, value in BUILT_IN.items()}
    if name not in known:
        mend = f"one of {', '.join(sorted(known))}, or install the package that adds it"
        raise ConfigError(f"no format called {name!r}", where="format", mend=mend)
    opener: Opener = known[name].load()
    return opener


def check_shape(
    card: BackboneCard, file: BackboneFile, found: tuple[object, ...], path: Path
) -> None:
    """Raise ConfigError where a network's input has other fixed sizes than the card says.

    ``found`` holds a name, None or -1 where any size will do.
    """
    first = file is card.files[0] and card.least_s is None
    said = [
        card.window_samples if first and size == -1 and axis else size
        for axis, size in enumerate(file.shape)
    ]
    fixed = [isinstance(size, int) and size > 0 for size in found]
    differ = [f and s not in (-1, size) for f, s, size in zip(fixed, said, found, strict=False)]
    if len(said) != len(found) or any(differ):
        what = f"the network takes {list(found)}, the card says {said}"
        mend = "correct sample_rate_hz, window_s or the file's shape"
        raise ConfigError(what, where=str(path), mend=mend)
