"""The whole report: one file, nothing from outside, no text that became a tag, torn parts named."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from xmoe.base.errors import RunFolderError
from xmoe.report.mistakes import Illustration
from xmoe.report.report import PARTS, render_report, write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
VOID = {"meta", "link", "img", "br"}
LOADS = {"src", "href", "srcset", "poster", "data", "action", "background", "xlink:href"}


POINT = {"level": 10.0, "accuracy": 0.75, "accuracy_ci": [0.7, 0.8], "loss": 0.15}
POINT |= {"loss_ci": [0.1, 0.2], "mean_k": 1.25}
HARMS = [
    {"name": name, "title": "Too quiet, 16 bit", "unit": "dB full scale", "points": [POINT] * 5}
    for name in ("a", "b", "c", "d")
]
ROBUSTNESS = {"num_clips": 40, "num_clips_of_split": 60, "split": "test", "harms": HARMS}
ROBUSTNESS |= {"clean": {**POINT, "accuracy": 0.9}}


class Page(HTMLParser):
    """Every tag with its attributes, and whether all that was opened was closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """Return a run in which robustness was measured too."""
    copy = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(run, copy)
    (copy / "robustness.json").write_text(json.dumps(ROBUSTNESS))
    return copy


@pytest.fixture(scope="module")
def text(whole):
    return render_report(whole, illustrate=lambda _: Illustration(b"png", "map", b"wav"))


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_no_part_is_absent(text):
    assert "This part is absent" not in text


def test_nothing_is_loaded_from_outside(page, text):
    for tag, attributes in page.tags:
        for name in LOADS & set(attributes):
            assert re.match(r"data:|#", attributes[name] or ""), (tag, name)
    assert "url(" not in text
    assert "@import" not in text
    assert not re.search(r"https?://", text)


def test_no_script_and_no_handler(page):
    assert page.all("script") == []
    assert [a for _, a in page.tags if any(name.startswith("on") for name in a)] == []


def test_every_tag_is_closed_and_every_id_is_one(page):
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"] for a in page.all("a")} == {f"#{name}" for name in ids}


def test_landmarks_headings_alt_texts_and_captions(page):
    for name in ("header", "nav", "main", "h1"):
        assert len(page.all(name)) == 1
    assert all(image.get("alt") for image in page.all("img"))
    assert len(page.all("table")) == len(page.all("caption"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_same_run_same_bytes(whole, text, tmp_path):
    illustration = Illustration(b"png", "map", b"wav")
    written = write_report(whole, tmp_path / "again.html", illustrate=lambda _: illustration)
    assert written.read_bytes() == text.encode()


def test_a_folder_of_nothing_gives_a_report_that_says_so(tmp_path):
    written = write_report(tmp_path)
    assert written == tmp_path / "report.html"
    assert written.read_text().count("This part is absent") == len(PARTS) + 2
    assert "There are no figures" in written.read_text()


def test_no_folder_is_an_error(tmp_path):
    with pytest.raises(RunFolderError, match="no such run folder"):
        render_report(tmp_path / "none")


def open_in_chromium(text: str, folder: Path) -> tuple[str, list[str], list[str]]:
    """Return the page as Chromium has it, what its console says, and who asked for anything.

    The browser's own requests have no origin; those of a page from a file have the origin null.
    """
    page, log = folder / "page.html", folder / "net.json"
    page.write_text(text, encoding="utf-8")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [
        "--enable-logging=stderr",
        "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ]
    command += [f"--log-net-log={log}", f"--user-data-dir={folder / 'profile'}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    askers = re.findall(r'"initiator":"([^"]*)"', log.read_text(encoding="utf-8"))
    return done.stdout, said, [asker for asker in askers if asker != "not an origin"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_chromium_asks_no_host_and_logs_no_error(text, tmp_path):
    shown, said, asked = open_in_chromium(text, tmp_path)
    assert "<h1>xmoe run: run</h1>" in shown
    assert said == []
    assert asked == []


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_chromium_would_tell(tmp_path):
    chatty = '<img src="https://host.invalid/a.png"><script>console.error("oh")</script>'
    _, said, asked = open_in_chromium(chatty, tmp_path)
    assert len(said) == 1
    assert asked == ["null"]


@pytest.fixture(scope="module")
def browser():
    """A Chromium that is driven from here."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with pytest.importorskip("playwright.sync_api").sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize(
    ("width", "media"), [(1280, "screen"), (390, "screen"), (718, "print")]
)  # 718 is A4 less its margins
def test_nothing_is_wider_than_desk_phone_or_paper(browser, text, tmp_path, width, media):
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900})
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url.split(":", 1)[0]))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.emulate_media(media=media)
    page.goto((tmp_path / "page.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    scrolls = "[...document.querySelectorAll('.scroll')]"
    if media == "print":  # paper cannot be scrolled
        wide = f"{scrolls}.filter(part => part.firstChild.getBoundingClientRect().right > {width})"
        assert page.evaluate(f"{wide}.map(part => part.ariaLabel)") == []
    assert set(asked) <= {"file", "data"}
    assert said == []
    page.close()
