"""Samples -> answer: temperatures, segments, entropy, and answers with experts that are gone."""

import copy
import math

import numpy as np
import pytest
import torch

from tests.fixtures.runs import RATE_HZ, make_sound, tiny_config, tiny_model, write_run
from xmoe.base.errors import RunFolderError
from xmoe.predict.answer import SegmentAnswers
from xmoe.predict.predictor import BATCH, GPU_BATCH, Predictor
from xmoe.run.folder import RunFile, RunFolder

CLASSES = ("click", "tone", "sweep")


def make_config(*, task="single_label", **routing):
    return tiny_config(CLASSES, task=task, k_max=3, routing=routing)


@pytest.fixture(scope="module")
def model():
    """A mixture that says different things of clips."""
    return tiny_model(make_config())


@pytest.fixture
def predictor(model):
    return Predictor(make_config(), model)


def without(predictor, *names):
    """Take some experts away from a predictor."""
    predictor.experts = {n: ask for n, ask in predictor.experts.items() if n not in names}


def same_answer(one, other):
    return one.model_dump(exclude={"seconds"}) == other.model_dump(exclude={"seconds"})


def test_answer_is_a_distribution_over_the_classes(predictor):
    answer = predictor.predict(make_sound(), RATE_HZ)
    assert tuple(answer.probabilities) == CLASSES
    assert sum(answer.probabilities.values()) == pytest.approx(1.0)
    assert answer.probability == max(answer.probabilities.values())
    assert answer.label == CLASSES[answer.label_id] == max(CLASSES, key=answer.probabilities.get)
    assert answer.labels == (answer.label,)
    assert answer.segments == 1
    assert answer.seconds > 0
    assert not answer.degraded


def test_all_experts_are_asked_at_a_bonus_price_but_never_a_masked_one(predictor):
    answer = predictor.predict(make_sound(), RATE_HZ)
    assert answer.k == 3.0
    assert {use.name for use in answer.experts} == {"broadband", "low", "transient"}
    assert sum(use.weight for use in answer.experts) == pytest.approx(1.0, abs=1e-5)
    assert [use.share for use in answer.experts] == [1.0, 1.0, 1.0]
    weights = [use.weight for use in answer.experts]
    assert weights == sorted(weights, reverse=True)


def test_no_expert_is_asked_at_a_high_price(model):
    answer = Predictor(make_config(k_price=2.0), model).predict(make_sound(), RATE_HZ)
    assert (answer.k, answer.experts) == (0.0, ())


@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_k_can_be_fixed(predictor, k):
    answer = predictor.predict(make_sound(), RATE_HZ, k=k)
    assert answer.k == k
    assert len(answer.experts) == k


def test_without_experts_the_stem_answers(predictor):
    specs = predictor.hear(make_sound(), RATE_HZ)[0]
    with torch.no_grad():
        expected = torch.softmax(predictor.model.stem(specs).logits[0], 0)
    answer = predictor.predict(make_sound(), RATE_HZ, k=0)
    assert list(answer.probabilities.values()) == pytest.approx(expected.tolist(), abs=1e-6)


@pytest.mark.parametrize("k_max", [0, 1, 2, 3])
def test_k_can_be_bounded(predictor, k_max):
    assert predictor.predict(make_sound(), RATE_HZ, k_max=k_max).k == k_max


def test_bound_above_the_choice_changes_nothing(model):
    predictor = Predictor(make_config(k_price=2.0), model)
    assert same_answer(
        predictor.predict(make_sound(), RATE_HZ, k_max=3), predictor.predict(make_sound(), RATE_HZ)
    )


@pytest.mark.parametrize("k", [0, 2])
def test_logits_are_divided_by_the_temperature_of_k(model, k):
    plain = Predictor(make_config(), model)
    calibrated = Predictor(make_config(temperatures=(2.0, 3.0, 4.0, 5.0)), model)
    specs = plain.hear(make_sound(), RATE_HZ)[0]
    expected = plain.answer_segments(specs, k=k).logits / (2.0 + k)
    torch.testing.assert_close(calibrated.answer_segments(specs, k=k).logits, expected)


def test_temperature_is_that_of_the_experts_that_answered(model):
    plain = Predictor(make_config(), model)
    cut = Predictor(make_config(temperatures=(2.0, 3.0, 4.0, 5.0)), model)
    without(cut, "low")
    without(plain, "low")
    specs = plain.hear(make_sound(), RATE_HZ)[0]
    expected = plain.answer_segments(specs).logits / 4.0
    torch.testing.assert_close(cut.answer_segments(specs).logits, expected)


