"""Values -> HTML: escaped text, tables with captions, pictures with alternative text, the page.

A ``Markup`` is HTML that is safe to put into a page; every other value is escaped on its way in, so
that what comes from data (class names, file names, reasons) can never become a tag. The document
and its style, for screens, phones and paper, are templates in ``page/``.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from xmoe.pictures.style import to_png

DASH = "–"
WIDE_INCHES = 6.0  # wider figures scroll on phones
WORDY = 3  # text columns from which a table stacks on phones


def safe(value: object) -> Markup:
    """A value as HTML text; ``Markup`` stays as it is, and unprintable letters are replaced."""
    if isinstance(value, Markup):
        return value
    text = "".join(
        letter if letter.isprintable() or letter == "\n" else "�" for letter in str(value)
    )
    return escape(text)


def join(*parts: object) -> Markup:
    """Pieces one after the other, each on its line."""
    return Markup("\n").join(safe(part) for part in parts if part != "")


def element(name: str, *parts: object, **attributes: object) -> Markup:
    """An element; ``class_`` is written ``class``, ``aria_label`` is ``aria-label``."""
    words = [
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), safe(value))
        for key, value in attributes.items()
    ]
    inside = [safe(part) for part in parts]
    return Markup("<{0}{1}>{2}</{0}>").format(name, Markup("").join(words), Markup("").join(inside))


def paragraph(*parts: object, class_: str = "") -> Markup:
    return element("p", *parts, **({"class_": class_} if class_ else {}))


def bullets(items: Iterable[object]) -> Markup:
    rows = [element("li", item) for item in items]
    return element("ul", *rows) if rows else Markup("")


@dataclass(frozen=True)
class Section:
    """A part of the page that its heading names."""

    title: str
    body: Markup

    @property
    def name(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def render_page(title: str, answer: str, sections: Sequence[Section]) -> str:
    pages = Environment(
        loader=PackageLoader("xmoe.report", "page"),
        autoescape=True,
        finalize=safe,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    page = pages.get_template("page.html")
    return page.render(title=title, answer=answer, sections=sections)


def table(
    caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, texts: int = 1
) -> Markup:
    """A table; its first column names the row and the first ``texts`` columns are text."""
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
        Markup("\n<tbody>\n{}\n</tbody>\n").format(join(*body)),
        class_="words" if texts >= WORDY else "figures",
    )
    return element("div", inside, class_="scroll", tabindex=0, role="region", aria_label=caption)


def picture(png: bytes, alt: str, caption: object = "", *, wide: bool = False) -> Markup:
    """A PNG picture within the page; ``alt`` says in words what it shows."""
    image = Markup('<img src="data:image/png;base64,{}" alt="{}"{}>').format(
        base64.b64encode(png).decode("ascii"), safe(alt), " class=wide" if wide else ""
    )
    frame = element("div", image, class_="scroll", tabindex=0, role="region", aria_label=alt)
    words = element("figcaption", caption) if caption else ""
    return element("figure", frame if wide else image, words)


def drawn(figure: Figure, what: str, caption: object = "") -> Markup:
    """A figure as a picture; its title becomes the alternative text after ``what``."""
    title = " ".join(figure.get_suptitle().split())
    alt = f"{what}: {title}" if title else what
    wide = figure.get_size_inches()[0] > WIDE_INCHES
    return picture(to_png(figure), alt, caption, wide=bool(wide))


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a percentage, or a dash where there is none."""
    return DASH if share is None else f"{share:.{digits}%}".replace("%", " %")


def interval(bounds: Sequence[float] | None) -> str:
    """A pair of shares as an interval in brackets, or nothing."""
    if bounds is None:
        return ""
    return f" (95 % interval {100 * bounds[0]:.1f} to {100 * bounds[1]:.1f})"
