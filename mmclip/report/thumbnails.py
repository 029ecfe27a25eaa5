"""Small pictures of images, within the bounds of a page."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mmclip.datasets import grey_levels
from mmclip.datasets.formats import open_image

SIDE = 144  # pixels; pages show them at 112 or less
SMALL = 72  # smaller images are enlarged with sharp pixels
QUALITY = 72
MOST = 240
MOST_BYTES = 2_800_000  # in the page, so that it stays under 5 MB


@dataclass(frozen=True)
class Thumbnail:
    """A picture in the page.

    Args:
        path (str): The file, for people.
        number (int | None): Which of the page's pictures it is; None if the
            file cannot be read.
        width (int): In pixels.
        height (int): In pixels.
        data (str): A data URI.
    """

    path: str
    number: int | None = None
    width: int = SIDE
    height: int = SIDE
    data: str = ''

    @property
    def name(self) -> str:
        """The file's own name."""
        return Path(self.path).name


class Thumbnails:
    """The pictures of a page: each is made once, as long as there is room."""

    def __init__(self) -> None:
        self._made: dict[str, Thumbnail] = {}
        self._bytes = 0

    def of(self, path: str) -> Thumbnail | None:
        """Return the picture of a file, or None if there is no room left."""
        if path not in self._made:
            if len(self._made) >= MOST or self._bytes >= MOST_BYTES:
                return None
            self._made[path] = self._make(path)
        return self._made[path]

    @property
    def pictures(self) -> list[Thumbnail]:
        """All that were made."""
        return [t for t in self._made.values() if t.number is not None]

    @property
    def unreadable(self) -> int:
        """The number of files that are missing or damaged."""
        return len(self._made) - len(self.pictures)

    def _make(self, path: str) -> Thumbnail:
        try:
            image = _shrink(path)
        # On a damaged file, Pillow's decoders raise nearly any exception.
        except Exception:
            return Thumbnail(path)
        file = io.BytesIO()
        image.save(file, 'JPEG', quality=QUALITY, optimize=True)
        data = base64.b64encode(file.getvalue()).decode()
        self._bytes += len(data)
        return Thumbnail(
            path,
            len(self._made),
            image.width,
            image.height,
            f'data:image/jpeg;base64,{data}',
        )


def _shrink(path: str) -> Image.Image:
    """Read an image as models see it, and make it small."""
    if not Path(path).is_file():  # a pipe would wait for a writer
        raise FileNotFoundError(path)
    with open_image(path) as image:
        image.draft('RGB', (2 * SIDE, 2 * SIDE))
        if grey_levels.needs_scaling(image):
            image.load()
            small = Image.fromarray(grey_levels.scale(image, image)[0])
        else:
            small = image.convert(
                'RGBA' if 'transparency' in image.info else 'RGB'
            )
    small = small.convert('RGB')
    longest = max(small.size)
    if longest < SMALL:
        times = SIDE // longest
        size = (small.width * times, small.height * times)
        return small.resize(size, Image.Resampling.NEAREST)
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return small
