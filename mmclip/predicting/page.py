"""A page that shows images and their answers."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

from mmclip.checkpoint.files.atomic import atomic_file
from mmclip.pages.environment import environment
from mmclip.pages.thumbnail import thumbnail
from mmclip.predicting.predictions import (
    SHOWN,
    Prediction,
    Predictions,
    printable,
)
from mmclip.version import __version__

MOST_PICTURES = 1000  # of about 4 kB each


@dataclass(frozen=True)
class Card:
    """An image on the page.

    Args:
        answer (Prediction): Its answer.
        picture (str): A small JPEG as a data URI; '' without one.
        link (str): The image's address, relative to the page's.
    """

    answer: Prediction
    picture: str
    link: str


@dataclass(frozen=True)
class Section:
    """Images with the same answer, the least sure first.

    Args:
        title (str): The class, or 'not sure'.
        number (int): How many images there are.
        share (float): This number as a percentage of all images.
        cards (list[Card]): Those that are shown.
    """

    title: str
    number: int
    share: float
    cards: list[Card]


def write_page(predictions: Predictions, path: Path, title: str) -> None:
    """Write the page; it needs no other file and no network.

    Args:
        predictions (Predictions): The answers.
        path (Path): The page.
        title (str): Its heading.
    """
    text = _template('page.html').render(
        title=title,
        predictions=predictions,
        sections=_sections(predictions, path.resolve().parent),
        version=__version__,
    )
    with atomic_file(path) as temporary:
        # Names of files may have bytes that are no characters.
        temporary.write_text(text, 'utf-8', errors='backslashreplace')


def notebook_cell(predictions: Predictions) -> str:
    """Return the HTML of the first images, for a notebook."""
    return _template('cell.html').render(
        cards=_cards(predictions[:SHOWN], Path.cwd()),
        more=max(0, len(predictions) - SHOWN),
    )


def _sections(predictions: Predictions, here: Path) -> list[Section]:
    ordered = predictions.sections()
    each = max(1, MOST_PICTURES // max(1, len(ordered)))
    sections = []
    for row, (title, answers) in enumerate(ordered):
        shown = answers[:each] if row < MOST_PICTURES else []
        number = len(answers)
        share = 100 * number / len(predictions)
        sections.append(Section(title, number, share, _cards(shown, here)))
    return sections


def _cards(answers: Sequence[Prediction], here: Path) -> list[Card]:
    with ThreadPoolExecutor() as pool:
        pictures = pool.map(
            lambda answer: thumbnail(answer.path) if answer.names else None,
            answers,
        )
        return [
            Card(
                answer,
                made.data if made else '',
                _link(answer.path, here) if made else '',
            )
            for answer, made in zip(answers, pictures, strict=True)
        ]


def _link(path: str, here: Path) -> str:
    """Return the address of an image; no name can be a scheme in it."""
    try:
        relative = os.path.relpath(path, here)
    except ValueError:  # on another drive of Windows
        return Path(path).resolve().as_uri()
    return quote(os.fsencode(relative.replace(os.sep, '/')))


@cache
def _template(name: str):
    folder = Path(__file__).parent
    return environment(folder, printable=printable).get_template(name)
