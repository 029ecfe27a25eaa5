"""Images of every kind load right; those that cannot, obey one policy."""

import os
import re

import cv2
import mmcv
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from PIL import Image, ImageFile
from torchvision.datasets import ImageFolder

from mmclip.datasets import LoadImage, LoadImageError, read_image
from tests.test_datasets.conftest import HEIGHT, WIDTH, random_pixels

ROTATED = 6  # EXIF: the camera was held upright
# EXIF orientation -> what shows the image upright.
UPRIGHT = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: np.rot90(np.fliplr(x), 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(np.fliplr(x), -1),
    8: lambda x: np.rot90(x, 1),
}


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def read_rgb(path, **settings):
    return read_image(path, **settings)[..., ::-1]


def grey_to_rgb(grey):
    return np.repeat(grey[..., None], 3, axis=2)


def save_rgb(path, **save):
    Image.fromarray(random_pixels()).save(path, **save)
    return random_pixels()


def save_grey(path):
    Image.fromarray(random_pixels(1)).save(path)
    return grey_to_rgb(random_pixels(1))


def save_grey_with_transparency(path):
    pixels = random_pixels(2)
    Image.fromarray(pixels, 'LA').save(path)
    return grey_to_rgb(pixels[..., 0])


def save_colour_with_transparency(path):
    Image.fromarray(random_pixels(4), 'RGBA').save(path)
    return random_pixels(4)[..., :3]


def save_one_bit(path):
    bits = random_pixels(1) > 127
    Image.fromarray(bits).save(path)
    return grey_to_rgb(bits * np.uint8(255))


def save_palette(path, **save):
    colours = random_pixels(seed=1).reshape(-1, 3)[:16]
    indices = random_pixels(1) % 16
    image = Image.fromarray(indices, 'P')
    image.putpalette(colours.tobytes())
    image.save(path, **save)
    return colours[indices]


def save_palette_with_transparency(path):
    return save_palette(path, transparency=bytes(range(16)))


def save_palette_with_transparent_colour(path):
    return save_palette(path, transparency=3)


