"""What operators are told, as numbers and on their page in Chromium."""

import asyncio
import urllib.request

import pytest

from tests.fixtures.browser import needs_chromium, wait_until
from xmoe.serve.deploy.registry import Change, Registry, State, TrialPlan, Version
from xmoe.serve.deploy.trial import Trial, TrialCount
from xmoe.serve.guard.tokens import Allowance, single
from xmoe.serve.settings import ServeSettings
from xmoe.serve.telemetry.meter import Meter
from xmoe.serve.watch.fleet import Fleet, Siblings
from xmoe.serve.watch.ops import MOST_VERSIONS, summarise

ADMIN, FIELD = "a" * 20, "f" * 20


def version_of(number):
    return Version(
        number=number,
        settings=ServeSettings(run=f"/runs/{number}"),
        weights_sha256=str(number) * 64,
        figures={"accuracy": 0.9 + number / 1000},
        by="user@host",
        at="2025-06-01T10:00:00+00:00",
        why="labels of May",
    )


def state_of(count, **more):
    return State(versions=tuple(map(version_of, range(1, count + 1))), **more)


@pytest.fixture
def registry(tmp_path):
    """A registry with a second version on trial beside the first."""
    written = Registry(str(tmp_path / "registry"), "xmoe")
    plan = TrialPlan(version=2, mode="shadow", share=0.5)
    state = state_of(2, production=1, candidate=2, trial=plan)
    written.write(state, Change(what="on trial", version=2))
    return written.address


@pytest.fixture
def two_routers(serve_run, registry):
    """The service of one router that has a sibling; both were asked something."""
    faults = {"breaker_open_s": 600.0}
    service, other = serve_run(registry=registry, faults=faults), serve_run(faults=faults)
    service.meter.note_answer(k=2.0, degraded=False, stages_s={"plan": 0.010, "experts": 0.010})
    other.meter.note_answer(k=0.4, degraded=True, stages_s={"plan": 0.040})
    other.meter.note_refusal("not_audio")
    other.router.fanout.tallies["low"].note("dead", 0.0)
    for _ in range(5):
        other.router.fanout.breakers["low"].fail()
    for router, count in ((service, 3), (other, 4)):
        plan = TrialPlan(version=2, mode="shadow")
        router.trial = Trial(plan, None, timeout_s=1.0, meter=Meter())
        router.trial.count = TrialCount(asked=count, answered=count, candidate_ms=10.0 * count)

    async def report_all():
        return [other.operations.report().model_copy(update={"replica": "b"}), None]

    service.operations.fleet = Fleet(service.operations.report, Siblings("a", "xmoe", report_all))
    return service


def test_routers_are_told_together_and_each(two_routers):
    told = asyncio.run(two_routers.operations.describe())
    assert (told.routers, told.silent_routers) == (2, 1)
    assert (told.load.requests, told.load.refusals, told.load.degraded) == (3, {"not_audio": 1}, 1)
    assert told.load.p50_ms == pytest.approx(30.0)
    assert [load.requests for load in told.each.values()] == [1, 2]
    assert told.asked == {0: 1, 2: 1}
    assert told.mean_k == pytest.approx(1.2)
    assert (told.trial.answered, told.trial.candidate_ms) == (7, 70.0)
    assert told.router_replicas is None


def test_versions_have_their_roles(two_routers):
    told = asyncio.run(two_routers.operations.describe()).registry
    assert [(one.number, one.role, one.run) for one in told.versions] == [
        (2, "candidate", "/runs/2"),
        (1, "production", "/runs/1"),
    ]
    assert (told.trial.mode, told.trial.share, told.change.what) == ("shadow", 0.5, "on trial")


def test_only_the_latest_versions_are_told():
    told = summarise(state_of(MOST_VERSIONS + 5, production=25)).versions
    assert [one.number for one in told] == list(range(25, 5, -1))


def test_before_the_first_request_and_without_a_registry(ask):
    told = ask("GET", "/v1/ops").json()
    assert (told["load"]["requests"], told["load"]["p99_ms"], told["mean_k"]) == (0, None, None)
    assert (told["registry"], told["trial"], told["asked"]) == (None, None, {})