def test_lost_expert_degrades_the_answer_and_its_weight_goes_to_the_others(predictor):
    whole = predictor.predict(make_sound(), RATE_HZ)
    without(predictor, "low")
    answer = predictor.predict(make_sound(), RATE_HZ)
    assert answer.degraded
    assert answer.missing_experts == ("low",)
    assert answer.k == whole.k == 3.0
    assert sum(answer.probabilities.values()) == pytest.approx(1.0)
    left = {use.name: use.weight for use in answer.experts}
    before = {use.name: use.weight for use in whole.experts}
    assert set(left) == {"broadband", "transient"}
    scale = 1 - before["low"]
    for name, weight in left.items():
        assert weight == pytest.approx(before[name] / scale, abs=1e-5)


def test_answer_without_any_expert_is_that_of_the_stem(predictor):
    stem = predictor.predict(make_sound(), RATE_HZ, k=0)
    without(predictor, *predictor.config.model.expert_names)
    answer = predictor.predict(make_sound(), RATE_HZ)
    assert answer.probabilities == pytest.approx(stem.probabilities)
    assert answer.missing_experts == ("broadband", "low", "transient")


def test_expert_that_says_nonsense_counts_as_missing(predictor):
    predictor.experts["low"] = lambda request: torch.full((len(request.rows), 3), torch.nan)
    answer = predictor.predict(make_sound(), RATE_HZ)
    assert answer.missing_experts == ("low",)
    assert math.isfinite(answer.entropy)


def test_experts_can_be_given(model):
    calls = []

    def low(request):
        calls.append(request.rows.tolist())
        return torch.zeros(len(request.rows), 3)

    answer = Predictor(make_config(), model, experts={"low": low}).predict(make_sound(), RATE_HZ)
    assert calls == [[0]]
    assert answer.missing_experts == ("broadband", "transient")


def test_long_recording_is_the_mean_of_its_segments(predictor):
    samples = make_sound(1.0)
    specs = predictor.hear(samples, RATE_HZ)[0]
    assert specs.shape == (4, 16, 41)
    answer = predictor.predict(samples, RATE_HZ)
    assert answer.segments == 4
    logits = torch.cat([predictor.answer_segments(spec[None]).logits for spec in specs])
    expected = torch.softmax(logits.double().mean(0), 0)
    assert list(answer.probabilities.values()) == pytest.approx(expected.tolist(), abs=1e-6)
    segments = predictor.cut(samples, RATE_HZ)
    assert [segment.start_s for segment in segments] == [0.0, 0.2, 0.4, 0.6]
    alone = [predictor.hear(segment.samples, RATE_HZ)[0][0] for segment in segments]
    torch.testing.assert_close(specs, torch.stack(alone))


def test_short_recording_is_one_padded_segment(predictor):
    specs = predictor.hear(make_sound(0.1), RATE_HZ)[0]
    assert specs.shape == (1, 16, 41)
    assert torch.equal(specs[0, :, 11:], specs[0, :, 11:12].expand(16, 30))
    assert predictor.predict(make_sound(0.1), RATE_HZ).segments == 1


def test_segments_are_answered_alike_in_blocks_and_alone(predictor, monkeypatch):
    specs = predictor.hear(make_sound(1.6), RATE_HZ)[0]
    whole = predictor.answer_segments(specs)
    monkeypatch.setattr(predictor, "batch", 2)
    blocks = predictor.answer_segments(specs)
    assert len(whole.logits) == len(blocks.logits) == 7
    torch.testing.assert_close(whole.logits, blocks.logits)
    torch.testing.assert_close(whole.saliency_share, blocks.saliency_share)


def test_on_a_gpu_all_of_the_model_is_there_and_answers_many_at_once(model):
    there = Predictor(make_config(), copy.deepcopy(model), device=torch.device("meta"))
    parts = [*there.model.parameters(), *there.model.buffers()]
    assert {part.device.type for part in parts} == {"meta"}
    assert there.batch == GPU_BATCH > Predictor(make_config(), model).batch == BATCH


def test_other_rate_is_resampled(predictor):
    time_s = np.arange(6400) / 16_000
    fast = (0.3 * np.sin(2 * np.pi * 700 * time_s)).astype(np.float32)
    one = predictor.predict(fast, 16_000)
    other = predictor.predict(fast[::2].copy(), RATE_HZ)
    assert one.segments == other.segments == 1
    assert one.probabilities == pytest.approx(other.probabilities, abs=0.05)


def test_share_of_salience_is_that_of_the_windows_sent(model):
    specs = Predictor(make_config(), model).hear(make_sound(), RATE_HZ)[0]
    half = Predictor(make_config(window_fraction=0.5), model).answer_segments(specs)
    whole = Predictor(make_config(window_fraction=1.0), model).answer_segments(specs)
    assert float(whole.saliency_share[0]) == pytest.approx(1.0)
    assert 0.5 <= float(half.saliency_share[0]) < 1.0


