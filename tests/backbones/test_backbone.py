"""A backbone hears windows: batches, padding, levels and chains, by numbers."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.fixtures.backbones import SAMPLES, SIZE, describe, sounds, tiny_backbone, write_network
from xmoe.backbones import load_backbone
from xmoe.base.backbone import BackboneCard, BackboneFile
from xmoe.base.errors import ConfigError


def expected(sound: np.ndarray) -> np.ndarray:
    """The tiny network in numpy."""
    loud = np.abs(sound.astype(np.float64))
    mean, peak = loud.mean(1, keepdims=True), loud.max(1, keepdims=True)
    steep = np.abs(np.diff(sound)).mean(1, keepdims=True)
    power = (sound**2).mean(1, keepdims=True)
    measured = np.concatenate([mean, mean - peak, power, steep], 1)
    return measured @ np.random.default_rng(5).standard_normal((4, SIZE)).astype(np.float32)


def test_embeds_any_number_of_windows(tmp_path):
    backbone = load_backbone(tiny_backbone(tmp_path, most_batch=4), tmp_path)
    heard = sounds(backbone.card, 9)
    assert backbone.embed(heard) == pytest.approx(expected(heard), abs=1e-5)
    assert backbone.embed(heard).dtype == np.float32
    assert backbone.embed(heard[:0]).shape == (0, SIZE)


def test_short_sound_is_padded_to_a_fixed_window(tmp_path):
    card = tiny_backbone(tmp_path)
    short = sounds(card, 2, samples=300)
    padded = np.pad(short, ((0, 0), (0, SAMPLES - 300)))
    repeated = np.tile(short, 3)[:, :SAMPLES]
    again = card.model_copy(update={"padding": "repeat"})
    assert load_backbone(card, tmp_path).embed(short) == pytest.approx(expected(padded), abs=1e-5)
    assert load_backbone(again, tmp_path).embed(short) == pytest.approx(
        expected(repeated), abs=1e-5
    )


def test_sound_between_least_and_window_is_taken_as_it_is(tmp_path):
    backbone = load_backbone(tiny_backbone(tmp_path, least_s=0.05), tmp_path)
    short = sounds(backbone.card, 2, samples=500)
    assert backbone.embed(short) == pytest.approx(expected(short), abs=1e-5)
    shorter = np.pad(short[:, :100], ((0, 0), (0, 300)))
    assert backbone.embed(short[:, :100]) == pytest.approx(expected(shorter), abs=1e-5)


@pytest.mark.parametrize("level", ["peak", "rms"])
def test_levels_are_evened_and_silence_stays_silent(tmp_path, level):
    backbone = load_backbone(tiny_backbone(tmp_path, normalise=level), tmp_path)
    heard = sounds(backbone.card, 2)
    heard[1] = heard[0] * 0.01
    loud, soft = backbone.embed(heard)
    assert soft == pytest.approx(loud, rel=1e-4)
    assert np.isfinite(backbone.embed(heard * 0)).all()


def test_files_are_chained_scaled_and_averaged(tmp_path):
    write_network(tmp_path / "tiny.onnx")
    write_network(tmp_path / "second.onnx", any_length=True)
    first = describe(tmp_path / "tiny.onnx", file={"scale": 2.0})
    second = describe(
        tmp_path / "second.onnx",
        file={"shape": (-1, SIZE), "offset": 0.5, "one_by_one": True},
    )
    chain = first.model_copy(update={"files": (*first.files, *second.files)})
    heard = sounds(chain, 3)
    assert load_backbone(chain, tmp_path).embed(heard) == pytest.approx(
        expected((expected(2 * heard) + 0.5).astype(np.float32)), abs=1e-5
    )


def test_threads_ask_at_once(tmp_path):
    backbone = load_backbone(tiny_backbone(tmp_path), tmp_path)
    heard = sounds(backbone.card, 24)
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda row: backbone.embed(row[None])[0], heard))
    assert np.stack(rows) == pytest.approx(expected(heard), abs=1e-5)


def test_windows_of_a_wrong_shape_are_our_mistake(tmp_path):
    backbone = load_backbone(tiny_backbone(tmp_path), tmp_path)
    for shape in ((SAMPLES,), (1, SAMPLES + 1), (1, 0)):
        with pytest.raises(ValueError, match="is not"):
            backbone.embed(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sample_rate_hz": 16_000}, r"takes \['b', 800\], the card says \[-1, 1600\]"),
        ({"file": {"shape": (-1, 1, -1)}}, "correct sample_rate_hz, window_s or the file's shape"),
        ({"file": {"input": "audio"}}, r"inputs are \['sound'\], not 'audio'"),
        ({"file": {"output": "logits"}}, r"outputs are \['embedding'\], not 'logits'"),
        ({"file": {"sha256": "0" * 64}}, "the card says 000000000000"),
        ({"file": {"path": "other.onnx"}}, "other.onnx: no weights: No such file"),
        ({"format": "keras"}, "no format called 'keras' .one of"),
    ],
)
def test_a_card_that_does_not_fit_its_file(tmp_path, changed, said):
    with pytest.raises(ConfigError, match=said):
        load_backbone(tiny_backbone(tmp_path, **changed), tmp_path)


def test_an_embedding_of_another_size(tmp_path):
    backbone = load_backbone(tiny_backbone(tmp_path, embedding_size=7), tmp_path)
    with pytest.raises(ConfigError, match=r"backbone tiny: an embedding has 6 numbers .* not 7"):
        backbone.embed(sounds(backbone.card, 1))


def test_a_file_that_only_lies_there_is_checked_too(tmp_path):
    card = tiny_backbone(tmp_path)
    shutil.copy(tmp_path / "tiny.onnx", tmp_path / "other.bin")
    other = BackboneFile(path="other.bin", sha256=card.files[0].sha256)
    more = BackboneCard.model_validate(card.model_dump() | {"files": [card.files[0], other]})
    heard = sounds(card, 1)
    assert load_backbone(more, tmp_path).embed(heard) == pytest.approx(expected(heard), abs=1e-5)
    (tmp_path / "other.bin").write_bytes(b"changed")
    with pytest.raises(ConfigError, match=r"other\.bin: its SHA-256 is"):
        load_backbone(more, tmp_path)
