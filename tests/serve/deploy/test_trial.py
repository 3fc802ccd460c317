"""A candidate beside a run: who answers, what is counted, and that it never costs an answer."""

import asyncio

import pytest

from xmoe.base.errors import AudioError
from xmoe.serve.deploy.registry import TrialPlan
from xmoe.serve.deploy.trial import MOST_SHADOWS, Trial, TrialCount, falls_into
from xmoe.serve.schemas import Options
from xmoe.serve.telemetry.meter import Meter

BODIES = [bytes([seed, seed + 1]) * 50 for seed in range(200)]


@pytest.fixture
def answers(ask, serve_run, wav, sound):
    """The answer of the tiny run, and one of the other label."""
    reply = ask("POST", "/v1/classify", body=wav(sound()), service=serve_run())
    own = reply.json()
    other = {"click": "tone", "tone": "click"}[own["label"]]
    return own, {**own, "label": other, "labels": [other], "run": "candidate"}


class Candidate:
    """A candidate that says one thing, or raises it."""

    def __init__(self, says, delay_s=0.0):
        self.says, self.delay_s, self.asked = says, delay_s, []

    async def __call__(self, data, options):
        self.asked.append(data)
        await asyncio.sleep(self.delay_s)
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


def try_out(candidate, own, bodies=BODIES, timeout_s=5.0, **plan):
    """Every answer and what was counted."""
    from xmoe.serve.schemas import ClassifyAnswer

    async def answer():
        if isinstance(own, Exception):
            raise own
        return ClassifyAnswer.model_validate(own)

    async def run():
        plans = TrialPlan(version=2, **plan)
        trial = Trial(plans, candidate, timeout_s=timeout_s, meter=Meter())
        said = []
        for body in bodies:
            said.append(await trial.answer(body, Options(), answer))
            await asyncio.sleep(0)
        await trial.finish()
        return said, trial.count

    return asyncio.run(run())


def test_share_is_drawn_by_the_hash_and_the_same_always():
    chosen = [body for body in BODIES if falls_into(body, 0.25)]
    assert 30 <= len(chosen) <= 70
    assert chosen == [body for body in BODIES if falls_into(body, 0.25)]
    assert all(falls_into(body, 0.5) for body in chosen)
    assert all(falls_into(body, 1.0) for body in BODIES)


def test_shadow_is_not_heard_and_its_disagreement_is_counted(answers):
    own, other = answers
    said, count = try_out(Candidate(other), own, mode="shadow")
    assert {answer.label for answer in said} == {own["label"]}
    assert count.asked == count.answered == count.disagreed == 200
    assert (count.failed, count.own_answers) == (0, 200)


def test_shadow_that_agrees_does_not_count_as_disagreeing(answers):
    _, count = try_out(Candidate(answers[0]), answers[0], mode="shadow")
    assert (count.answered, count.disagreed) == (200, 0)


def test_shadow_that_falls_behind_is_left_out(answers):
    own, other = answers
    _, count = try_out(Candidate(other, delay_s=1.0), own, bodies=BODIES[:20], mode="shadow")
    assert (count.answered, count.skipped) == (MOST_SHADOWS, 20 - MOST_SHADOWS)


def test_canary_answers_its_share_and_nothing_else(answers):
    own, other = answers
    candidate = Candidate(other)
    said, count = try_out(candidate, own, mode="canary", share=0.25)
    wanted = [falls_into(body, 0.25) for body in BODIES]
    assert [answer.run == "candidate" for answer in said] == wanted
    assert count.answered == sum(wanted) == len(candidate.asked)
    assert count.own_answers == 200 - sum(wanted)


@pytest.mark.parametrize("fails", [RuntimeError("dead"), {"nonsense": 1}])
def test_canary_that_fails_costs_no_answer(answers, fails):
    own, _ = answers
    said, count = try_out(Candidate(fails), own, bodies=BODIES[:10], mode="canary")
    assert [answer.label for answer in said] == [own["label"]] * 10
    assert (count.asked, count.failed, count.answered) == (10, 10, 0)


def test_canary_that_takes_too_long_costs_no_answer(answers):
    own, other = answers
    slow = Candidate(other, delay_s=30.0)
    said, count = try_out(slow, own, bodies=BODIES[:2], timeout_s=0.02, mode="canary")
    assert [answer.label for answer in said] == [own["label"]] * 2
    assert count.failed == 2


def test_recording_that_nobody_can_read_is_not_the_candidates_fault(answers):
    bad = AudioError("not_audio", "it is none")
    with pytest.raises(AudioError):
        try_out(Candidate(RuntimeError()), bad, bodies=BODIES[:1], mode="canary")


def test_counts_of_routers_add_up():
    total = TrialCount(asked=1, own_ms=2.0) + TrialCount(asked=3, failed=1, own_ms=0.5)
    assert (total.asked, total.failed, total.own_ms) == (4, 1, 2.5)


def test_routes_ask_the_trial_and_the_run_itself_can_be_asked(ask, serve_run, wav, sound, answers):
    _, other = answers
    service = serve_run()
    plan = TrialPlan(version=2, mode="canary")
    service.trial = Trial(plan, Candidate(other), timeout_s=5.0, meter=Meter())
    told = ask("POST", "/v1/classify", body=wav(sound()), service=service).json()
    assert told["run"] == "candidate"
    own = asyncio.run(service.answer_bytes(wav(sound()), Options()))
    assert own.run == "tiny"