def test_a_registry_that_cannot_be_read_is_no_reason_not_to_answer(ask, serve_run, tmp_path):
    (tmp_path / "000001.json").write_text("torn")
    told = ask("GET", "/v1/ops", service=serve_run(registry=str(tmp_path))).json()
    assert "000001.json" in told["registry"]["problem"]


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_operators_see_experts_routers_versions_and_the_trial(visit, two_routers, scheme):
    page, seen, address = visit(
        "/ops", service=two_routers, viewport={"width": 390, "height": 844}, color_scheme=scheme
    )
    page.wait_for_selector("#ops:not([hidden])")
    rows = page.eval_on_selector_all("#states tbody tr", "rows => rows.map(r => r.innerText)")
    cells = {row.split("\t")[0]: row.split("\t") for row in rows}
    assert set(cells) == {"broadband", "low", "transient"}
    assert cells["low"][2] == "1 open, 1 closed"
    assert cells["low"][-1] == "1 dead"
    flags = page.inner_text("#flags")
    assert "low: its breaker is open." in flags
    assert "Routers that do not answer and are left out: 1." in flags
    assert page.locator("#each tbody tr").count() == 2
    assert page.locator("#asked tbody tr").count() == 2
    assert "1.20" in page.inner_text("#tiles")
    assert "version 2 as a shadow for 50.0 %" in page.inner_text("#release-words")
    assert "7 of 7 answered, 0 failed, 0 disagreed" in page.inner_text("#release-words")
    roles = page.eval_on_selector_all(
        "#versions tbody td.number + td", "all => all.map(e => e.innerText)"
    )
    assert roles == ["candidate", "production"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert seen.errors == []
    assert seen.hosts == {address}


@needs_chromium
def test_the_figures_follow_what_comes_in_until_they_are_held(visit, serve_run, wav, sound):
    service = serve_run()
    page, seen, address = visit("/ops", service=service)
    page.wait_for_selector("#ops:not([hidden])")
    assert page.is_visible("#nothing-asked")

    def post():
        request = urllib.request.Request(f"{address}/v1/classify", data=wav(sound()))
        urllib.request.urlopen(request).read()

    post()
    wait_until(page, "document.querySelectorAll('#asked tbody tr').length === 1")
    wait_until(page, "document.getElementById('latency-words').textContent.includes('at most')")
    page.click("#hold")
    page.wait_for_timeout(300)
    post()
    page.wait_for_timeout(3000)
    assert page.inner_text("#asked tbody td.number") == "1"
    page.click("#hold")
    wait_until(page, "document.querySelector('#asked tbody td.number').textContent === '2'")
    assert seen.errors == []


@needs_chromium
def test_a_token_given_twice_begins_no_second_round(visit):
    page, seen, _ = visit("/ops")
    page.wait_for_selector("#ops:not([hidden])")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    submit = (
        "document.getElementById('door').dispatchEvent(new Event('submit', {cancelable: true}))"
    )
    page.evaluate(f"{submit}; {submit}")
    page.wait_for_timeout(500)
    asked.clear()
    page.wait_for_timeout(4500)
    assert sum(url.endswith("/v1/ops") for url in asked) in (1, 2, 3)
    assert seen.errors == []


@needs_chromium
def test_only_a_token_with_the_scope_admin_opens_it(visit, serve_run):
    field = Allowance(token=FIELD, scopes={"ask", "explain"})
    tokens = {"field": field, **single(ADMIN)}
    page, _, _ = visit("/ops", service=serve_run(), tokens=tokens)
    page.wait_for_selector("#door:not([hidden])")
    for token, wanted in ((FIELD, "admin"), ("wrong", "no token, or a wrong one")):
        page.fill("#token", token)
        page.keyboard.press("Enter")
        wait_until(page, f"document.getElementById('problem').textContent.includes('{wanted}')")
        assert page.is_hidden("#ops")
    page.fill("#token", ADMIN)
    page.keyboard.press("Enter")
    page.wait_for_selector("#ops:not([hidden])")
    assert page.is_hidden("#door")
    assert page.is_hidden("#problem")
