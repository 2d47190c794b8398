"""One self-contained HTML page: sections of pictures, facts and tables that sort by a click."""

import dataclasses
import html
import pathlib
import string
from collections.abc import Mapping, Sequence
from typing import Any

from train.reporting.figures import COLOURS, svg

FOLDER = pathlib.Path(__file__).parent / 'template'


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture: its file's name without .png, title, what one sees, the figure, and HTML to show instead
    of the figure's SVG. A `wide` one takes the page's whole width."""

    name: str
    title: str
    caption: str
    figure: Any
    html: str = ''
    wide: bool = False

    def as_html(self) -> str:
        """The picture with its title and caption."""
        shown = self.html or f'<div class="scroll">{svg(self.figure, self.title)}</div>'
        kind = 'picture wide' if self.wide else 'picture'
        natural = f'--natural:{72 * self.figure.get_size_inches()[0]:.0f}px'
        return (
            f'<figure class="{kind}" id="{self.name}" style="{natural}"><h3>{html.escape(self.title)}</h3>'
            f'{shown}<figcaption>{html.escape(self.caption)}</figcaption></figure>'
        )


@dataclasses.dataclass
class Section:
    """A heading and the HTML under it."""

    title: str
    parts: list[str] = dataclasses.field(default_factory=list)

    def as_html(self) -> str:
        """The section, with an address of its own."""
        head = f'<h2>{html.escape(self.title)}</h2>'
        return f'<section id="{self.anchor}">{head}<div class="parts">{"".join(self.parts)}</div></section>'

    @property
    def anchor(self) -> str:
        """Its address on the page."""
        return 'section-' + self.title.lower().replace(' ', '-')


@dataclasses.dataclass(frozen=True)
class Cell:
    """A table's cell: the text, and the value that it sorts by where that is another."""

    text: str
    value: float | str | None = None


def page(title: str, subtitle: str, sections: Sequence[Section], *, notes: Sequence[str] = ()) -> str:
    """The whole page; `notes` are what could not be drawn."""
    template = string.Template((FOLDER / 'page.html').read_text(encoding='utf-8'))
    links = ''.join(f'<a href="#{section.anchor}">{html.escape(section.title)}</a>' for section in sections)
    said = ''.join(f'<p class="note">{html.escape(note)}</p>' for note in notes)
    return template.substitute(
        title=html.escape(title),
        subtitle=html.escape(subtitle),
        links=links,
        notes=said,
        sections=''.join(section.as_html() for section in sections),
        light=variables(0),
        dark=variables(1),
        style=(FOLDER / 'page.css').read_text(encoding='utf-8'),
        script=(FOLDER / 'page.js').read_text(encoding='utf-8'),
    )


def variables(theme: int) -> str:
    """The colours as CSS variables."""
    return ''.join(f'--{name}:{pair[theme]};' for name, pair in COLOURS.items())


def headline(figures: Mapping[str, str]) -> str:
    """A few large figures with their names."""
    boxes = ''.join(
        f'<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>'
        for name, value in figures.items()
    )
    return f'<dl class="headline">{boxes}</dl>'


def facts(rows: Mapping[str, Any], title: str = '') -> str:
    """A list of names and values."""
    lines = ''.join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>'
        for name, value in rows.items()
    )
    head = f'<h3>{html.escape(title)}</h3>' if title else ''
    return f'<div class="facts">{head}<div class="scroll"><table>{lines}</table></div></div>'


def table(
    columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, title: str = '', wide: bool = False
) -> str:
    """A table whose columns sort by a click on their heads; a column of numbers is aligned on the right."""
    numeric = [
        all(isinstance(row[i].value, (int, float)) or row[i].value is None for row in rows)
        for i in range(len(columns))
    ]
    kinds = [' class="number"' if number else '' for number in numeric]
    head = ''.join(
        f'<th scope="col"{kind}><button type="button">{html.escape(name)}</button></th>'
        for name, kind in zip(columns, kinds, strict=True)
    )
    body = ''.join(
        '<tr>' + ''.join(cell(value, kind) for value, kind in zip(row, kinds, strict=True)) + '</tr>'
        for row in rows
    )
    named = f'<h3>{html.escape(title)}</h3>' if title else ''
    inside = f'<thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
    place = 'table wide' if wide else 'table'
    inside = f'<div class="scroll"><table class="sortable">{inside}</table></div>'
    return f'<div class="{place}">{named}{inside}</div>'


def cell(value: Cell, kind: str) -> str:
    """A cell's HTML."""
    key = '' if value.value is None else f' data-value="{html.escape(str(value.value), quote=True)}"'
    return f'<td{kind}{key}>{html.escape(value.text)}</td>'


def number(value: float | None, form: str = '.2f', suffix: str = '') -> Cell:
    """A number's cell; a dash where there is none."""
    return Cell('–') if value is None else Cell(f'{value:{form}}{suffix}', value)


def word(text: str) -> Cell:
    """A word's cell."""
    return Cell(text, text)
