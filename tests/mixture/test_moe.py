"""The mixture as a whole: plan -> call experts -> combine, and the training pass."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from tests.fixtures.mixtures import carry_out, cnn_specs
from xmoe.base.config import EXPERT_NAMES, ModelConfig, RoutingConfig, SpectroConfig
from xmoe.experts.cnn import band_rows, gather_windows
from xmoe.experts.protocol import Inputs
from xmoe.mixture.calls import call_experts
from xmoe.mixture.combine import STEM_SHARE
from xmoe.mixture.moe import MoE, TrainingDraws
from xmoe.mixture.plan import Plan

HALF = RoutingConfig(window_fraction=0.5)
WHOLE = RoutingConfig()
SELECTORS = ("saliency", "cam", "feature", "energy")


def read_levels(inputs: Inputs) -> torch.Tensor:
    return inputs.stem_map.float() * inputs.scale[:, None, None, None]


def quiet(batch: int, experts: int, total: int, keep: int) -> TrainingDraws:
    return TrainingDraws(keep, torch.zeros(batch, experts, total))


def test_a_glance_has_the_shapes_of_its_description(model, specs):
    glance = model.glance(specs)
    assert glance.cam.shape == glance.cells.shape == (3, 8, 11)
    assert glance.gate_logits.shape == glance.routing.gate.shape == (3, 4)
    assert glance.count_logits.shape == glance.routing.promises.shape == (3, 3)
    torch.testing.assert_close(glance.routing.promises, torch.sigmoid(glance.count_logits))


def test_a_plan_has_the_shapes_of_its_description(model, specs):
    plan = model.plan(specs, HALF)
    shapes = {
        field.name: tuple(getattr(plan, field.name).shape) for field in dataclasses.fields(Plan)[2:]
    }
    assert shapes == {
        "stem_logits": (3, 3),
        "gate": (3, 4),
        "weights": (3, 4),
        "spans": (3, 4, 3, 2),
        "promises": (3, 3),
        "window_scores": (3, 4, 6),
        "ranking": (3, 4),
        "log_shares": (3, 3, 4),
        "stem_shares": (3, 3),
        "evidence": (3, model.router.normalise.num_features),
    }
    assert not any(getattr(plan, name).requires_grad for name in shapes)


def test_what_experts_are_fed_from_is_the_stem_map_as_bytes(model, specs):
    plan, inputs = model.prepare(specs, HALF)
    features = model.stem.map_features(specs)
    assert inputs.stem_map.dtype == torch.uint8
    assert inputs.column_s == pytest.approx(0.04)
    error = (read_levels(inputs) - features).abs().amax((1, 2, 3))
    assert (error <= 0.51 * inputs.scale).all()
    assert len(plan.window_edges_s) == plan.num_windows + 1


@pytest.mark.parametrize("name", EXPERT_NAMES)
def test_one_expert_and_k_1_is_that_experts_blend_with_the_stem(build, specs, name):
    lone = build(experts=cnn_specs(name), k_max=1)
    first, last = band_rows(name, 8)
    with torch.no_grad():
        plan, inputs = lone.prepare(specs, WHOLE, k=1)
        alone = lone.experts[name](read_levels(inputs)[:, :, first:last])
        stem = lone.stem(specs).logits
    said = lone.carry_out(plan, inputs)
    assert said.weights.tolist() == [[1.0]] * 3
    expected = STEM_SHARE * stem + (1 - STEM_SHARE) * alone
    torch.testing.assert_close(said.logits, expected, atol=1e-6, rtol=0)


def test_replies_are_the_experts_alone_on_their_windows(model, specs):
    plan, inputs = model.prepare(specs, HALF, k=3)
    replies = call_experts(model.callers(), model.requests(plan, inputs))
    seen = read_levels(inputs)
    assert set(replies) == {"broadband", "low", "transient"}
    for index, name in enumerate(plan.expert_names[:3]):
        first, last = band_rows(name, 8)
        windows = gather_windows(seen[:, :, first:last], plan.windows[:, index], 2)
        with torch.no_grad():
            torch.testing.assert_close(replies[name].logits, model.experts[name](windows))


@pytest.mark.parametrize("seed", range(6))
def test_masked_experts_are_never_chosen_for_any_k(build, specs, seed):
    masked = build(seed=seed, masked_experts=("low", "transient"), k_max=2)
    for k in (None, 0, 1, 2, 3, 4, 99):
        plan, inputs = masked.prepare(specs, HALF, k=k)
        assert plan.weights[:, 1:3].abs().max() == 0
        assert plan.gate[:, 1:3].abs().max() == 0
        asked = {request.name for request in masked.requests(plan, inputs)}
        assert asked <= {"broadband", "high_band"}
        if k is not None:
            assert plan.k.tolist() == [min(k, 2)] * 3


def test_masking_an_expert_leaves_the_others_as_they_were(build, specs):
    free, masked = (
        build().plan(specs, WHOLE, k=4),
        build(masked_experts=("low",)).plan(specs, WHOLE, k=4),
    )
    kept = [0, 2, 3]
    expected = free.weights[:, kept] / free.weights[:, kept].sum(1, keepdim=True)
    torch.testing.assert_close(masked.weights[:, kept], expected)


@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize("k", [None, 2])
def test_a_batch_answers_as_its_clips_one_by_one(model, specs, selector, k):
    routing = RoutingConfig(selector=selector, window_fraction=0.5)
    together = carry_out(model, specs, routing, k=k)
    single = [carry_out(model, specs[i : i + 1], routing, k=k) for i in range(3)]
    logits = torch.cat([one.logits for one in single])
    torch.testing.assert_close(together.logits, logits, atol=2e-5, rtol=1e-5)
    weights = torch.cat([one.weights for one in single])
    torch.testing.assert_close(together.weights, weights, atol=1e-5, rtol=0)


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_k_0_is_the_stems_own_answer(build, specs, task):
    mixture = build(task=task)
    said = carry_out(mixture, specs, HALF, k=0)
    with torch.no_grad():
        assert torch.equal(said.logits, mixture.stem(specs).logits)
    assert said.gate_mass.tolist() == [1.0, 1.0, 1.0]
    assert not said.degraded.any()


def test_a_mixture_without_room_for_experts_still_answers(build, specs):
    stem_only = build(k_max=0)
    plan = stem_only.plan(specs, WHOLE)
    assert plan.k.tolist() == [0, 0, 0]
    assert plan.promises.shape == (3, 1)


@pytest.mark.parametrize(("bound", "asked"), [(0, 0), (1, 1), (2, 2), (7, 2)])
def test_k_max_bounds_what_the_promises_ask(build, specs, bound, asked):
    eager = build()
    with torch.no_grad():
        eager.router.count[2].weight.zero_()
        eager.router.count[2].bias.copy_(torch.tensor([-1.0, 0.0, 1.0]))
    assert eager.plan(specs, WHOLE, k_max=bound).k.tolist() == [asked] * 3


def test_the_price_of_an_expert_lowers_k(build, specs):
    eager = build()
    with torch.no_grad():
        eager.router.count[2].weight.zero_()
        eager.router.count[2].bias.copy_(torch.tensor([0.5, 0.7, 0.75]).logit())
    asked = [int(eager.plan(specs, RoutingConfig(k_price=price)).k[0]) for price in (0, 0.1, 0.3)]
    assert asked == [2, 1, 0]


def test_fraction_one_sends_the_whole_map(model, specs):
    plan, inputs = model.prepare(specs, WHOLE, k=1)
    assert plan.spans.shape[2] == plan.num_windows == 6
    sent = {request.payload["levels"].shape[3] for request in model.requests(plan, inputs)}
    assert sent == {11}


@pytest.mark.parametrize("selector", [*SELECTORS, "random"])
def test_every_selector_ranks_each_experts_windows(model, specs, selector):
    routing = RoutingConfig(selector=selector)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        scores = model.rank_windows(model.glance(specs), specs, routing)
    assert scores.shape == (3, 4, 6)
    assert float(scores.detach().min()) >= 0
    assert (scores.detach()[:, :3].std(2) > 0).all()


def test_energy_finds_the_event_in_the_band_that_hears_it(model):
    spec = torch.full((1, 32, 48), -1.0)
    spec[0, 8:12, 16:24] = 5.0
    routing = RoutingConfig(selector="energy", window_fraction=1 / 6)
    plan = model.plan(spec, routing, k=1)
    assert plan.windows[0, :3].tolist() == [[2], [2], [2]]
    assert float(plan.window_scores[0, 3].max()) == 0.0


def test_random_windows_follow_the_global_seed(model, specs):
    routing = RoutingConfig(selector="random", window_fraction=0.5)
    drawn = []
    for seed in (0, 0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            drawn.append(model.plan(specs, routing).windows)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("frames", [1, 2, 4, 5, 8, 9])
@pytest.mark.parametrize("level", [0.0, -3.0])
def test_silence_of_any_length_gets_a_finite_answer(build, frames, level):
    said = carry_out(build(experts=cnn_specs()), torch.full((2, 32, frames), level), HALF, k=8)
    assert torch.isfinite(said.logits).all()
    assert said.weights.sum(1).tolist() == pytest.approx([1.0, 1.0])
    assert not said.degraded.any()


def test_the_whole_path_runs_without_a_gradient(model, specs):
    with torch.inference_mode():
        inferred = carry_out(model, specs, HALF, k=2).logits
    assert torch.equal(inferred, carry_out(model, specs, HALF, k=2).logits)


def test_the_training_pass_runs_every_expert_on_the_whole_map(model, specs):
    output = model(specs, quiet(3, 4, 6, keep=3))
    assert output.stem.shape == (3, 3)
    assert output.full.shape == output.part.shape == (4, 3, 3)
    assert output.gate.shape == (3, 4)
    assert output.count.shape == (3, 3)
    features = model.stem.map_features(specs)
    for index, name in enumerate(model.config.expert_names):
        first, last = band_rows(name, 8)
        torch.testing.assert_close(
            output.full[index], model.experts[name](features[:, :, first:last])
        )
    assert not torch.allclose(output.full, output.part)


def test_a_part_of_all_windows_is_the_whole(model, make_specs):
    output = model(make_specs(frames=48), quiet(3, 4, 6, keep=6))
    torch.testing.assert_close(output.part, output.full)


def test_without_noise_the_part_is_the_most_salient(model, specs):
    output = model(specs, quiet(3, 4, 6, keep=3))
    windows = model.plan(specs, HALF).windows
    band = model.stem.map_features(specs)[:, :, :4]
    expected = model.experts["low"](gather_windows(band, windows[:, 1], 2))
    torch.testing.assert_close(output.part[1], expected)


def test_noise_decides_the_part_where_it_is_loud(model, specs):
    noise = torch.zeros(3, 4, 6)
    noise[:, :, 4] = 100.0
    output = model(specs, TrainingDraws(1, noise))
    mapped = model.stem.map_features(specs)
    torch.testing.assert_close(output.part[0], model.experts["broadband"](mapped[:, :, :, 8:10]))


def work_of(mixture: MoE, spec: torch.Tensor, k: int) -> dict[str, int]:
    """Return the multiply-accumulates of an answer's convolutions, by part of the mixture."""
    work: dict[str, int] = {}

    def watch(owner: str, conv: nn.Conv2d) -> RemovableHandle:
        def count(conv: nn.Conv2d, _: object, out: torch.Tensor) -> None:
            work[owner] = work.get(owner, 0) + out[:, 0].numel() * conv.weight.numel()

        return conv.register_forward_hook(count)

    convolutions = [p for p in mixture.named_modules() if isinstance(p[1], nn.Conv2d)]
    hooks = [watch(name.split(".")[0], conv) for name, conv in convolutions]
    carry_out(mixture, spec, RoutingConfig(window_fraction=1 / 8), k=k)
    for hook in hooks:
        hook.remove()
    return work


