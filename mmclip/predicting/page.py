"""A page that shows images and their answers."""

import base64
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mmclip.checkpoint.files.atomic import atomic_file
from mmclip.datasets.formats import open_image
from mmclip.datasets.load_image import to_rgb
from mmclip.predicting.predictions import (
    SHOWN,
    Prediction,
    Predictions,
    printable,
)
from mmclip.version import __version__

MOST_PICTURES = 1000  # of about 4 kB each
SIDE = 128  # pixels of a picture's longer side


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


def picture(path: str) -> str:
    """Return a small JPEG of an image as a data URI; '' if it is not there."""
    if not Path(path).is_file():
        return ''
    with open_image(path) as image:
        image.draft('RGB', (SIDE, SIDE))  # decodes less of a large JPEG
        small, _ = to_rgb(image)
    small.thumbnail((SIDE, SIDE))
    content = io.BytesIO()
    small.save(content, 'JPEG', quality=75)
    encoded = base64.b64encode(content.getvalue()).decode()
    return f'data:image/jpeg;base64,{encoded}'


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
            lambda answer: picture(answer.path) if answer.names else '',
            answers,
        )
        return [
            Card(answer, made, _link(answer.path, here) if made else '')
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
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters['printable'] = printable
    return environment.get_template(name)
