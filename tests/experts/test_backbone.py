"""A pretrained expert: windows of its spans, one batch, pooled as the card says, then a head."""

import numpy as np
import pytest
import torch

from tests.fixtures.backbones import RATE_HZ, SIZE, describe, tiny_backbone
from xmoe.audio.segment import Segment
from xmoe.audio.sound import hold_sound
from xmoe.base.backbone import TRUST
from xmoe.base.config import BackboneSpec, ModelConfig
from xmoe.base.errors import ConfigError
from xmoe.experts.backbone import (
    BackboneEar,
    BackboneExpert,
    open_backbone,
    pool_embeddings,
    spread,
)
from xmoe.experts.protocol import Inputs
from xmoe.experts.registry import build_expert


@pytest.fixture
def card(tmp_path):
    return tiny_backbone(tmp_path)


@pytest.fixture
def ear(card, tmp_path):
    return BackboneEar(card, str(tmp_path))


@pytest.fixture
def make_expert(card, tmp_path):
    def make(*, windows=None):
        spec = BackboneSpec(name="tiny", card=card, folder=str(tmp_path), windows=windows)
        config = ModelConfig(num_classes=3, experts=(spec,), k_max=1)
        expert = build_expert(config, "tiny")
        assert isinstance(expert, BackboneExpert)
        rng = torch.Generator().manual_seed(1)
        expert.head.weight.copy_(torch.randn(expert.head.weight.shape, generator=rng))
        return expert

    return make


def noise(seconds, *, seed=0):
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(round(seconds * RATE_HZ))).astype(np.float32)


def pack(expert, clips, spans):
    sound = hold_sound([Segment(clip, RATE_HZ, 0) for clip in clips])
    inputs = Inputs(torch.zeros(len(clips), 0, 4, 1), torch.ones(len(clips)), 0.04, 2, sound)
    return expert.pack(expert.spec, inputs, torch.arange(len(clips)), torch.tensor(spans))


def test_windows_overlap_by_half_and_the_last_ends_with_the_sound(ear):
    windows = ear.cut(noise(0.22), RATE_HZ)
    assert [len(window) for window in windows] == [800] * 4
    np.testing.assert_array_equal(windows[1], noise(0.22)[400:1200])
    np.testing.assert_array_equal(windows[-1], noise(0.22)[-800:])


def test_windows_apart_lie_side_by_side(ear):
    windows = ear.cut(noise(0.2), RATE_HZ, apart=True)
    np.testing.assert_array_equal(np.concatenate(windows), noise(0.2))


@pytest.mark.parametrize(
    ("duration_s", "starts"),
    [(0.05, [0.0]), (0.1, [0.0]), (0.12, [0.01]), (0.22, [0.0, 0.12]), (0.3, [0.0, 0.1, 0.2])],
)
def test_as_many_windows_as_fit_best(duration_s, starts):
    spans = spread(duration_s, 0.1)
    assert [start for start, _ in spans] == pytest.approx(starts)
    assert all(end - start <= 0.1 + 1e-9 for start, end in spans)


def test_sound_is_played_slower_where_the_card_says_so(card):
    slow = card.model_copy(update={"speed_factor": 4.0})
    assert slow.span_s == pytest.approx(0.025)
    windows = BackboneEar(slow, "").cut(noise(0.05), RATE_HZ)
    assert [len(window) for window in windows] == [800] * 3


def test_silence_is_heard_at_the_edges_where_the_card_says_so(card):
    edged = BackboneEar(card.model_copy(update={"edge_s": 0.05}), "")
    windows = edged.cut(noise(0.1), RATE_HZ)
    np.testing.assert_array_equal(windows[0], np.pad(noise(0.1)[:400], (400, 0)))
    np.testing.assert_array_equal(windows[-1], np.pad(noise(0.1)[400:], (0, 400)))
    assert [len(window) for window in edged.cut(noise(0.1), RATE_HZ, apart=True)] == [800]


