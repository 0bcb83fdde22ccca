"""One HTML page about anything that boardfit measured or found, which needs nothing else.

    write_report([Path("pi5.boardfit"), Path("runs/pi5")], Path("report.html"))

The page works without a network: plotly.js is inlined once, and its content security policy
forbids the browser to load anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from ..devices.errors import ReportSourceError
from ..devices.files import write_atomically
from .blocks import Plot, Section
from .sections import comparison, section
from .sources import ACCEPTED, check_output, open_source


def write_report(paths: Sequence[Path], out: Path) -> None:
    """Write the page about `paths` to `out`: tables, profiles and run folders, in any mix.

    Raises `ReportSourceError` for a path that is none of them, `TableFileError` and
    `RunFolderError` for one that is damaged or not finished, `StorageError` where `out` cannot be
    written. Nothing is written then.
    """
    if not paths:
        raise ReportSourceError(f"nothing to report was named; {ACCEPTED}")
    check_output(out, paths)
    sources = [open_source(path) for path in paths]
    sections = distinct([section(source) for source in sources])
    overview = comparison(sources, sections) if len(sections) > 1 else None
    write_atomically(out, render(sections, overview).encode())


def distinct(sections: Sequence[Section]) -> list[Section]:
    """The sections with titles that differ: equal ones are numbered."""
    titles = [item.title for item in sections]
    return [
        replace(item, title=f"{item.title} ({titles[: i + 1].count(item.title)})")
        if titles.count(item.title) > 1
        else item
        for i, item in enumerate(sections)
    ]


def render(sections: Sequence[Section], overview: Section | None) -> str:
    """The page's HTML: the overview first, if there is one."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure_json"] = figure_json
    return environment.get_template("page.html").render(
        sections=[*([overview] if overview else []), *sections],
        items=sections,
        version=version("boardfit"),
        plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),
    )


def figure_json(plot: Plot) -> Markup:
    """A figure as JSON that may stand inside a script element: nothing in it can end it."""
    text: str = plot.figure.to_json()
    for character in "<>&'":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