def test_no_expert_is_run_that_was_not_chosen(model, specs):
    assert set(work_of(model, specs, k=0)) == {"stem"}
    assert set(work_of(model, specs, k=1)) == {"stem", "experts"}


def test_an_eighth_of_the_windows_costs_less_than_the_stem():
    config = ModelConfig(experts=cnn_specs(), num_classes=10)
    mixture = MoE(config, SpectroConfig(num_bins=64)).eval()
    work = work_of(mixture, torch.zeros(1, 64, 256), k=1)
    assert work["stem"] < 10_000_000
    assert work["experts"] < work["stem"]


def test_the_weights_split_into_stem_router_and_one_part_for_each_expert(build):
    keys = [key.split(".") for key in build().state_dict()]
    assert {key[0] for key in keys} == {"stem", "router", "experts"}
    assert {key[1] for key in keys if key[0] == "experts"} == set(build().config.expert_names)


def test_an_answer_that_does_not_depend_on_saliency_is_planned_without_it(build, specs):
    promising = build(router="promise", k_max=4)
    with torch.no_grad():
        promising.router.weights[..., :2] = 0.5  # of the answers alone
    promising.router.derive()
    assert not promising.needs_saliency(WHOLE)
    lean, _ = promising.prepare(specs, WHOLE, only_needed=True)
    full, _ = promising.prepare(specs, WHOLE)
    assert not lean.window_scores.any()
    assert full.window_scores.any()
    for name in ("stem_logits", "weights", "spans", "promises", "evidence"):
        torch.testing.assert_close(getattr(lean, name), getattr(full, name))
    assert lean.saliency_share.tolist() == [1.0] * 3


@pytest.mark.parametrize("reader", ["gate", "promise", "windows"])
def test_saliency_stays_where_an_answer_depends_on_it(build, specs, reader):
    made = build() if reader == "gate" else build(router="promise", k_max=4)
    if reader != "gate":
        with torch.no_grad():
            made.router.weights[..., 0] = 0.5
            made.router.weights[..., -1] = 0.5 if reader == "promise" else 0.0
        made.router.derive()
    routing = HALF if reader == "windows" else WHOLE
    lean, _ = made.prepare(specs, routing, only_needed=True)
    assert torch.equal(lean.window_scores, made.prepare(specs, routing)[0].window_scores)
    assert lean.window_scores.any()
