"""Cards and files that are refused, each with its place, cause and mend."""

from __future__ import annotations

import json
import sys

import pytest

from tests.fixtures.backbones import tiny_backbone
from xmoe.backbones import files
from xmoe.backbones.files import demand_trust, import_extra, read_card, verify_files
from xmoe.base.errors import ConfigError


def test_a_card_is_read_as_it_was_written(tmp_path):
    card = tiny_backbone(tmp_path)
    path = tmp_path / "tiny.json"
    path.write_text(card.model_dump_json())
    assert read_card(path) == card
    assert verify_files(card, tmp_path) == [tmp_path / "tiny.onnx"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sample_rate_hz": 10}, "sample_rate_hz: Input should be greater than or equal to 1000"),
        ({"window": 3}, "window: Extra inputs are not permitted"),
        ({"files": []}, "files: Tuple should have at least 1 item"),
        ({"least_s": 9.0}, "least_s 9.0 is longer than window_s"),
    ],
)
def test_the_field_is_named(tmp_path, changed, said):
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(tiny_backbone(tmp_path).model_dump(mode="json") | changed))
    with pytest.raises(ConfigError, match=said) as caught:
        read_card(path)
    assert caught.value.where == str(path)
    assert "xmoe backbone init" in str(caught.value.mend)


@pytest.mark.parametrize("path", ["/etc/passwd", "../tiny.onnx", "net/../../tiny.onnx"])
def test_files_lie_beside_their_card(tmp_path, path):
    card = tiny_backbone(tmp_path, file={"path": path})
    (tmp_path / "tiny.json").write_text(card.model_dump_json())
    with pytest.raises(ConfigError, match="leads out of the card's folder"):
        read_card(tmp_path / "tiny.json")


def test_no_card_torn_card_endless_card(tmp_path, monkeypatch):
    path = tmp_path / "tiny.json"
    with pytest.raises(ConfigError, match="no card: No such file"):
        read_card(path)
    path.write_text('{"name": "ti')
    with pytest.raises(ConfigError, match="Invalid JSON"):
        read_card(path)
    monkeypatch.setattr(files, "MAX_CARD_BYTES", 3)
    with pytest.raises(ConfigError, match="too large for a card"):
        read_card(path)


def test_a_file_over_the_limit_is_not_read(tmp_path, monkeypatch):
    card = tiny_backbone(tmp_path)
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 100)
    monkeypatch.setattr(files, "hash_file", None)
    with pytest.raises(ConfigError, match="more than 100 bytes"):
        verify_files(card, tmp_path)


def test_trust_is_by_name_of_card_or_file(tmp_path):
    card = tiny_backbone(tmp_path)
    path = tmp_path / "tiny.onnx"
    demand_trust(card, path, ["tiny"])
    demand_trust(card, path, ["tiny.onnx"])
    with pytest.raises(ConfigError, match=r"can run code .* --trust tiny"):
        demand_trust(card, path, ["other"])


def test_a_missing_extra_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"onnxruntime is not installed.*pip install 'xmoe\[onnx"):
        import_extra("onnxruntime", "onnx")
