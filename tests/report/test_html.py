"""Whatever enters is escaped; tables have captions, pictures have words."""

import pytest

from xmoe.pictures.style import new_figure
from xmoe.report.html import (
    Markup,
    Section,
    bullets,
    drawn,
    element,
    interval,
    join,
    paragraph,
    percent,
    render_page,
    safe,
    table,
)

EVIL = "<script>alert('x')</script>"


@pytest.mark.parametrize(
    "made",
    [
        safe(EVIL),
        join(EVIL, paragraph(EVIL)),
        bullets([EVIL]),
        render_page(EVIL, EVIL, [Section(EVIL, safe(EVIL))]),
        table(EVIL, (EVIL, "n"), [(EVIL, EVIL)]),
        element("p", aria_label=f'"{EVIL}'),
        drawn(new_figure(1, 1, EVIL), EVIL, EVIL),
    ],
    ids=["safe", "join", "bullets", "section", "table", "attribute", "picture"],
)
def test_no_text_becomes_a_tag(made):
    assert "<script" not in made
    assert "&lt;script&gt;alert(&#39;x&#39;)" in made


def test_markup_is_not_escaped_twice():
    assert safe(safe("a & b")) == "a &amp; b"
    assert isinstance(join("a"), Markup)


def test_letters_that_cannot_be_seen_are_replaced():
    assert safe("a\x00b\u202ec") == "a\ufffdb\ufffdc"


def test_table_has_caption_and_scopes():
    made = table("Counts", ("class", "n"), [("whale", 3)])
    assert "<caption>Counts</caption>" in made
    assert '<th scope="col" class="text">class</th>' in made
    assert '<th scope="row" class="text">whale</th><td class="number">3</td>' in made


def test_picture_says_its_title_and_scrolls_where_it_is_wide():
    small, wide = drawn(new_figure(2, 1, "two\nlines"), "Map"), drawn(new_figure(9, 1), "Map")
    assert 'alt="Map: two lines"' in small
    assert "class=wide" in wide
    assert "class=wide" not in small


def test_figures_are_said_for_people():
    assert percent(0.8751) == "87.5 %"
    assert percent(None) == "–"
    assert interval((0.5, 1.0)) == " (95 % interval 50.0 to 100.0)"
    assert interval(None) == ""


def test_document_locks_the_outside_and_names_its_parts():
    page = render_page("a <run>", "90 % & more", [Section("One part", Markup("text"))])
    assert page.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert "default-src 'none'" in page
    assert "<title>a &lt;run&gt;</title>" in page
    assert '<p class="answer">90 % &amp; more</p>' in page
    assert '<a href="#one-part">One part</a>' in page
    assert '<h2 id="one-part">' in page
    assert "@media print" in page
