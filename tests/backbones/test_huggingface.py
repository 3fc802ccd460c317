"""A tiny audio spectrogram transformer in Hugging Face's layout, with the library where it is."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from tests.fixtures.backbones import sounds
from xmoe.backbones import load_backbone
from xmoe.backbones.check import check_backbone
from xmoe.backbones.presets import write_preset
from xmoe.base.backbone import BackboneCard
from xmoe.base.errors import ConfigError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    library = pytest.importorskip("transformers", reason="needs the extra: make setup-extras")
    folder = tmp_path_factory.mktemp("hf")
    tiny = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = library.ASTModel(library.ASTConfig(intermediate_size=64, **tiny))
    model.save_pretrained(folder / "given")
    library.ASTFeatureExtractor().save_pretrained(folder / "given")
    return folder


@pytest.fixture
def card(folder, tmp_path):
    written = write_preset("ast", tmp_path / "card.json", [folder / "given"])
    return written.model_copy(update={"embedding_size": 32})


def test_sound_becomes_embeddings_as_the_library_makes_them(folder, card, tmp_path):
    import transformers

    heard = sounds(card, 3, samples=16_000)
    extractor = transformers.ASTFeatureExtractor.from_pretrained(folder / "given")
    model = transformers.ASTModel.from_pretrained(folder / "given").eval()
    with torch.inference_mode():
        fed = extractor(list(heard), sampling_rate=16_000, return_tensors="pt")
        wanted = model(**fed).pooler_output.numpy()
    assert load_backbone(card, tmp_path).embed(heard) == pytest.approx(wanted, abs=1e-5)
    assert np.ptp(wanted, axis=0).max() > 1e-3


def test_it_passes_the_check(card, tmp_path):
    checked = check_backbone(card, tmp_path)
    assert [finding.name for finding in checked.findings if not finding.ok] == []


def test_files_that_the_card_does_not_list_are_not_seen(card, tmp_path):
    without = [file for file in card.files if not file.path.endswith("preprocessor_config.json")]
    fewer = BackboneCard.model_validate(card.model_dump() | {"files": without})
    with pytest.raises(ConfigError, match=r"cannot be loaded.*list every file of the model"):
        load_backbone(fewer, tmp_path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sample_rate_hz": 32_000}, "preprocessor takes 16000 Hz, the card says 32000"),
        ({"input": "waveform"}, r"makes \['input_values'\], not 'waveform'"),
        ({"output": "embedding"}, "not 'embedding'"),
    ],
)
def test_a_card_that_does_not_fit(card, tmp_path, changed, said):
    *others, weights = card.model_dump()["files"]
    top = {key: value for key, value in changed.items() if key in BackboneCard.model_fields}
    file = weights | {key: value for key, value in changed.items() if key not in top}
    wrong = BackboneCard.model_validate(card.model_dump() | top | {"files": [*others, file]})
    with pytest.raises(ConfigError, match=said):
        load_backbone(wrong, tmp_path).embed(sounds(wrong, 1, samples=16_000))


def test_code_of_a_model_runs_on_trust_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    given = tmp_path / "given"
    given.mkdir()
    names = ("configuration_ced.py", "feature_extraction_ced.py", "modeling_ced.py")
    for name in (*names, "config.json", "preprocessor_config.json", "model.safetensors"):
        (given / name).write_text("{}")
    card = write_preset("ced-mini", tmp_path / "card.json", [given])
    with pytest.raises(ConfigError, match=r"can run code .* --trust ced-mini"):
        load_backbone(card, tmp_path)
    with pytest.raises(ConfigError, match=r"pip install 'xmoe\[hf\]'"):
        load_backbone(card, tmp_path, trust=["ced-mini"])