def save_cmyk(path):
    inks = [[255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [0, 0, 0, 255]]
    pixels = np.uint8(inks).repeat(8, 0)[None].repeat(8, 0)
    Image.fromarray(pixels, 'CMYK').save(path)
    # Cyan, magenta, yellow, black.
    colours = [[0, 255, 255], [255, 0, 255], [255, 255, 0], [0, 0, 0]]
    return np.uint8(colours).repeat(8, 0)[None].repeat(8, 0)


def save_colour_of_16_bits(path):
    pixels = random_pixels(3, np.uint16)
    assert cv2.imwrite(str(path), pixels[..., ::-1])
    return np.uint8(pixels >> 8)


def save_animation(path, **save):
    colours = ['red', 'lime', 'blue']
    first, *others = (Image.new('RGB', (WIDTH, HEIGHT), c) for c in colours)
    first.save(path, save_all=True, append_images=others, **save)
    with Image.open(path) as saved:
        assert saved.n_frames == 3
    return np.full((HEIGHT, WIDTH, 3), [255, 0, 0], np.uint8)


def save_lossless_animation(path):
    return save_animation(path, lossless=True)


def save_png(path):
    return save_rgb(path, format='PNG')


def save_rotated(path):
    return save_rgb(path, exif=exif(ROTATED))


KINDS = {
    'colour.png': save_rgb,
    'colour.bmp': save_rgb,
    'grey.png': save_grey,
    'grey and alpha.png': save_grey_with_transparency,
    'colour and alpha.png': save_colour_with_transparency,
    'one bit.png': save_one_bit,
    'palette.png': save_palette,
    'palette.gif': save_palette,
    'palette and alpha.png': save_palette_with_transparency,
    'palette and transparent colour.png': save_palette_with_transparent_colour,
    'cmyk.tiff': save_cmyk,
    'colour of 16 bits.png': save_colour_of_16_bits,
    'colour of 16 bits.tiff': save_colour_of_16_bits,
    'animated.gif': save_animation,
    'animated.png': save_animation,
    'animated.webp': save_lossless_animation,
    'really png.JPEG': save_png,
    'really png.gif': save_png,
    'rotated.png': save_rotated,
    'émoji 🐱.png': save_rgb,
}


@pytest.mark.parametrize('name', KINDS)
def test_pixels_are_those_that_were_saved(tmp_path, name, recwarn):
    """And those of torchvision."""
    path = tmp_path / 'class' / name
    path.parent.mkdir()
    wanted = KINDS[name](path)
    np.testing.assert_array_equal(read_rgb(path), wanted)
    assert not recwarn.list
    folder = ImageFolder(str(tmp_path), is_valid_file=lambda path: True)
    np.testing.assert_array_equal(np.asarray(folder[0][0]), wanted)


@pytest.mark.parametrize('mode', ['RGB', 'L', 'CMYK'])
def test_jpeg_pixels_are_pillows(tmp_path, mode):
    path = tmp_path / 'x.jpg'
    Image.fromarray(random_pixels()).convert(mode).resize((99, 70)).save(path)
    theirs = np.asarray(Image.open(path).convert('RGB'))
    np.testing.assert_array_equal(read_rgb(path), theirs)


def test_cmyk_jpeg_has_the_right_colours(tmp_path):
    wanted = save_cmyk(tmp_path / 'x.jpg').astype(int)
    # JPEG loses little of large patches; inverted colours differ by 255.
    np.testing.assert_allclose(read_rgb(tmp_path / 'x.jpg'), wanted, atol=8)


@pytest.mark.parametrize('suffix', ['png', 'tiff', 'jp2', 'pgm'])
def test_grey_of_16_bits_keeps_its_high_bytes(tmp_path, suffix):
    grey = random_pixels(1, np.uint16)
    path = tmp_path / f'x.{suffix}'
    Image.fromarray(grey).save(path)
    wanted = grey_to_rgb(np.uint8(grey >> 8))
    np.testing.assert_array_equal(read_rgb(path), wanted)


@pytest.mark.parametrize('orientation', UPRIGHT)
def test_exif_orientation_is_obeyed_on_request(tmp_path, orientation):
    path = tmp_path / 'x.png'
    pixels = save_rgb(path, exif=exif(orientation))
    turned = read_rgb(path, exif_orientation='apply')
    np.testing.assert_array_equal(turned, UPRIGHT[orientation](pixels))


def test_exif_turns_grey_of_16_bits_too(tmp_path):
    grey = random_pixels(1, np.uint16)
    path = tmp_path / 'x.png'
    Image.fromarray(grey).save(path, exif=exif(ROTATED))
    wanted = np.rot90(grey_to_rgb(np.uint8(grey >> 8)), -1)
    turned = read_rgb(path, exif_orientation='apply')
    np.testing.assert_array_equal(turned, wanted)


def test_results_are_those_of_mmcv(tmp_path):
    path = tmp_path / 'x.png'
    save_rgb(path)
    ours = LoadImage()(dict(img_path=str(path), gt_label=3))
    theirs = LoadImageFromFile()(dict(img_path=str(path), gt_label=3))
    np.testing.assert_array_equal(ours.pop('img'), theirs.pop('img'))
    assert ours == theirs


def test_the_image_is_contiguous_and_can_be_written_to(tmp_path):
    save_rgb(tmp_path / 'x.png')
    flags = read_image(tmp_path / 'x.png').flags
    assert flags.c_contiguous
    assert flags.writeable


def test_what_has_an_image_already_passes():
    image = random_pixels()
    assert LoadImage()(dict(img=image)) == dict(img=image)


def save_text(path):
    path.write_text('<html>404</html>')


def save_truncated(path, **save):
    """All of the header, and half of the pixels."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **save)
    os.truncate(path, path.stat().st_size // 2)


def save_jpeg_without_its_end(path):
    save_truncated(path)
    Image.new('RGB', (64, 64)).save(path)
    os.truncate(path, path.stat().st_size - 2)


def save_broken_png(path):
    save_rgb(path)
    content = bytearray(path.read_bytes())
    content[-20] ^= 255  # in the pixels, which have a check sum
    path.write_bytes(content)


def save_floats(path):
    Image.fromarray(random_pixels(1).astype(np.float32)).save(path)


def save_integers_of_32_bits(path):
    Image.fromarray(random_pixels(1).astype(np.int32)).save(path)


DAMAGES = {
    'missing.jpg': (lambda path: None, 'no such file'),
    'folder.jpg': (lambda path: path.mkdir(), 'is a directory'),
    'empty.jpg': (lambda path: path.touch(), 'is empty'),
    'text.jpg': (save_text, 'not in an image format'),
    'floats.tiff': (save_floats, "TIFF mode 'F'"),
    'integers.tiff': (save_integers_of_32_bits, "TIFF mode 'I'"),
    'broken.png': (save_broken_png, ''),
    'without end.jpg': (save_jpeg_without_its_end, 'truncated'),
    **{
        f'truncated.{suffix}': (save_truncated, '')
        for suffix in ('jpg', 'png', 'gif', 'webp', 'bmp', 'tiff', 'jp2')
    },
}


@pytest.mark.parametrize('name', DAMAGES)
def test_what_cannot_be_loaded_raises_one_error_or_is_skipped(tmp_path, name):
    damage, reason = DAMAGES[name]
    damage(tmp_path / name)
    message = f'{re.escape(str(tmp_path / name))}: .*{reason}.*; replace'
    with pytest.raises(LoadImageError, match=message) as caught:
        LoadImage()(dict(img_path=str(tmp_path / name)))
    assert '\n' not in str(caught.value)
    skip = LoadImage(on_error='skip')
    assert skip(dict(img_path=str(tmp_path / name))) is None


@pytest.mark.parametrize('suffix', ['png', 'jpg'])
def test_a_decompression_bomb_raises_the_same(tmp_path, monkeypatch, suffix):
    path = tmp_path / f'x.{suffix}'
    save_rgb(path)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', HEIGHT * WIDTH // 2 - 1)
    with pytest.raises(LoadImageError, match=r'x\..*decompression bomb'):
        read_image(path)


def test_a_setting_that_hides_truncation_is_refused(tmp_path, monkeypatch):
    save_truncated(tmp_path / 'x.jpg')
    monkeypatch.setattr(ImageFile, 'LOAD_TRUNCATED_IMAGES', True)
    with pytest.raises(RuntimeError, match='LOAD_TRUNCATED_IMAGES'):
        read_image(tmp_path / 'x.jpg')


def test_a_wrong_file_backend_is_no_damaged_image(tmp_path):
    save_rgb(tmp_path / 'x.png')
    load = LoadImage('skip', backend_args=dict(backend='clay tablets'))
    with pytest.raises(KeyError, match='clay tablets'):
        load(dict(img_path=str(tmp_path / 'x.png')))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(on_error='ignore'), "on_error must be .*'ignore'"),
        (dict(exif_orientation=True), 'exif_orientation must be .*True'),
        (dict(on_error='skip', max_errors=0), 'max_errors .*got 0'),
    ],
    ids=str,
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LoadImage(**settings)


def test_mmcv_turns_what_we_do_not(tmp_path):
    """Why our pipelines have their own loader."""
    Image.fromarray(random_pixels()).save(
        tmp_path / 'x.jpg', exif=exif(ROTATED)
    )
    assert mmcv.imread(str(tmp_path / 'x.jpg')).shape == (WIDTH, HEIGHT, 3)
    assert read_image(tmp_path / 'x.jpg').shape == (HEIGHT, WIDTH, 3)


def test_a_png_without_its_end_has_all_its_pixels(tmp_path):
    pixels = save_rgb(tmp_path / 'x.png')
    size = (tmp_path / 'x.png').stat().st_size
    os.truncate(tmp_path / 'x.png', size - 12)  # the chunk IEND
    np.testing.assert_array_equal(read_rgb(tmp_path / 'x.png'), pixels)
