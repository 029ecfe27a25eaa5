"""Glyphs with captions, rendered from matplotlib's fonts.

The demo pre-trains its CLIP on them: printed characters, distorted until they
vary as much as handwriting, each with a caption that names it.
"""

import random
import string
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from digits import DIGIT_NAMES
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

# Those of matplotlib's fonts whose Latin letters and digits are readable: the
# others have symbols, parts of large brackets, or placeholders.
FONTS = (
    'DejaVuSans',
    'DejaVuSans-Bold',
    'DejaVuSans-BoldOblique',
    'DejaVuSans-Oblique',
    'DejaVuSansMono',
    'DejaVuSansMono-Bold',
    'DejaVuSansMono-BoldOblique',
    'DejaVuSansMono-Oblique',
    'DejaVuSerif',
    'DejaVuSerif-Bold',
    'DejaVuSerif-BoldItalic',
    'DejaVuSerif-Italic',
    'STIXGeneral',
    'STIXGeneralBol',
    'STIXGeneralBolIta',
    'STIXGeneralItalic',
    'cmb10',
    'cmmi10',
    'cmr10',
    'cmss10',
    'cmti10',
    'cmtt10',
)
NEW_FONT = 'cmti10'  # from matplotlib 3.11, which needs Python 3.11
CHARACTERS = string.digits + string.ascii_letters
# Handwritten forms that fonts lack: an open four (Cyrillic Che) and a crossed
# seven. Several characters are drawn over each other.
HAND_FORMS = {'4': '\N{CYRILLIC CAPITAL LETTER CHE}', '7': '7\N{EN DASH}'}
DIGIT_SHARE = 0.6  # of the pairs; letters keep the captions diverse

TEMPLATES = (
    '{}',
    'the {}',
    'a {}',
    'a photo of the {}',
    'a scan of the {}',
    'a handwritten {}',
    'a picture of a {}',
    'a blurry {}',
    'someone wrote the {}',
    'this is the {}',
)
DIGIT_PHRASES = ('digit {}', 'number {}', 'numeral {}', '{}')

CHUNK = 256  # images made at once: what a processor's cache holds
FIELD = 64  # pixels of the distance fields
SIZE = 32  # pixels of the images


def make_glyph_pairs(count: int, seed: int) -> tuple[Tensor, list[str]]:
    """Make images of glyphs and a caption for each.

    Args:
        count (int): Number of pairs N.
        seed (int): Seed of all random choices.

    Returns:
        tuple[Tensor, list[str]]: Images ``(N, 32, 32)`` uint8, and N captions.
    """
    fields, characters = render_fields()
    generator = torch.Generator().manual_seed(seed)
    picks = _pick(characters, count, generator)
    images = [
        (255 * distort(fields[some], generator)).round().byte().squeeze(1)
        for some in picks.split(CHUNK)
    ]
    rng = random.Random(seed)
    captions = [make_caption(characters[i], rng) for i in picks.tolist()]
    return torch.cat(images), captions


def font_files() -> list[Path]:
    """List the font files that glyphs are rendered from."""
    import matplotlib

    folder = Path(matplotlib.get_data_path(), 'fonts', 'ttf')
    paths = [folder / f'{name}.ttf' for name in FONTS]
    return [path for path in paths if path.stem != NEW_FONT or path.is_file()]


def render_fields() -> tuple[Tensor, list[str]]:
    """Render every character in every font, as signed distances.

    A distance field says how far inside (positive) or outside (negative) the
    strokes a pixel is, so that strokes can be made thinner or bolder.

    Returns:
        tuple[Tensor, list[str]]: Fields ``(G, 64, 64)`` in pixels, and the G
        characters.
    """
    fields, characters = [], []
    for path in font_files():
        font = ImageFont.truetype(str(path), 96)
        for character, drawn in _forms(path.stem):
            fields.append(_distances(_render(drawn, font)))
            characters.append(character)
    return torch.from_numpy(np.stack(fields)), characters


def distort(fields: Tensor, generator: torch.Generator) -> Tensor:
    """Turn distance fields into images as varied as handwriting.

    In this order: rotation, shear, scale, displacement and elastic waves;
    stroke width; for most, the low resolution of a scan; contrast, inversion
    and noise.

    Args:
        fields (Tensor): Signed distances ``(B, 64, 64)`` in pixels.
        generator (torch.Generator): Source of all random choices.

    Returns:
        Tensor: Images ``(B, 1, 32, 32)`` from 0 to 1.
    """
    uniform = _Uniform(len(fields), generator)
    grid = _affine_grid(uniform) + _elastic_offsets(uniform)
    x = F.grid_sample(
        fields[:, None], grid, padding_mode='border', align_corners=False
    )
    x = torch.sigmoid((x + uniform(-1.5, 4)) * uniform(0.4, 1.5))
    x = torch.where(uniform(0, 1) < 0.8, _scan(x), x)
    x = x * uniform(0.7, 1.3)
    x = torch.where(uniform(0, 1) < 0.3, 1 - x, x)
    x = 0.5 + (x - 0.5) * uniform(0.5, 1.1)
    noise = torch.randn(x.shape, generator=generator)
    x = x + noise * uniform(-0.15, 0.15).clamp(min=0)
    return x.clamp(0, 1)


