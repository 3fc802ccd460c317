"""Values -> pieces of HTML: text is escaped, tables have captions, pictures have words for them.

A ``Markup`` is HTML that is safe to put into a page; every other value is escaped on its way in, so
that what comes from data (class names, file names, reasons) can never become a tag.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from matplotlib.figure import Figure

from xmoe.pictures.style import to_png

DASH = "–"
WIDE_INCHES = 6.0
WORDY = 3


class Markup(str):
    """HTML that needs no escaping any more."""

    __slots__ = ()


def safe(value: object) -> Markup:
    """Return a value as HTML text; what is ``Markup`` already stays as it is."""
    if isinstance(value, Markup):
        return value
    text = "".join(
        letter if letter.isprintable() or letter == "\n" else "�" for letter in str(value)
    )
    return Markup(escape(text))


def join(*parts: object) -> Markup:
    """Return pieces one after the other, each on its line."""
    return Markup("\n".join(safe(part) for part in parts if part != ""))


def element(name: str, *parts: object, **attributes: object) -> Markup:
    """Return an element; ``class_`` is written ``class``, ``aria_label`` is ``aria-label``."""
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{safe(value)}"' for key, value in attributes.items()
    )
    return Markup(f"<{name}{words}>{''.join(safe(part) for part in parts)}</{name}>")


def paragraph(*parts: object, class_: str = "") -> Markup:
    """Return a paragraph."""
    return element("p", *parts, **({"class_": class_} if class_ else {}))


def bullets(items: Iterable[object]) -> Markup:
    """Return a list, or nothing where there are no items."""
    rows = [element("li", item) for item in items]
    return element("ul", *rows) if rows else Markup("")


@dataclass(frozen=True)
class Section:
    """A part of the page that its heading names."""

    title: str
    body: Markup

    @property
    def name(self) -> str:
        """What links to it say."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    def render(self) -> Markup:
        """Return heading and body as an element."""
        inside = join(element("h2", self.title, id=self.name), self.body)
        return Markup(f'<section aria-labelledby="{self.name}">\n{inside}\n</section>')


def table(
    caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, texts: int = 1
) -> Markup:
    """Return a table; the first of its columns names the row and the first ``texts`` are text."""
    kinds = ["text" if index < texts else "number" for index in range(len(columns))]
    head = [
        element("th", name, scope="col", class_=kind)
        for name, kind in zip(columns, kinds, strict=True)
    ]
    body = []
    for row in rows:
        cells = [element("th", row[0], scope="row", class_="text")]
        pairs = zip(row[1:], kinds[1:], strict=True)
        cells += [element("td", cell, class_=kind) for cell, kind in pairs]
        body.append(element("tr", *cells))
    inside = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *head)),
        Markup("\n<tbody>\n" + "\n".join(body) + "\n</tbody>\n"),
        class_="words" if texts >= WORDY else "figures",
    )
    return element("div", inside, class_="scroll", tabindex=0, role="region", aria_label=caption)


def picture(png: bytes, alt: str, caption: object = "", *, wide: bool = False) -> Markup:
    """Return a PNG picture within the page; ``alt`` says in words what it shows."""
    source = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    image = Markup(f'<img src="{source}" alt="{safe(alt)}"{" class=wide" if wide else ""}>')
    frame = element("div", image, class_="scroll", tabindex=0, role="region", aria_label=alt)
    words = element("figcaption", caption) if caption else ""
    return element("figure", frame if wide else image, words)


def drawn(figure: Figure, what: str, caption: object = "") -> Markup:
    """Return a figure as a picture; its title becomes the alternative text after ``what``."""
    title = " ".join(figure.get_suptitle().split())
    alt = f"{what}: {title}" if title else what
    wide = figure.get_size_inches()[0] > WIDE_INCHES
    return picture(to_png(figure), alt, caption, wide=bool(wide))


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as a percentage, or a dash where there is none."""
    return DASH if share is None else f"{share:.{digits}%}".replace("%", " %")


def interval(bounds: Sequence[float] | None) -> str:
    """Return a pair of shares as an interval in brackets, or nothing."""
    if bounds is None:
        return ""
    return f" (95 % interval {100 * bounds[0]:.1f} to {100 * bounds[1]:.1f})"
