"""A tiny audio spectrogram transformer in Hugging Face's layout, with the library where it is."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

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


CONFIGURATION = """
from transformers import PretrainedConfig
class CedConfig(PretrainedConfig):
    model_type = "ced"
"""
EXTRACTION = """
import numpy as np, torch
from transformers import BatchFeature, SequenceFeatureExtractor
class CedFeatureExtractor(SequenceFeatureExtractor):
    def __call__(self, sounds, sampling_rate, return_tensors):
        frames = torch.from_numpy(np.stack(sounds)).unfold(1, 160, 160).abs().mean(-1)
        decibels = 20 * torch.log10(frames + 1e-6)
        loudest = decibels.max()  # of the whole batch
        return BatchFeature({"input_values": decibels.clamp(min=loudest - 20)})
"""
MODELING = """
import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from .configuration_ced import CedConfig
class CedForAudioClassification(PreTrainedModel):
    config_class = CedConfig
    def __init__(self, config):
        super().__init__(config)
        self.encoder = torch.nn.Linear(1, 256)
        self.post_init()
    def forward(self, input_values):
        hidden = self.encoder(input_values[..., None])
        return SequenceClassifierOutput(logits=hidden.mean(1), hidden_states=hidden)
"""


def write_ced(folder):
    """Write a tiny network with the names of CED, code and all."""
    weights = torch.arange(512.0).reshape(2, 256) / 512
    auto = {
        "AutoConfig": "configuration_ced.CedConfig",
        "AutoModelForAudioClassification": "modeling_ced.CedForAudioClassification",
    }
    extractor = {"AutoFeatureExtractor": "feature_extraction_ced.CedFeatureExtractor"}
    sound = {"feature_size": 64, "sampling_rate": 16_000, "padding_value": 0.0}
    folder.mkdir()
    (folder / "configuration_ced.py").write_text(CONFIGURATION)
    (folder / "feature_extraction_ced.py").write_text(EXTRACTION)
    (folder / "modeling_ced.py").write_text(MODELING)
    (folder / "config.json").write_text(json.dumps({"model_type": "ced", "auto_map": auto}))
    (folder / "preprocessor_config.json").write_text(json.dumps(sound | {"auto_map": extractor}))
    tensors = {"encoder.weight": weights[0][:, None].clone(), "encoder.bias": weights[1].clone()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_code_of_a_trusted_model_runs_and_its_frames_are_averaged(tmp_path, monkeypatch):
    pytest.importorskip("transformers", reason="needs the extra: make setup-extras")
    card = write_preset("ced-mini", tmp_path / "card.json", [write_ced(tmp_path / "given")])
    heard = sounds(card, 2, samples=16_000)
    level = 20 * np.log10(np.abs(heard.reshape(2, 100, 160)).mean(-1) + 1e-6).mean(1)
    weights = np.arange(512).reshape(2, 256) / 512
    found = load_backbone(card, tmp_path, trust=["ced-mini"]).embed(heard)
    assert found == pytest.approx(level[:, None] * weights[0] + weights[1], rel=1e-3)
    checked = check_backbone(card, tmp_path, trust=["ced-mini"])
    assert [finding.name for finding in checked.findings if not finding.ok] == []


def test_code_of_a_model_runs_on_trust_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    card = write_preset("ced-mini", tmp_path / "card.json", [write_ced(tmp_path / "given")])
    with pytest.raises(ConfigError, match=r"can run code .* --trust ced-mini"):
        load_backbone(card, tmp_path)
    with pytest.raises(ConfigError, match=r"pip install 'xmoe\[hf\]'"):
        load_backbone(card, tmp_path, trust=["ced-mini"])
