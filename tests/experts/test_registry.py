"""Kinds by name: each builds, ranks and packs its own, and every spec has one."""

import typing

import pytest
import torch

from tests.fixtures.mixtures import cnn_specs
from xmoe.base.config import CnnSpec, ExpertSpec, ModelConfig
from xmoe.experts.cnn import CnnExpert
from xmoe.experts.protocol import Inputs
from xmoe.experts.registry import KINDS, build_expert, kind_of, pack_payload, rows_of


def test_every_record_of_an_expert_has_its_kind():
    specs = typing.get_args(typing.get_args(ExpertSpec)[0])
    assert {spec.model_fields["kind"].default for spec in specs} == set(KINDS)
    assert all(kind_of(name).kind == name for name in KINDS)


def test_an_expert_is_built_by_name_with_the_sizes_of_its_mixture():
    config = ModelConfig(experts=cnn_specs("low", "high"), num_classes=5, stem_channels=6, k_max=2)
    expert = build_expert(config, "high")
    assert isinstance(expert, CnnExpert)
    assert expert.head.out_features == 5
    assert expert.conv1[0].in_channels == 6
    with pytest.raises(KeyError):
        build_expert(config, "mid")


def test_rows_and_payload_are_those_of_the_kind():
    spec = CnnSpec(name="high", band_hz=(2000.0, 4000.0))
    inputs = Inputs(torch.zeros(2, 3, 8, 4, dtype=torch.uint8), torch.ones(2), 0.04, 2)
    spans = torch.tensor([[[0.0, 0.08], [0.08, 0.16]]])
    assert rows_of(spec, 8) == (4, 8)
    payload = pack_payload(spec, inputs, torch.tensor([1]), spans)
    assert payload["levels"].shape == (1, 3, 4, 4)
