"""Multiply-adds by hand: what the file's shapes say, and None where they do not."""

from __future__ import annotations

from tests.fixtures.backbones import SAMPLES, SIZE, describe, tiny_backbone, write_network
from xmoe.backbones.macs import count_macs


def test_a_convolution_and_a_matrix(tmp_path):
    assert count_macs(tiny_backbone(tmp_path), tmp_path) == (SAMPLES - 1) * 2 + 4 * SIZE


def test_a_length_that_only_the_card_says(tmp_path):
    write_network(tmp_path / "tiny.onnx", any_length=True)
    card = describe(tmp_path / "tiny.onnx", window_s=0.05)
    assert count_macs(card, tmp_path) == (400 - 1) * 2 + 4 * SIZE


def test_what_cannot_be_counted(tmp_path):
    write_network(tmp_path / "tiny.onnx", any_length=True)
    card = describe(tmp_path / "tiny.onnx")
    chain = card.model_copy(update={"files": (*card.files, *card.files)})
    assert count_macs(chain, tmp_path) is None
    assert count_macs(card.model_copy(update={"format": "torchscript"}), tmp_path) is None
