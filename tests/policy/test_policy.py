"""From a profile and recordings to a policy: rules, race, wishes, and the same bytes every time."""

from dataclasses import replace

import pytest

from xmoe.base.errors import ConfigError
from xmoe.base.files import to_json
from xmoe.policy import policy as policy_module
from xmoe.policy.policy import PolicyOverrides, choose_policy
from xmoe.policy.records import Candidate, Race
from xmoe.profile.assemble import profile_dataset

NAMES = {
    "sample_rate_hz",
    "band_hz",
    "frontend",
    "n_fft",
    "win_length",
    "hop_length",
    "num_bins",
    "segment_s",
    "segment_hop_s",
    "experts",
    "masked_experts",
    "expert_priors",
    "k_max",
    "window_frames",
}


@pytest.fixture(scope="module")
def tone_profile(tones):
    return profile_dataset(tones).profile


@pytest.fixture(scope="module")
def raced(tones, tone_profile):
    return choose_policy(tone_profile, tones)


def stage_race(monkeypatch, winner, *, too_dear=()):
    """Let ``winner`` win every race, by six points, without those that are ``too_dear``."""

    def run(dataset, examples, candidates, **_):
        table = tuple(
            Candidate(
                name=name,
                spectro=config,
                accuracy=0.9 if name == winner else 0.84,
                standard_error=0.02,
                clean_accuracy=0.9,
                noisy_accuracy=0.8,
                gain=0.06 if name == winner and winner != "logmel" else 0.0,
                gain_se=0.01,
            )
            for name, config in candidates.items()
            if name not in too_dear
        )
        return Race(
            method="staged",
            num_clips=len(examples),
            num_groups=len(examples),
            folds="stratified",
            num_folds=5,
            partitions=4,
            noisy_copies=1,
            noise_snr_db=(0.0, 20.0),
            bar=1.8,
            candidates=table,
            winner=winner,
            runner_up="stft" if winner != "stft" else "logmel",
            margin=0.06,
            margin_se=0.01,
            too_dear=too_dear,
        )

    monkeypatch.setattr(policy_module, "run_race", run)


def by_name(policy):
    return {choice.name: choice for choice in policy.choices}


def test_rules_decide_everything_without_recordings(profile):
    policy = choose_policy(profile, method="rule")
    assert set(by_name(policy)) == NAMES
    assert len(policy.choices) == len(NAMES)
    assert policy.race is None
    assert "rules alone" in policy.race_skipped


def test_settings_and_choices_agree(raced):
    choices = by_name(raced)
    spectro = raced.spectro
    assert choices["band_hz"].value == [spectro.fmin_hz, spectro.fmax_hz]
    for name in NAMES & set(type(spectro).model_fields):
        assert choices[name].value == getattr(spectro, name)
    assert choices["experts"].value == list(raced.experts)
    assert choices["masked_experts"].value == list(raced.masked_experts)
    assert choices["k_max"].value == raced.k_max
    assert choices["window_frames"].value == raced.window_frames


def test_a_race_is_run_and_recorded(raced):
    assert raced.race_skipped is None
    assert raced.race.candidates[0].name == "logmel"
    assert by_name(raced)["frontend"].source == "race"
    winner = next(one for one in raced.race.candidates if one.name == raced.race.winner)
    assert raced.spectro == winner.spectro


def test_the_same_bytes_every_time(tones, tone_profile, raced):
    again = choose_policy(tone_profile, tones)
    first, second = (to_json(one.model_dump(mode="json")) for one in (raced, again))
    assert first == second


def test_only_training_clips_are_heard(tones, tone_profile, raced):
    deaf = [
        replace(example, filepath="gone.wav") if example.split == "test" else example
        for example in tones.examples
    ]
    assert choose_policy(tone_profile, replace(tones, examples=tuple(deaf))) == raced


def test_the_policy_makes_a_mixture(raced):
    config = raced.as_model_config(task="single_label", num_classes=3)
    assert config.expert_names == raced.experts


# Races that are decided


def test_a_new_front_end_takes_over_with_its_reason(monkeypatch, tones, tone_profile):
    stage_race(monkeypatch, "stft")
    policy = choose_policy(tone_profile, tones)
    choices = by_name(policy)
    assert policy.spectro.frontend == "stft"
    assert choices["frontend"].value == "stft"
    assert "stft won with 90.0%" in choices["frontend"].reason
    assert "+6.0%" in choices["frontend"].reason
    assert choices["win_length"].source == "rule"