def test_an_embedding_is_pooled_over_windows_that_are_there(card):
    table = torch.tensor([[1.0, 5.0], [3.0, 1.0], [float("nan")] * 2])
    expected = np.array([2.0, 3.0, 3.0, 5.0]) / np.sqrt(47.0)
    assert pool_embeddings(card, table).tolist() == pytest.approx(expected.tolist())
    louder = pool_embeddings(card, 7.0 * table)
    assert louder.tolist() == pytest.approx(expected.tolist())


def test_the_answer_is_the_head_on_what_the_network_says_of_each_clip(make_expert):
    expert = make_expert()
    clips = [noise(0.2, seed=1), noise(0.1, seed=2), noise(0.3, seed=3)]
    answers = expert.answer(pack(expert, clips, [[[0.0, 0.3]]] * 3))
    for answer, clip in zip(answers, clips, strict=True):
        found = torch.from_numpy(expert.ear.embed(expert.ear.cut(clip, RATE_HZ)))
        assert found.shape[1] == SIZE
        expected = expert.head(pool_embeddings(expert.spec.card, found)[None])[0]
        assert answer.tolist() == pytest.approx(expected.tolist(), abs=1e-3)
    assert answers.exp().sum(1).tolist() == pytest.approx([1.0] * 3, abs=1e-5)


def test_a_row_is_answered_alike_alone_and_beside_others(make_expert):
    expert = make_expert(windows=1)
    clips = [noise(0.2, seed=1), noise(0.2, seed=2)]
    spans = [[[0.05, 0.15]], [[0.1, 0.2]]]
    together = expert.answer(pack(expert, clips, spans))
    for row in range(2):
        alone = expert.answer(pack(expert, [clips[row]], [spans[row]]))
        torch.testing.assert_close(together[[row]], alone)


def test_windows_of_all_clips_are_one_batch_and_none_is_heard_twice(make_expert, monkeypatch):
    expert, heard = make_expert(), []
    expert.load()
    embed = expert.ear.open().embed
    monkeypatch.setattr(
        expert.ear.open(), "embed", lambda windows: heard.append(len(windows)) or embed(windows)
    )
    clips = [noise(0.2, seed=1), noise(0.3, seed=2)]
    payload = pack(expert, clips, [[[0.0, 0.3]]] * 2)
    first, again = expert.answer(payload), expert.answer(payload)
    assert heard == [3 + 5]
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    one_more = [clips[1], noise(0.1, seed=3)]
    expert.answer(pack(expert, one_more, [[[0.0, 0.3]]] * 2))
    assert heard == [8, 1]


def test_it_says_whose_it_is(make_expert):
    expert = make_expert(windows=2)
    assert expert.describe() == "tiny, windows of 0.1 s, 2 of them; licence MIT  (a test)"
    assert expert.rows(expert.spec, 16) == (0, 16)


def test_files_that_are_not_there_are_told_when_it_is_loaded(make_expert, tmp_path):
    expert, late = make_expert(), make_expert()
    expert.load()
    open_backbone.cache_clear()
    (tmp_path / "tiny.onnx").unlink()
    expert.load()  # it has it
    with pytest.raises(ConfigError, match=r"tiny\.onnx"):
        late.load()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_code_runs_where_the_environment_names_the_card(tmp_path, monkeypatch):
    class Loudness(torch.nn.Module):
        def forward(self, sound):
            return sound.abs().mean(1, keepdim=True)

    path = tmp_path / "net.ts"
    torch.jit.trace(Loudness(), torch.zeros(2, 800)).save(path)
    card = describe(path, format="torchscript", embedding_size=1, file={"output": 0})
    monkeypatch.setenv(TRUST, "another")
    with pytest.raises(ConfigError, match=r"XMOE_TRUST=tiny"):
        open_backbone(card, str(tmp_path))
    monkeypatch.setenv(TRUST, "another, tiny")
    assert open_backbone(card, str(tmp_path)).card == card
