"""Drawings as SVG that stand in a page and take on its colours."""

import html
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

# Colours of the drawing, and the variables of the page that replace them.
INK, SOFT = '#010203', '#040506'
SERIES = tuple(f'#0{i}0{i}0{i}' for i in range(1, 9))
VARIABLES = {
    INK: 'currentColor',
    SOFT: 'var(--soft)',
    **{colour: f'var(--c{i})' for i, colour in enumerate(SERIES, 1)},
}
RIGHT, WRONG = SERIES[0], SERIES[1]
MARKERS = 'osD^vPX*'
STYLE = {
    'svg.fonttype': 'none',
    'font.size': 10.5,
    'text.color': INK,
    'text.parse_math': False,
    'axes.edgecolor': SOFT,
    'axes.labelcolor': INK,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.formatter.use_mathtext': False,
    'axes.unicode_minus': True,
    'xtick.color': SOFT,
    'ytick.color': SOFT,
    'xtick.labelcolor': INK,
    'ytick.labelcolor': INK,
    'lines.linewidth': 1.8,
    'legend.frameon': False,
    'figure.subplot.left': 0.14,
    'figure.subplot.right': 0.98,
    'figure.subplot.bottom': 0.15,
    'figure.subplot.top': 0.96,
}
MOST_STEPS = 300  # on a curve
MOST_NAMES = 30  # on the map


def curve(
    xs: Sequence[float],
    ys: Sequence[float],
    chance: float,
    labels: tuple[str, str],
    title: str,
) -> Markup:
    """Draw a curve over the steps of a training, and where chance would be.

    Args:
        xs (Sequence[float]): Steps.
        ys (Sequence[float]): Values. Many are averaged over neighbours.
        chance (float): The value of guesses.
        labels (tuple[str, str]): Of the axes.
        title (str): What the drawing shows, for those who cannot see it.
    """
    parts = min(len(xs), MOST_STEPS)
    x = [part.mean() for part in np.array_split(np.asarray(xs, float), parts)]
    y = [part.mean() for part in np.array_split(np.asarray(ys, float), parts)]
    with _drawing(4.6, 3, title) as (axes, done):
        axes.plot(x, y, color=RIGHT, marker='o' if parts < 25 else '', ms=4)
        axes.axhline(chance, color=INK, linestyle=(0, (2, 3)), linewidth=1)
        axes.annotate(
            'chance',
            (1, chance),
            xycoords=('axes fraction', 'data'),
            xytext=(0, 3),
            textcoords='offset points',
            ha='right',
        )
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.set_ylim(bottom=min(0, *y))
    return done[0]


def reliability(
    bins: Sequence[dict[str, Any]], before: Sequence[dict[str, Any]]
) -> Markup:
    """Draw how often answers of each probability are right.

    Args:
        bins (Sequence[dict]): With ``images`` (at least one), ``confidence``
            (0 to 1) and ``accuracy`` (percent).
        before (Sequence[dict]): The same before calibration; may be empty.
    """
    title = 'Reliability diagram: accuracy against probability.'
    with _drawing(4.6, 4.2, title) as (axes, done):
        axes.plot([0, 100], [0, 100], color=SOFT, linewidth=1)
        for group, name, colour, marker in (
            (before, 'before', WRONG, 's'),
            (bins, 'after', RIGHT, 'o'),
        ):
            if not group:
                continue
            most = max(b['images'] for b in group)
            x = [100 * b['confidence'] for b in group]
            y = [b['accuracy'] for b in group]
            sizes = [12 + 90 * b['images'] / most for b in group]
            axes.plot(x, y, color=colour, linewidth=1.2)
            axes.scatter(
                x, y, sizes, color=colour, marker=marker, label=name, zorder=3
            )
        axes.set(
            xlim=(-3, 103),
            ylim=(-3, 103),
            xlabel='probability of the answers (%)',
            ylabel='right (%)',
        )
        if before:
            axes.legend(loc='upper left')
    return done[0]


def image_map(
    places: Sequence[Sequence[float]],
    labels: Sequence[str],
    wrong: Sequence[bool],
    classes: Sequence[str],
    links: Sequence[str],
) -> Markup:
    """Draw images as points, near to those that a model finds alike.

    Args:
        places (Sequence): ``(N, 2)``.
        labels (Sequence[str]): A class per image.
        wrong (Sequence[bool]): Which have a wrong answer; they get a ring.
        classes (Sequence[str]): All classes; few are named on the map.
        links (Sequence[str]): Where a ring leads to, such as ``'#a'``.
    """
    xy, label = np.asarray(places, float), np.asarray(labels, object)
    bad = np.asarray(wrong, bool)
    named = len(classes) <= MOST_NAMES
    title = f'Map of {len(xy)} images by what the encoder sees in them.'
    with _drawing(7.2, 5.6, title) as (axes, done):
        for i, name in enumerate(classes if named else ['']):
            here = label == name if named else np.ones(len(xy), bool)
            if not here.any():
                continue
            axes.scatter(
                *xy[here].T,
                s=16,
                color=SERIES[i % 8] if named else SOFT,
                marker=MARKERS[(i + i // 8) % 8],
                linewidths=0,
                alpha=0.65,
                clip_on=False,
            )
        leads = np.asarray(links, object)
        for here in (bad & (leads == ''), bad & (leads != '')):
            rings = axes.scatter(
                *xy[here].T,
                s=50,
                facecolors='none',
                edgecolors=INK,
                linewidths=0.8,
                clip_on=False,
            )
            rings.set_urls([link or None for link in leads[here]])
        for name in classes if named else []:
            here = label == name
            if here.any():
                axes.annotate(
                    name if len(name) <= 20 else f'{name[:19]}…',
                    np.median(xy[here], axis=0),
                    ha='center',
                    va='center',
                    weight='bold',
                    gid='name',
                )
        axes.set_axis_off()
        axes.set_position((0.03, 0.03, 0.94, 0.94))
    return done[0]


@contextmanager
def _drawing(
    width: float, height: float, title: str
) -> Iterator[tuple[Any, list[Markup]]]:
    """Yield axes, and a list that receives the SVG when they are done."""
    done: list[Markup] = []
    settings: Any = {**STYLE, 'svg.hashsalt': title}
    with rc_context(settings):
        figure = Figure(figsize=(width, height))
        yield figure.add_subplot(), done
        file = io.StringIO()
        with warnings.catch_warnings():
            # The browser draws the text, with fonts of its own.
            warnings.filterwarnings('ignore', 'Glyph .* missing')
            figure.savefig(
                file,
                format='svg',
                transparent=True,
                metadata=dict.fromkeys(('Creator', 'Date', 'Format', 'Type')),
            )
    done.append(_inline(file.getvalue(), title))


def _inline(svg: str, title: str) -> Markup:
    """Turn a file into an element that takes on the colours of a page."""
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box is not None
    # The style would hold for the whole page, and the names repeat in it.
    _, _, body = svg.partition('</style>\n </defs>')
    body = body.replace('<g id="name">', '<g class="name">')
    body = re.sub(r'<g id="[^"]*"', '<g', body)
    body = re.sub(r' font-family: [^;]*;', '', body)
    body = body.replace(' target="_blank"', '')
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, variable)
    name = html.escape(title)
    return Markup(
        f'<svg class="plot" role="img" aria-label="{name}" {box.group()}>'
        f'{body}'
    )
