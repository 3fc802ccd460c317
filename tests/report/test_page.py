"""The document forbids requests and scripts, and links to its own sections only."""

from xmoe.report.html import Markup, Section
from xmoe.report.page import render_page


def test_document_locks_the_outside_and_names_its_parts():
    page = render_page("a <run>", "90 % & more", [Section("One part", Markup("text"))])
    assert page.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert "default-src 'none'" in page
    assert "<title>a &lt;run&gt;</title>" in page
    assert '<p class="answer">90 % &amp; more</p>' in page
    assert '<a href="#one-part">One part</a>' in page
    assert '<h2 id="one-part">' in page
    assert "@media print" in page
