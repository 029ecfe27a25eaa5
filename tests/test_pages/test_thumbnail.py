import base64
import io

import numpy as np
import pytest
from PIL import Image

from mmclip.pages import thumbnail as room
from mmclip.pages.thumbnail import SIDE, thumbnail


def shown(path):
    """The picture as a browser decodes it."""
    made = thumbnail(str(path))
    assert made is not None
    data = made.data.removeprefix('data:image/jpeg;base64,')
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.size == (made.width, made.height)
    return image


def test_large_images_are_reduced_and_keep_their_shape(tmp_path):
    Image.new('RGB', (900, 300), 'red').save(tmp_path / 'a.jpg')
    assert shown(tmp_path / 'a.jpg').size == (SIDE, SIDE // 3)


def test_small_images_are_enlarged_with_sharp_pixels(tmp_path):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, 4:] = 255
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    grey = np.asarray(shown(tmp_path / 'a.png').convert('L'))
    assert grey.shape == (SIDE, SIDE)
    assert (grey < 30).sum() + (grey > 225).sum() == grey.size


def test_grey_of_16_bits_is_not_white(tmp_path):
    """Pillow's own ``convert`` would make it so."""
    pixels = np.full((80, 80), 40_000, np.uint16)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    grey = np.asarray(shown(tmp_path / 'a.png'))
    assert abs(grey.astype(int) - 40_000 // 257).max() <= 2


def test_of_a_file_only_its_pixels_are_shown(tmp_path):
    path = tmp_path / 'a.jpg'
    Image.new('RGB', (9, 9)).save(path, comment=b'between us')
    assert b'between us' in path.read_bytes()
    assert 'comment' not in shown(path).info


@pytest.mark.parametrize('content', [None, b'', b'\x89PNG\r\n\x1a\n', b'x'])
def test_there_is_none_of_what_is_no_image(tmp_path, content):
    if content is not None:
        (tmp_path / 'a.png').write_bytes(content)
    assert thumbnail(str(tmp_path / 'a.png')) is None


def test_there_is_none_of_a_huge_file(tmp_path, monkeypatch):
    Image.new('RGB', (9, 9)).save(tmp_path / 'a.png')
    assert thumbnail(str(tmp_path / 'a.png'))
    monkeypatch.setattr(room, 'MOST_BYTES', 20)
    assert thumbnail(str(tmp_path / 'a.png')) is None