def make_caption(character: str, rng: random.Random) -> str:
    """Make a short caption that names a character.

    Args:
        character (str): A digit or a Latin letter.
        rng (random.Random): Source of the choice.

    Returns:
        str: ``'a photo of the digit three'``, for example.
    """
    if character.isdigit():
        word = DIGIT_NAMES[int(character)] if rng.random() < 0.7 else character
        name = rng.choice(DIGIT_PHRASES).format(word)
    else:
        case = 'capital' if character.isupper() else 'small'
        name = f'{case} letter {character.lower()}'
    return rng.choice(TEMPLATES).format(name)


def _pick(
    characters: list[str], count: int, generator: torch.Generator
) -> Tensor:
    """Draw indices of characters, with a share of digits."""
    is_digit = torch.tensor([c.isdigit() for c in characters])
    weights = torch.where(
        is_digit,
        DIGIT_SHARE / is_digit.sum(),
        (1 - DIGIT_SHARE) / (~is_digit).sum(),
    )
    return weights.multinomial(count, replacement=True, generator=generator)


class _Uniform:
    """A source of one random number per image, shaped to multiply images."""

    def __init__(self, batch_size: int, generator: torch.Generator):
        self.batch_size, self.generator = batch_size, generator

    def __call__(self, low: float, high: float) -> Tensor:
        """Draw (B, 1, 1, 1) uniformly between two numbers."""
        shape = (self.batch_size, 1, 1, 1)
        return low + (high - low) * torch.rand(shape, generator=self.generator)


def _forms(font_name: str) -> list[tuple[str, str]]:
    """Pair each character with what is drawn for it."""
    forms = list(zip(CHARACTERS, CHARACTERS, strict=True))
    if font_name.startswith('cm'):  # Computer Modern has no Cyrillic
        return forms
    return forms + list(HAND_FORMS.items())


def _render(drawn: str, font: ImageFont.FreeTypeFont) -> np.ndarray:
    """Render characters as (64, 64) bool, filling 75 % of height or width."""
    page = Image.new('L', (256, 256))
    for character in drawn:
        ImageDraw.Draw(page).text((128, 192), character, 255, font, 'ms')
    glyph = page.crop(page.getbbox())
    scale = 0.75 * FIELD / max(glyph.size)
    width, height = (max(1, round(scale * n)) for n in glyph.size)
    glyph = glyph.resize((width, height), Image.Resampling.BOX)
    canvas = Image.new('L', (FIELD, FIELD))
    canvas.paste(glyph, ((FIELD - width) // 2, (FIELD - height) // 2))
    return np.asarray(canvas) > 127


def _distances(mask: np.ndarray) -> np.ndarray:
    """Compute signed distances to the outline in pixels, positive inside."""
    from scipy.ndimage import (  # type: ignore[import-untyped]
        distance_transform_edt as distance,
    )

    return (distance(mask) - distance(~mask)).astype(np.float32)


def _affine_grid(uniform: _Uniform) -> Tensor:
    """Make sampling positions (B, 32, 32, 2) of random affine maps."""
    angle, shear = uniform(-0.3, 0.3), uniform(-0.4, 0.4)
    height, width = uniform(0.65, 1.05), uniform(0.6, 1.4)
    cos, sin = angle.cos(), angle.sin()
    # Rows of the matrix that rotates, then shears, then scales.
    x_row = torch.cat([cos + shear * sin, shear * cos - sin], -1) * width
    y_row = torch.cat([sin, cos], -1) * height
    offset = torch.cat([uniform(-0.2, 0.2), uniform(-0.2, 0.2)], -2)
    linear = torch.cat([x_row, y_row], -2)
    maps = torch.cat([linear, offset], -1).squeeze(1)
    size = [len(maps), 1, SIZE, SIZE]
    return F.affine_grid(maps, size, align_corners=False)


def _elastic_offsets(uniform: _Uniform) -> Tensor:
    """Make smooth random offsets (B, 32, 32, 2) of sampling positions."""
    shape = (uniform.batch_size, 2, 4, 4)
    waves = torch.randn(shape, generator=uniform.generator)
    waves = waves * uniform(0, 0.14)
    return _enlarge(waves).permute(0, 2, 3, 1)


def _scan(x: Tensor) -> Tensor:
    """Reduce to 8 x 8 pixels with 17 grey levels, and enlarge again."""
    x = (F.avg_pool2d(x, 4) * 16).round() / 16
    return _enlarge(x).clamp(0, 1)


def _enlarge(x: Tensor) -> Tensor:
    """Enlarge (B, C, n, n) to (B, C, 32, 32) bicubically.

    Two products of matrices take a third of the time of ``interpolate``.
    """
    n = x.shape[-1]
    columns = torch.eye(n)[None, None]
    weights = F.interpolate(columns, size=(SIZE, n), mode='bicubic')[0, 0]
    return weights @ x @ weights.T
