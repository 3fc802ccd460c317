"""Sections -> a whole HTML document with its style, for screens, phones and paper, and a lock.

The content security policy forbids every request and every script; what the page shows is in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from xmoe.report.html import Section, safe

POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)

STYLE = """
:root { --ink: #22313f; --quiet: #5b6670; --line: #d9dee3; --blue: #0072b2; --tint: #f4f7fa; }
* { box-sizing: border-box; }
html { background: #fff; color: var(--ink); -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 62rem; padding: 0 1rem 3rem; overflow-wrap: anywhere;
  font: 1rem/1.55 system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
header { padding: 1.5rem 0 0.5rem; border-bottom: 3px solid var(--blue); }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 0.5rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 0.75rem; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 0.5rem; }
p, ul, dl { margin: 0 0 0.9rem; }
ul { padding-left: 1.3rem; }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 0.1rem 1.1rem; }
nav a { display: inline-block; padding: 0.25rem 0; color: var(--blue); }
.answer { font-size: 1.15rem; max-width: 48rem; }
.absent, .warning { background: #fff6e0; border-left: 4px solid #e69f00; padding: 0.5rem 0.8rem; }
.quiet, figcaption { color: var(--quiet); font-size: 0.9rem; }
.scroll { overflow-x: auto; max-width: 100%; margin: 0 0 0.9rem; }
.scroll:focus-visible { outline: 2px solid var(--blue); }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: 0.3rem 0; }
th, td { padding: 0.28rem 0.7rem 0.28rem 0; border-bottom: 1px solid var(--line);
  text-align: left; vertical-align: top; font-weight: 400; overflow-wrap: break-word; }
thead th { color: var(--quiet); border-bottom: 2px solid var(--line); white-space: nowrap; }
.number { text-align: right; white-space: nowrap; }
tbody .text { min-width: 4.5rem; max-width: 18rem; }
tbody td.text:last-child { min-width: 15rem; max-width: 36rem; }
figure { margin: 0 0 1.2rem; }
img { display: block; max-width: 100%; height: auto; }
pre { background: var(--tint); padding: 0.8rem; white-space: pre-wrap; font-size: 0.8rem; }
audio { width: 100%; max-width: 26rem; height: 2.5rem; }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); }
article { border: 1px solid var(--line); border-radius: 6px; padding: 0.8rem; min-width: 0; }
article h3 { margin-top: 0; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 0.8rem; }
.facts div { background: var(--tint); border-radius: 6px; padding: 0.5rem 0.8rem; }
.facts dt { color: var(--quiet); font-size: 0.85rem; }
.facts dd { margin: 0; font-size: 1.1rem; font-weight: 600; }
@media (max-width: 40rem) {
  h1 { font-size: 1.35rem; } .answer { font-size: 1.05rem; }
  img.wide { max-width: none; width: 40rem; }
  .words thead { display: none; } .words tr { border-bottom: 1px solid var(--line); }
  .words, .words tbody, .words tr, .words th, .words td, .words caption { display: block; }
  .words tr > * { border: 0; padding: 0.15rem 0; } .words th { font-weight: 600; }
  .words .text { max-width: none; min-width: 0 !important; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; } nav, audio { display: none; }
  h2, h3, caption { break-after: avoid; } figure, article, tr { break-inside: avoid; }
  .scroll { overflow: visible; } img.wide { max-width: 100%; width: auto; }
  .cards { grid-template-columns: 1fr 1fr; }
}
"""


def render_page(title: str, answer: str, sections: Sequence[Section]) -> str:
    """Return the document: title, the answer in a sentence, links to the sections, the sections."""
    links = "\n".join(
        f'<li><a href="#{part.name}">{safe(part.title)}</a></li>' for part in sections
    )
    body = "\n".join(part.render() for part in sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{safe(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{safe(title)}</h1>
<p class="answer">{safe(answer)}</p>
<nav aria-label="Parts of this report">
<ul>
{links}
</ul>
</nav>
</header>
<main>
{body}
</main>
</body>
</html>
"""
