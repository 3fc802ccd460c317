"""Programs of torch: opened only on trust, one thread, outputs by place or key."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from tests.fixtures.backbones import SAMPLES, SIZE, describe, sounds
from xmoe.backbones import load_backbone
from xmoe.base.errors import ConfigError


class Net(torch.nn.Module):
    """Loudness times weights; a dict where ``named``."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(1, SIZE)

    def forward(self, sound: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"embedding": self.head(sound.abs().mean(1, keepdim=True)), "loud": sound.abs()}


class Tensors(Net):
    def forward(self, sound: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return sound.abs(), self.head(sound.abs().mean(1, keepdim=True))


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Net().eval()


def save(net, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix == ".ts":
            torch.jit.script(net).save(path)
        else:
            any_batch = torch.export.Dim("b", min=1, max=64)
            example = (torch.zeros(2, SAMPLES),)
            program = torch.export.export(net, example, dynamic_shapes=({0: any_batch},))
            torch.export.save(program, path)


@pytest.mark.parametrize(
    ("name", "format_"), [("net.ts", "torchscript"), ("net.pt2", "torch_export")]
)
def test_a_program_is_opened_on_trust_alone(tmp_path, net, name, format_):
    save(net, tmp_path / name)
    card = describe(tmp_path / name, format=format_)
    with pytest.raises(ConfigError, match=rf"{name}: .* can run code .* --trust tiny"):
        load_backbone(card, tmp_path)
    heard = sounds(card, 5)
    threads = torch.get_num_threads()
    found = load_backbone(card, tmp_path, trust=["tiny"]).embed(heard)
    assert torch.get_num_threads() == threads
    with torch.inference_mode():
        wanted = net(torch.from_numpy(heard))["embedding"].numpy()
    assert found == pytest.approx(wanted, abs=1e-6)


def test_outputs_without_names_go_by_place(tmp_path, net):
    tensors = Tensors()
    tensors.load_state_dict(net.state_dict())
    save(tensors, tmp_path / "net.ts")
    heard = sounds(describe(tmp_path / "net.ts"), 2)

    def embed(output, size=SIZE):
        card = describe(
            tmp_path / "net.ts",
            format="torchscript",
            file={"output": output},
            embedding_size=size,
        )
        return load_backbone(card, tmp_path, trust=["net.ts"]).embed(heard)

    assert embed(1).shape == (2, SIZE)
    assert np.array_equal(embed(0, SAMPLES), np.abs(heard))
    for output in (2, "embedding"):
        with pytest.raises(ConfigError, match=f"outputs are 0 to 1, not {output!r}"):
            embed(output)


def test_a_key_that_is_not_there(tmp_path, net):
    save(net, tmp_path / "net.ts")
    card = describe(tmp_path / "net.ts", format="torchscript", file={"output": "logits"})
    with pytest.raises(ConfigError, match=r"outputs are \['embedding', 'loud'\], not 'logits'"):
        load_backbone(card, tmp_path, trust=["tiny"]).embed(sounds(card, 1))


@pytest.mark.parametrize("format_", ["torchscript", "torch_export"])
def test_a_file_that_is_no_program(tmp_path, format_):
    (tmp_path / "net.ts").write_bytes(b"no program")
    card = describe(tmp_path / "net.ts", format=format_)
    with pytest.raises(ConfigError, match=r"net\.ts: torch cannot open it"):
        load_backbone(card, tmp_path, trust=["tiny"])