def test_a_finer_window_takes_over_with_its_reason(monkeypatch, tones, tone_profile):
    rule = choose_policy(tone_profile, method="rule")
    stage_race(monkeypatch, "logmel_fine")
    policy = choose_policy(tone_profile, tones)
    choices = by_name(policy)
    assert policy.spectro.frontend == "logmel"
    assert policy.spectro.win_length == 2 * rule.spectro.win_length
    assert choices["n_fft"].value == 2 * rule.spectro.n_fft
    for name in ("frontend", "win_length", "n_fft"):
        assert choices[name].source == "race"
        assert "logmel_fine" in choices[name].reason
    assert choices["hop_length"].source == "rule"


def test_the_defender_keeps_its_place_with_a_reason(monkeypatch, tones, tone_profile):
    stage_race(monkeypatch, "logmel")
    policy = choose_policy(tone_profile, tones)
    assert policy.spectro == choose_policy(tone_profile, method="rule").spectro
    reason = by_name(policy)["frontend"].reason
    assert "keeps its place" in reason
    assert "stft" in reason
    assert "1.8 standard errors" in reason


@pytest.mark.parametrize("winner", ["logmel", "stft"])
def test_who_was_too_dear_to_race_is_said(winner, monkeypatch, tones, tone_profile):
    stage_race(monkeypatch, winner)
    assert "too dear" not in by_name(choose_policy(tone_profile, tones))["frontend"].reason
    stage_race(monkeypatch, winner, too_dear=("cqt", "cwt"))
    reason = by_name(choose_policy(tone_profile, tones))["frontend"].reason
    assert reason.endswith("; too dear to be heard for every clip: cqt, cwt")


# No race


def test_a_profile_alone_cannot_race(profile):
    policy = choose_policy(profile)
    assert "no recordings" in policy.race_skipped
    assert by_name(policy)["frontend"].source == "rule"


def test_a_given_front_end_is_not_raced(tones, tone_profile):
    policy = choose_policy(tone_profile, tones, overrides=PolicyOverrides(frontend="cqt"))
    assert policy.race is None
    assert "given" in policy.race_skipped
    assert policy.spectro.frontend == "cqt"
    assert by_name(policy)["frontend"].source == "user"


def test_too_small_a_set_is_not_raced(tones, tone_profile):
    few = replace(tones, examples=tones.examples[:30])
    policy = choose_policy(tone_profile, few)
    assert "30 clips" in policy.race_skipped


def test_unreadable_clips_can_leave_too_few(tones, tone_profile):
    gone = tuple(
        replace(example, filepath="gone.wav") if index % 2 else example
        for index, example in enumerate(tones.examples)
    )
    policy = choose_policy(tone_profile, replace(tones, examples=gone))
    assert "can be read" in policy.race_skipped
    assert policy.spectro == choose_policy(tone_profile, method="rule").spectro


# Wishes


def test_wishes_reach_the_settings(tones, tone_profile):
    wishes = PolicyOverrides(
        num_bins=32, segment_s=0.5, experts=("low", "high"), k_max=1, window_frames=2
    )
    policy = choose_policy(tone_profile, tones, method="rule", overrides=wishes)
    assert (policy.spectro.num_bins, policy.spectro.segment_s) == (32, 0.5)
    assert policy.experts == ("low", "high")
    assert (policy.k_max, policy.window_frames) == (1, 2)


@pytest.mark.parametrize(
    ("wishes", "option"),
    [
        ({"band_hz": (50.0, 9000.0)}, "--band"),
        ({"experts": ("bass",)}, "--experts"),
        ({"k_max": 9}, "--k-max"),
        ({"num_bins": 40}, "--num-bins"),
        ({"window_frames": 1000}, "--window-frames"),
        ({"segment_s": 0.001}, "--segment"),
    ],
)
def test_wishes_that_cannot_work_name_their_option(profile, wishes, option):
    with pytest.raises(ConfigError) as caught:
        choose_policy(profile, overrides=PolicyOverrides(**wishes))
    assert caught.value.where == option
    assert caught.value.mend


def test_progress_is_told(tones, tone_profile):
    stages = set()

    def note(stage, done, total=None, note=""):
        stages.add(stage)

    choose_policy(tone_profile, tones, progress=note)
    assert stages == {"race of front ends"}