def test_answer_is_uncertain_under_the_threshold(model):
    p = Predictor(make_config(), model).predict(make_sound(), RATE_HZ).probability
    for threshold, uncertain in ((p - 0.01, False), (p + 0.01, True)):
        predictor = Predictor(make_config(uncertain_below=threshold), model)
        assert predictor.predict(make_sound(), RATE_HZ).uncertain is uncertain


def answers_of(logits):
    count = len(logits)
    return SegmentAnswers(
        logits=torch.tensor(logits),
        k=torch.tensor([i % 3 for i in range(count)]),
        weights=torch.zeros(count, 4),
        missing=torch.zeros(count, 4, dtype=torch.bool),
        saliency_share=torch.ones(count),
    )


def test_entropy_of_one_label_is_in_nats(predictor):
    answer = predictor.summarise(answers_of([[0.0, 0.0, 0.0]]))
    assert answer.entropy == pytest.approx(math.log(3))
    p = np.array([0.5, 0.25, 0.25])
    answer = predictor.summarise(answers_of([np.log(p).tolist()]))
    assert answer.entropy == pytest.approx(1.5 * math.log(2), rel=1e-6)
    sure = predictor.summarise(answers_of([[200.0, 0.0, 0.0]]))
    assert sure.entropy == pytest.approx(0.0, abs=1e-9)


def test_summary_means_over_segments(predictor):
    answers = answers_of([[2.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 2.0, 0.0]])
    answers.weights[0, 1], answers.weights[1, :2] = 1.0, 0.5
    answers.missing[2, 2] = True
    answer = predictor.summarise(answers, warnings=("quiet",), seconds=0.5)
    assert (answer.label, answer.segments, answer.k) == ("tone", 3, 1.0)
    assert (answer.warnings, answer.seconds) == (("quiet",), 0.5)
    uses = {use.name: (use.weight, use.share) for use in answer.experts}
    assert uses == {"low": (0.5, 0.666667), "broadband": (0.166667, 0.333333)}
    assert answer.missing_experts == ("transient",)


def test_several_labels_are_those_over_one_half(model):
    predictor = Predictor(make_config(task="multi_label"), model)
    answer = predictor.summarise(answers_of([[math.log(3), math.log(9), -math.log(3)]]))
    assert answer.labels == ("click", "tone")
    assert list(answer.probabilities.values()) == pytest.approx([0.75, 0.9, 0.25])
    assert (answer.label, answer.probability) == ("tone", pytest.approx(0.9))
    p = [0.75, 0.9, 0.25]
    slow = -sum(q * math.log(q) + (1 - q) * math.log(1 - q) for q in p) / 3
    assert answer.entropy == pytest.approx(slow, rel=1e-6)


def test_no_label_over_one_half_is_no_label(model):
    predictor = Predictor(make_config(task="multi_label"), model)
    answer = predictor.summarise(answers_of([[-1.0, -2.0, -3.0]]))
    assert answer.labels == ()
    assert answer.label == "click"


def test_loaded_predictor_answers_as_the_one_in_memory(predictor, tmp_path):
    write_run(tmp_path, predictor.config, model=predictor.model)
    for which in ("best", "last"):
        loaded = Predictor.load(tmp_path, which=which)
        for seed in range(3):
            samples = make_sound(0.7, seed)
            here, there = predictor.predict(samples, RATE_HZ), loaded.predict(samples, RATE_HZ)
            # a loaded one has its batch norms folded into the convolutions
            assert there.probabilities == pytest.approx(here.probabilities, abs=1e-6)
            assert [use.name for use in there.experts] == [use.name for use in here.experts]
            assert (there.label, there.k, there.labels) == (here.label, here.k, here.labels)


def test_run_without_the_checkpoint_asked_for_is_refused(predictor, tmp_path):
    write_run(tmp_path, predictor.config, which=("last",))
    with pytest.raises(RunFolderError, match=r"best\.json"):
        Predictor.load(tmp_path)


def test_altered_weights_are_refused(predictor, tmp_path):
    folder = RunFolder(write_run(tmp_path, predictor.config))
    path = folder.checkpoint_folder() / "router.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(RunFolderError, match="SHA-256"):
        Predictor.load(tmp_path)


def test_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="no such file"):
        Predictor.load(tmp_path / "nothing")


def test_a_run_whose_training_did_not_end_says_so(predictor, tmp_path):
    RunFolder(tmp_path).write_record(RunFile.CONFIG, predictor.config)
    with pytest.raises(RunFolderError, match="training did not end") as raised:
        Predictor.load(tmp_path)
    assert "--resume" in str(raised.value)
