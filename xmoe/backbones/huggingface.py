"""A folder as Hugging Face lays it out: config, preprocessor and safetensors.

``input`` is what the preprocessor makes of sound and ``output`` a field of the model's answer.
The library sees the card's files alone: code that lies beside them was not checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from xmoe.backbones.files import import_extra, only_listed
from xmoe.backbones.formats import FloatArray, Runner
from xmoe.backbones.torch_files import hold_threads, pick_output
from xmoe.base.backbone import BackboneCard, BackboneFile
from xmoe.base.errors import ConfigError


def open_file(card: BackboneCard, file: BackboneFile, path: Path, threads: int) -> Runner:
    """A runner of the model whose weights are ``path``; ConfigError where it does not fit."""
    library = import_extra("transformers", "hf")
    with only_listed(card, file, path) as linked:
        try:
            extractor, model = _load(library, linked.parent, remote_code=card.remote_code)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            mend = "list every file of the model in the card; code of its own needs remote_code"
            raise ConfigError(f"cannot be loaded: {error}", where=str(path), mend=mend) from error
    rate_hz = getattr(extractor, "sampling_rate", card.sample_rate_hz)
    if rate_hz != card.sample_rate_hz:
        what = f"its preprocessor takes {rate_hz} Hz, the card says {card.sample_rate_hz}"
        raise ConfigError(what, where=str(path), mend="correct sample_rate_hz")

    def run(sound: FloatArray) -> FloatArray:
        with torch.inference_mode(), hold_threads(threads):
            fed = extractor(list(sound), sampling_rate=rate_hz, return_tensors="pt")
            if file.input not in fed:
                what = f"its preprocessor makes {sorted(fed)}, not {file.input!r}"
                raise ConfigError(what, where=str(path))
            return pick_output(model(**{file.input: fed[file.input]}), file, path)

    return run


def _load(library: Any, folder: Path, *, remote_code: bool) -> tuple[Any, Any]:
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": remote_code}
    config = library.AutoConfig.from_pretrained(folder, **options)
    own = getattr(config, "auto_map", None) or {}
    classifier = "AutoModelForAudioClassification"
    made = getattr(
        library, classifier if classifier in own and "AutoModel" not in own else "AutoModel"
    )
    extractor = library.AutoFeatureExtractor.from_pretrained(folder, **options)
    model = made.from_pretrained(folder, config=config, use_safetensors=True, **options)
    return extractor, model.eval()
