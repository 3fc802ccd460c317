"""The loop learns, repeats itself bit for bit, and goes on from a checkpoint as if undisturbed."""

import math

import pytest
import torch

from xmoe.base.device import choose_device
from xmoe.mixture.combine import blend
from xmoe.mixture.moe import load_weights_into, split_weights
from xmoe.mixture.network import whole_logits
from xmoe.run.folder import RunFolder
from xmoe.training import loop
from xmoe.training.batches import Share
from xmoe.training.loop import choose_epochs, one_cycle, warm_average


def run(trainer, epochs):
    return [trainer.train_epoch() for _ in range(epochs)]


@pytest.fixture(scope="module")
def undisturbed(config, frontend, stores, tmp_path_factory):
    """A run folder with a checkpoint after each of four epochs, and the trainer at its end."""
    trainer = loop.Trainer(config, frontend, stores["train"], stores["val"])
    folders = []
    for epoch in range(4):
        folders.append(RunFolder(tmp_path_factory.mktemp(f"epoch{epoch}")))
        folders[-1].save_checkpoint("now", trainer.state_tensors(), trainer.state_values())
        trainer.train_epoch()
    return trainer, folders


def test_rate_rises_for_a_fifth_and_falls_to_the_end():
    rates = [one_cycle(step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.04)
    assert rates[20] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(1e-4)
    assert rates[:20] == sorted(rates[:20])
    assert rates[20:] == sorted(rates[20:], reverse=True)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_shortest_runs_have_rates_too(total):
    assert all(0 < one_cycle(step, total) <= 1 for step in range(total + 1))


@pytest.mark.parametrize(("clips", "epochs"), [(800, 10), (36, 250), (4, 1000), (100_000, 1)])
def test_epochs_make_a_thousand_steps_unless_given(change, clips, epochs):
    assert choose_epochs(change("train", epochs=None), clips) == epochs
    assert choose_epochs(change("train", epochs=7), clips) == 7


def test_device_is_the_one_asked_for():
    assert choose_device("cpu") == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert choose_device("auto") == torch.device(expected)


def test_same_seed_gives_the_same_bits(make_trainer, assert_same):
    trainers = [make_trainer(), make_trainer()]
    reports = [run(trainer, 2) for trainer in trainers]
    assert_same(trainers[0].state_tensors(), trainers[1].state_tensors())
    assert [r.figures for r in reports[0]] == [r.figures for r in reports[1]]


def test_other_seed_gives_other_weights(make_trainer, change):
    one, other = make_trainer(), make_trainer(change("train", seed=4))
    assert not torch.equal(one.model.stem.conv1[0].weight, other.model.stem.conv1[0].weight)


def test_global_random_state_is_left_alone(make_trainer):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(make_trainer(), 1)
    assert torch.equal(torch.rand(3), expected)


def test_loss_falls_and_tones_are_told_apart(trained):
    figures = trained.validate()
    assert figures["val_accuracy"] >= 0.9
    assert figures["val_loss"] < 0.5 * math.log(3)
    assert 0 <= figures["val_loss_se"] < 0.3


def test_training_loss_falls(make_trainer):
    reports = run(make_trainer(), 4)
    losses = [report.figures["train_loss"] for report in reports]
    assert losses[3] < 0.9 * losses[0]
    assert [report.epoch for report in reports] == [1, 2, 3, 4]
    assert [report.step for report in reports] == [4, 8, 12, 16]


def test_report_is_plain_values_and_loads_sum_to_one(make_trainer):
    (report,) = run(make_trainer(), 1)
    row = report.as_dict()
    assert set(row["expert_load"]) == {"broadband", "high_band", "low", "transient"}
    assert sum(row["expert_load"].values()) == pytest.approx(1.0)
    parts = [row[f"train_{name}"] for name in ("mixture", "subset", "expert", "stem", "count")]
    assert row["train_loss"] == pytest.approx(sum(parts), rel=1e-5)
    assert 0 <= row["train_accuracy"] <= 1
    assert 0 <= row["train_mean_k"] <= 2
    assert (row["epoch"], row["epochs"], row["kept"]) == (1, 4, False)


def test_masked_expert_never_leads_and_its_weights_only_decay(make_trainer, config):
    trainer = make_trainer()
    before = {
        k: v.detach().clone() for k, v in trainer.model.experts["high_band"].named_parameters()
    }
    reports = run(trainer, 2)
    assert [report.expert_load["high_band"] for report in reports] == [0.0, 0.0]
    strength = config.train.learning_rate * config.train.weight_decay
    decayed = math.prod(1 - strength * one_cycle(step, 16) for step in range(8))
    for name, parameter in trainer.model.experts["high_band"].named_parameters():
        torch.testing.assert_close(parameter, decayed * before[name])


def test_non_finite_loss_is_an_error(make_trainer):
    trainer = make_trainer()
    with torch.no_grad():
        trainer.model.stem.head.bias[0] = float("nan")
    with pytest.raises(FloatingPointError, match="nan in epoch 1"):
        trainer.train_epoch()


def test_average_without_decay_is_the_weights(make_trainer, change):
    trainer = make_trainer(change("train", ema_decay=0.0))
    run(trainer, 1)
    torch.testing.assert_close(trainer.averaged.stem.head.weight, trainer.model.stem.head.weight)


@pytest.mark.parametrize(
    ("steps", "kept"), [(1, 2 / 11), (90, 91 / 100), (890, 0.99), (9999, 0.99)]
)
def test_decay_of_the_average_rises_to_its_limit(steps, kept):
    averaged = [torch.tensor([1.0, 3.0])]
    warm_average(0.99)(averaged, [torch.tensor([2.0, 0.0])], torch.tensor(steps))
    expected = kept * torch.tensor([1.0, 3.0]) + (1 - kept) * torch.tensor([2.0, 0.0])
    torch.testing.assert_close(averaged[0], expected)


def test_average_of_a_short_run_is_near_its_weights(make_trainer, change):
    trainer = make_trainer(change("train", ema_decay=0.999))
    start = trainer.model.stem.head.weight.detach().clone()
    run(trainer, 2)
    last, averaged = trainer.model.stem.head.weight, trainer.averaged.stem.head.weight
    assert float((last - averaged).detach().norm()) < 0.5 * float((last - start).detach().norm())


@pytest.mark.parametrize("epoch", [0, 1, 2, 3])
def test_every_checkpoint_goes_on_to_the_same_bits(undisturbed, make_trainer, assert_same, epoch):
    reference, folders = undisturbed
    trainer = make_trainer()
    parts = [path.stem for path in folders[epoch].checkpoint_folder("last").glob("*.safetensors")]
    groups = {part: folders[epoch].load_tensors(part, "last") for part in parts}
    trainer.restore(groups, folders[epoch].load_state("last"))
    assert (trainer.epoch, trainer.step) == (epoch, 4 * epoch)
    assert_same(trainer.state_tensors(), groups)
    run(trainer, 4 - epoch)
    assert_same(trainer.state_tensors(), reference.state_tensors())


def test_state_names_the_epochs_and_the_best_loss(make_trainer):
    trainer = make_trainer()
    run(trainer, 1)
    trainer.best_loss = 0.25
    values = trainer.state_values()
    assert values == {"epoch": 1, "epochs": 4, "best_loss": 0.25, "step": 4}
    again = make_trainer()
    again.restore(trainer.state_tensors(), values)
    assert again.best_loss == 0.25
    again.restore(trainer.state_tensors(), values | {"best_loss": None})
    assert again.best_loss == float("inf")


def test_split_weights_load_into_another_model(trained, make_trainer, assert_same):
    groups = split_weights(trained.averaged)
    experts = ["expert-broadband", "expert-high_band", "expert-low", "expert-transient"]
    assert sorted(groups) == [*experts, "router", "stem"]
    count = sum(len(tensors) for tensors in groups.values())
    assert count == len(trained.averaged.state_dict())
    other = make_trainer().model
    load_weights_into(other, groups)
    assert_same(split_weights(other), groups)


def test_whole_logits_weigh_every_expert_by_its_gate(trained):
    model = trained.averaged.eval()
    spec = torch.randn(2, 16, 33, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        glance = model.glance(spec)
        single = []
        for index, name in enumerate(model.config.expert_names):
            rows = model.bands[index].bool()
            single.append(model.experts[name](glance.stem.features[:, :, rows]))
        gate = glance.routing.gate
        logits = whole_logits(model, spec)
    torch.testing.assert_close(logits, blend(glance.stem.logits, torch.stack(single), gate))
    assert gate[:, 1].tolist() == [0.0, 0.0]


def test_wrapper_is_put_round_the_model_once(make_trainer):
    wrapped = []

    def wrap(module):
        wrapped.append(module)
        return module

    trainer = make_trainer(wrap=wrap)
    run(trainer, 1)
    assert wrapped == [trainer.model]


def test_worker_takes_its_share_only(make_trainer, monkeypatch):
    sizes = []
    original = loop.compute_losses

    def spy(output, targets, config, *, generator):
        sizes.append(len(targets))
        return original(output, targets, config, generator=generator)

    monkeypatch.setattr(loop, "compute_losses", spy)
    run(make_trainer(share=Share(1, 2)), 1)
    assert sizes == [4, 4, 4, 4]


def test_half_precision_learns_too(make_trainer, change):
    reports = run(make_trainer(change("train", precision="bf16")), 4)
    assert reports[3].figures["train_loss"] < 0.95 * reports[0].figures["train_loss"]
