"""The style of figures, and their two forms: SVG for the page, with its theme, and PNG for all else.

Figures are drawn in the light theme's colours. In the SVG each becomes a CSS variable of the page, so that
one drawing is readable on light and on dark. The series' colours can be told apart with any kind of colour
vision (after M. Okabe and K. Ito, "Color Universal Design", 2008), and lines differ in their dashes too.
"""

import functools
import html
import io
import pathlib
import re
import warnings
from collections.abc import Callable
from typing import Any

# CSS variable: (light theme, dark theme).
COLOURS = {
    'ink': ('#1d2024', '#e8eaed'),
    'muted': ('#5d636b', '#a3a9b1'),
    'rule': ('#d6d9dd', '#3b4047'),
    'paper': ('#ffffff', '#17191c'),
    'card': ('#f5f6f8', '#202327'),
    'blue': ('#0072b2', '#5bb4ea'),
    'orange': ('#d55e00', '#f59a53'),
    'green': ('#00805e', '#33c39a'),
    'purple': ('#a8488c', '#e59fd0'),
    'amber': ('#a87700', '#edc04e'),
    'brown': ('#8c5a3c', '#c79a7c'),
}
LIGHT = {name: light for name, (light, _) in COLOURS.items()}
SERIES = ('blue', 'orange', 'green', 'purple', 'amber', 'brown')
DASHES = ('-', '--', '-.', ':')

STYLE: Any = {
    'font.family': 'sans-serif',
    'font.size': 9,
    'axes.titlesize': 10,
    'axes.titlelocation': 'left',
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'axes.axisbelow': True,
    'grid.linewidth': 0.6,
    'lines.linewidth': 1.6,
    'legend.frameon': False,
    'legend.fontsize': 8.5,
    'svg.fonttype': 'none',
    'svg.hashsalt': 'flaxnets',
    'figure.facecolor': 'none',
    'axes.facecolor': 'none',
    'text.color': LIGHT['ink'],
    'axes.labelcolor': LIGHT['muted'],
    'axes.titlecolor': LIGHT['ink'],
    'axes.edgecolor': LIGHT['muted'],
    'xtick.color': LIGHT['muted'],
    'ytick.color': LIGHT['muted'],
    'grid.color': LIGHT['rule'],
}


def styled(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a function that draws a figure: what it draws looks as this file says."""

    @functools.wraps(draw)
    def styled_draw(*args: Any, **kwargs: Any) -> Any:
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled_draw


def figure(width: float = 4.8, height: float = 3.2, **grid: Any) -> tuple[Any, Any]:
    """A matplotlib figure of this size in inches, and its axes; `grid` is that of `Figure.subplots`."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), layout='constrained')
    return drawn, drawn.subplots(**grid)


def show_image(axes: Any, image: Any, **style: Any) -> None:
    """An image [height, width, 1 or 3] uint8 in coordinates of its pixels, without axes."""
    height, width = image.shape[:2]
    axes.imshow(
        image[..., 0] if image.shape[-1] == 1 else image,
        cmap='gray',
        vmin=0,
        vmax=255,
        extent=(0, width, height, 0),
        interpolation='nearest',
        **style,
    )
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


@styled
def svg(drawn: Any, title: str = '') -> str:
    """The figure as an SVG element: text is text in the page's font, colours are the page's variables.

    `title` is what a screen reader says.
    """
    buffer = io.StringIO()
    _save(drawn, buffer, format='svg', metadata={'Date': None, 'Creator': None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index('<svg') :]
    text = re.sub(r'<metadata>.*?</metadata>', '', text, flags=re.DOTALL)
    text = re.sub(r'font-family: [^;"]+;? ?', '', text)
    for name, light in LIGHT.items():
        text = text.replace(light, f'var(--{name}, {light})')
    start, rest = text.split('>', 1)  # as wide as its place on the page; the viewBox keeps the aspect ratio
    start = re.sub(r' (width|height)="[^"]*"', '', start)
    return f'{start} role="img" aria-label="{html.escape(title)}">{rest}'


@styled
def png(drawn: Any, path: pathlib.Path) -> None:
    """The figure as a file, in the light theme."""
    _save(drawn, path, format='png', dpi=110, facecolor=LIGHT['paper'])


def _save(drawn: Any, to: Any, **options: Any) -> None:
    """Writes the figure. Characters that the font lacks are no reason for a line each: the SVG, in the
    browser's font, has them, and a PNG has boxes in their place."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Glyph .* missing from')
        lay_out(drawn)
        drawn.savefig(to, **options)


def lay_out(drawn: Any) -> None:
    """Computes the layout once; matplotlib would compute it again for each file."""
    if engine := drawn.get_layout_engine():
        engine.execute(drawn)
        drawn.set_layout_engine(None)
