"""The page: its files and headers; and in Chromium, from a recording to its reasons."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.fixtures.browser import needs_chromium, wait_until
from tests.fixtures.runs import write_run
from xmoe.audio.dataset import Dataset, Example
from xmoe.predict.samples import write_samples
from xmoe.run.folder import RunFolder
from xmoe.serve import pages
from xmoe.serve.guard.tokens import single
from xmoe.serve.http.corrections import read_rows

TOKEN = "0123456789abcdef0123"
ROOT = Path(pages.__file__).parents[2]
RATE_HZ = 8000
IS_DRAWN = """id => {
  const c = document.getElementById(id);
  const bytes = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  const seen = new Set();
  for (let i = 0; i < bytes.length; i += 4) seen.add(bytes.slice(i, i + 3).join());
  return seen.size;
}"""


def test_every_file_is_served_with_its_type_and_policy(ask):
    for path, name in pages.FILES.items():
        reply = ask("GET", path, token=TOKEN)
        assert reply.status == 200
        assert reply.body == (ROOT / "xmoe/serve/page" / name).read_bytes()
        assert reply.headers["content-type"] == pages.TYPES[Path(name).suffix]
        assert reply.headers["x-content-type-options"] == "nosniff"
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy


def test_nothing_else_of_the_folder_is_served(ask):
    assert {path.name for path in (ROOT / "xmoe/serve/page").iterdir()} == set(pages.NAMES)
    for path in ("/page/index.html", "/page/../pages.py", "/page/nothing.js", "/page/"):
        assert ask("GET", path).status == 404


def test_a_file_that_the_browser_holds_is_not_sent_again(ask):
    tag = ask("GET", "/").headers["etag"]
    again = ask("GET", "/", headers={"If-None-Match": f'"other", {tag}'})
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    assert again.headers["cache-control"] == "no-cache"
    assert ask("GET", "/", headers={"If-None-Match": '"other"'}).status == 200


def test_head_has_the_headers(ask):
    assert ask("HEAD", "/").headers["content-security-policy"] == pages.POLICY


def test_the_files_name_no_other_host_and_no_inline_code():
    for name in pages.NAMES:
        text = (ROOT / "xmoe/serve/page" / name).read_text()
        hosts = set(re.findall(r"https?://[\w.-]+", text)) - {"http://www.w3.org", "http://HOST"}
        assert hosts == set()
        assert "innerHTML" not in text
        assert "eval(" not in text
    for name in pages.PAGES.values():
        page = (ROOT / "xmoe/serve/page" / name).read_text()
        assert not re.search(r"\son\w+=|\sstyle=|<style|<script(?! type=\"module\" src=)", page)


def test_the_wheel_holds_the_page(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        held = {name.removeprefix("xmoe/serve/page/") for name in wheel.namelist()}
    assert set(pages.NAMES) <= held


def recording(wav, samples, name="clip.wav"):
    return {"name": name, "mimeType": "audio/wav", "buffer": wav(samples)}


@needs_chromium
def test_from_a_file_to_its_reasons(visit, wav, sound, in_process):
    page, seen, address = visit()
    page.set_input_files("#file", recording(wav, sound()))
    page.wait_for_selector("#seen:not([hidden])")
    expected = in_process.predict(sound(), RATE_HZ)
    assert page.inner_text("#label") == expected.label
    assert page.locator("#classes tbody tr").count() == 2
    assert f"{100 * expected.probability:.1f} %" in page.inner_text("#classes tbody tr.top")
    shares = page.eval_on_selector_all("#classes .bar", "bars => bars.map(b => b.offsetWidth)")
    assert shares[0] > shares[1]
    names = [use.name for use in expected.experts]
    assert page.locator("#experts h4").all_inner_texts() == names
    assert page.evaluate(IS_DRAWN, "figure") > 20
    for index in range(len(names)):
        page.evaluate(
            "i => { document.querySelectorAll('#experts canvas')[i].id = `e${i}`; }", index
        )
        assert page.evaluate(IS_DRAWN, f"e{index}") > 20
    assert "total" in page.text_content("#json")
    assert "peak at" in page.inner_text("#figure-words")
    assert page.inner_text("#status").startswith(f"Answer: {expected.label}")
    assert seen.errors == []
    assert {host for host in seen.hosts if not host.startswith("blob:")} == {address}


@needs_chromium
def test_with_the_keyboard_alone(visit, wav, sound):
    page, seen, _ = visit()
    wait_until(page, "document.getElementById('model').textContent.includes('classes')")
    page.on("filechooser", lambda _: None)  # the browser hands choosers over from here on
    press_until(page, "Tab", "file")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(recording(wav, sound()))
    page.wait_for_selector("#seen:not([hidden])")
    press_until(page, "Tab", "map")
    page.keyboard.press("ArrowRight")
    assert page.eval_on_selector("input[name=map]:checked", "e => e.value") == "gradcam"
    assert "evidence for" in page.inner_text("#figure-words")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")
    assert page.get_attribute("#opacity", "aria-valuetext") == "79 %"
    assert seen.errors == []


def press_until(page, key, wanted):
    """Press a key until what has that id or name has focus."""
    where = "w => [document.activeElement.id, document.activeElement.name].includes(w)"
    for _ in range(40):
        page.keyboard.press(key)
        if page.evaluate(where, wanted):
            return
    raise AssertionError(f"{wanted} is not reached")


@needs_chromium
def test_a_file_that_is_no_recording(visit):
    page, _, _ = visit()
    text = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no sound in here " * 50}
    page.set_input_files("#file", text)
    page.wait_for_selector("#problem:not([hidden])")
    said = page.inner_text("#problem")
    assert "not_audio" in said
    assert "WAV" in said
    assert page.is_hidden("#answer")


@needs_chromium
def test_a_long_recording_is_walked_through_by_its_windows(visit, wav, sound):
    page, seen, _ = visit(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.set_input_files("#file", recording(wav, sound(3.0)))
    page.wait_for_selector("#long:not([hidden])")
    assert page.evaluate(IS_DRAWN, "overview") > 20
    wait_until(page, "!document.getElementById('source').hasAttribute('aria-busy')")
    page.focus("#window")
    page.keyboard.press("End")
    wait_until(
        page,
        "document.getElementById('segment-title').textContent.startsWith('Window from 2.60 s')",
    )
    assert "2.60 s to 3.00 s" in page.get_attribute("#window", "aria-valuetext")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert seen.errors == []


@needs_chromium
def test_a_phone_is_not_scrolled_sideways(visit, wav, sound, serve_run, closed_run):
    page, seen, _ = visit(service=serve_run(run=closed_run), viewport={"width": 320, "height": 640})
    page.select_option("#budget", "all")
    page.set_input_files("#file", recording(wav, sound(1.0, seed=2)))
    page.wait_for_selector("#experts canvas")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    wide = "[...document.querySelectorAll('.scroll')].some(e => e.scrollWidth > e.clientWidth)"
    page.evaluate("document.querySelectorAll('details').forEach(e => { e.open = true; })")
    assert not page.evaluate(wide)
    assert seen.errors == []


@needs_chromium
def test_experts_appear_when_they_are_asked_for(visit, wav, sound, serve_run, closed_run):
    page, seen, _ = visit(service=serve_run(run=closed_run))
    wait_until(page, "document.getElementById('model').textContent.includes('classes')")
    page.click("summary:has-text('Options')")
    page.select_option("#kmax", "0")
    page.set_input_files("#file", recording(wav, sound()))
    page.wait_for_selector("#no-experts:not([hidden])")
    assert page.locator("#experts li").count() == 0
    page.click("#ask-all")
    page.wait_for_selector("#experts li:nth-child(3) canvas")
    assert page.locator("#experts h4").all_inner_texts() == ["first", "second", "third"]
    assert "pcen" in page.inner_text("#experts li:nth-child(2) p")
    assert page.input_value("#budget") == "all"
    page.select_option("#budget", "latency")
    wait_until(page, "document.querySelectorAll('#experts li').length < 3")
    assert seen.errors == []


@needs_chromium
def test_an_answer_is_confirmed_and_corrected(visit, wav, sound, serve_run, tmp_path):
    service = serve_run(corrections={"folder": str(tmp_path)})
    page, seen, _ = visit(service=service)
    page.set_input_files("#file", recording(wav, sound(3.0), "=long.wav"))
    page.wait_for_selector("#long:not([hidden])")
    label = page.inner_text("#label")
    assert page.inner_text("#asked") == f"Is {label} right?"
    page.click("#right")
    wait_until(page, "document.getElementById('kept').textContent.startsWith('Saved as')")
    assert "not kept" in page.inner_text("#kept")
    page.check("#part")
    assert "from" in page.inner_text("#asked")
    page.click("#wrong")
    page.fill("#other", "frog")
    page.keyboard.press("Enter")
    wait_until(page, "document.getElementById('kept').textContent.startsWith('Saved as frog')")
    page.click("#wrong")
    page.fill("#other", "=1")
    page.keyboard.press("Enter")
    wait_until(page, "document.getElementById('kept').textContent.startsWith('Not saved')")
    right = read_rows(tmp_path / "corrections.csv")
    assert [(row["filepath"], row["label"], row["start_s"]) for row in right] == [
        ("./=long.wav", label, "")
    ]
    (wrong,) = read_rows(tmp_path / "new_labels.csv")
    assert (wrong["label"], float(wrong["end_s"]) - float(wrong["start_s"])) == (
        "frog",
        pytest.approx(0.4),
    )
    assert len([error for error in seen.errors if "422" not in error]) == 0


def run_with_a_sample(folder, recording):
    run = write_run(folder / "run")
    (folder / "a.wav").write_bytes(recording)
    data = Dataset(folder, (Example("a.wav", "test", ("tone",)),), ("tone",), "single_label")
    write_samples(RunFolder(run), data)
    return run


@needs_chromium
def test_classes_and_samples_are_there_before_a_file(visit, serve_run, tmp_path, wav, sound):
    run = run_with_a_sample(tmp_path, wav(sound()))
    page, seen, _ = visit(service=serve_run(run=run, corrections={"enabled": False}))
    page.wait_for_selector("#samples button")
    assert page.locator("#labels li").all_inner_texts() == ["click", "tone"]
    page.click("#samples button:has-text('tone')")
    page.wait_for_selector("#seen:not([hidden])")
    assert page.inner_text("#name") == "sample 1 (tone).wav"
    assert page.is_hidden("#verdict")
    assert page.is_hidden("#labels")
    page.click("#live")
    page.wait_for_selector("#stream:not([hidden])")
    assert page.is_hidden("#heard")
    page.click("#live")
    assert seen.errors == []


@needs_chromium
def test_a_token_given_again_doubles_nothing(visit, serve_run, tmp_path, wav, sound):
    page, seen, _ = visit(service=serve_run(run=run_with_a_sample(tmp_path, wav(sound()))))
    page.wait_for_selector("#samples button")
    count = "document.querySelectorAll('#samples button, #kmax option').length"
    before = page.evaluate(count)
    page.select_option("#kmax", "1", force=True)
    with page.expect_response("**/v1/model"):
        page.evaluate("document.getElementById('door').dispatchEvent(new Event('submit'))")
    page.wait_for_timeout(300)
    assert page.evaluate(count) == before
    assert page.input_value("#kmax") == "1"
    assert seen.errors == []


@needs_chromium
@pytest.mark.parametrize(("number", "said"), [(0, "0 events"), (1, "1 event"), (2, "2 events")])
def test_plurals(visit, number, said):
    page, _, _ = visit()
    counted = "n => import('/page/show.js').then(show => show.count(n, 'event'))"
    assert page.evaluate(counted, number) == said


@needs_chromium
def test_the_microphone_is_recorded(visit):
    page, seen, _ = visit()
    page.select_option("#seconds", "2")
    page.click("#record")
    page.wait_for_selector("#seen:not([hidden])")
    assert "Recorded here" in page.inner_text("#heard")
    duration_s = page.evaluate("document.getElementById('player').duration")
    assert duration_s == pytest.approx(2.0, abs=0.01)
    assert page.inner_text("#record") == "Record"
    assert seen.errors == []


@needs_chromium
def test_token_is_asked_and_the_microphone_is_heard_live(visit):
    page, seen, address = visit(tokens=single(TOKEN))
    page.wait_for_selector("#door:not([hidden])")
    page.fill("#token", "wrong")
    page.keyboard.press("Enter")
    wait_until(page, "document.getElementById('token').value === ''")
    assert page.is_visible("#door")
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector("#door", state="hidden")
    seen.errors.clear()
    page.click("#live")
    page.wait_for_selector("#log tbody tr")
    page.wait_for_timeout(500)
    assert page.evaluate(IS_DRAWN, "waterfall") > 4
    assert page.inner_text("#label") in ("click", "tone")
    page.click("#live")
    wait_until(page, "document.getElementById('live').textContent === 'Listen live'")
    assert page.is_hidden("#problem")
    assert seen.errors == []
    assert address.replace("http", "ws") in seen.hosts
    assert page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
    assert TOKEN not in page.url
