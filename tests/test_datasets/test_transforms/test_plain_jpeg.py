"""OpenCV decodes plain JPEGs as Pillow does, and nothing else."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from mmclip.datasets import LoadImage, read_image
from mmclip.datasets.transforms import plain_jpeg
from mmclip.datasets.transforms.plain_jpeg import decode_plain_jpeg

SIZE = (203, 151)


def photo(size=SIZE):
    """Smooth colours with some noise."""
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize(size), np.int16)
    noisy = smooth + random.integers(-20, 21, smooth.shape, np.int16)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def encode(mode='RGB', kind='JPEG', size=SIZE, **save):
    file = io.BytesIO()
    photo(size).convert(mode).save(file, kind, **save)
    return file.getvalue()


def by_pillow(content):
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert('RGB'))[..., ::-1]


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


PLAIN = {
    'quality 30': dict(quality=30),
    'quality 100': dict(quality=100),
    '4:4:4': dict(subsampling='4:4:4'),
    '4:2:2': dict(subsampling='4:2:2'),
    '4:1:1': dict(subsampling='4:1:1'),
    'progressive': dict(progressive=True),
    'restarts': dict(restart_marker_blocks=4),
    'stored as RGB': dict(keep_rgb=True),
    'grey': dict(mode='L'),
    'grey and progressive': dict(mode='L', progressive=True),
    'turned': dict(exif=turned()),
    'two pictures': dict(kind='MPO'),
}


@pytest.mark.parametrize('kind', PLAIN)
def test_plain_files_have_pillows_pixels(kind):
    content = encode(**PLAIN[kind])
    found = decode_plain_jpeg(content)
    np.testing.assert_array_equal(found, by_pillow(content))
    assert found.flags.c_contiguous and found.flags.writeable


@pytest.mark.parametrize('seed', range(5))
def test_so_have_damaged_files(seed):
    """Neither decoder notices damage inside of a file."""
    random = np.random.default_rng(seed)
    content = bytearray(encode(progressive=seed % 2))
    for at in random.integers(700, len(content) - 2, 3):
        content[at] ^= 1 << int(random.integers(8))
    np.testing.assert_array_equal(
        decode_plain_jpeg(bytes(content)), by_pillow(content)
    )


def arithmetic():
    """The header of a file with arithmetic coding."""
    return encode().replace(b'\xff\xc0', b'\xff\xc9', 1)


def twelve_bits():
    return encode().replace(b'\xff\xc0\0\x11\x08', b'\xff\xc0\0\x11\x0c', 1)


def other_size_first():
    """libjpeg skips the fill byte, and with it what looks like a frame."""
    fake = b'\xff\xff\xfe\0\x14' + b'\xff\xc0\0\x11\x08\0\x01\0\x01\x03' * 2
    return b'\xff\xd8' + fake + encode()[2:]


OTHERS = {
    'CMYK': lambda: encode('CMYK'),
    'PNG': lambda: encode(kind='PNG'),
    'WebP': lambda: encode(kind='WEBP'),
    'arithmetic': arithmetic,
    '12 bits': twelve_bits,
    'another size first': other_size_first,
    'half': lambda: encode()[: len(encode()) // 2],
    'half, progressive': lambda: encode(progressive=True)[:-3000],
    'without its end': lambda: encode()[:-2],
    'header': lambda: encode()[:200],
    'nothing': lambda: b'',
}


@pytest.mark.parametrize('kind', OTHERS)
def test_all_others_are_left_to_pillow(kind):
    assert decode_plain_jpeg(OTHERS[kind]()) is None


def test_so_are_images_that_pillow_warns_of(monkeypatch):
    content = encode()
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', SIZE[0] * SIZE[1])
    assert decode_plain_jpeg(content) is not None
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', SIZE[0] * SIZE[1] - 1)
    assert decode_plain_jpeg(content) is None


def test_a_decoder_that_rounds_otherwise_is_not_used(monkeypatch):
    decode = cv2.imdecode
    plain_jpeg._agrees_with_pillow.cache_clear()
    monkeypatch.setattr(cv2, 'imdecode', lambda *a: decode(*a) ^ np.uint8(1))
    assert decode_plain_jpeg(encode()) is None
    plain_jpeg._agrees_with_pillow.cache_clear()


@pytest.mark.parametrize(
    ('least', 'size'),
    [
        (None, (800, 600)),
        (301, (800, 600)),
        (300, (400, 300)),
        (150, (200, 150)),
        (75, (100, 75)),
        (10, (100, 75)),
    ],
)
def test_a_large_photo_is_reduced_as_far_as_its_crop_allows(
    tmp_path, least, size
):
    path = tmp_path / 'x.jpg'
    path.write_bytes(encode(size=(800, 600), subsampling='4:4:4'))
    results = LoadImage(reduce_to=least)(dict(img_path=str(path)))
    assert results['img_shape'] == size[::-1]
    whole = Image.fromarray(read_image(path))
    averages = np.asarray(whole.resize(size, Image.Resampling.BOX), np.int16)
    assert np.abs(results['img'] - averages).mean() < 2


@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
def test_pillow_reduces_in_the_same_way(tmp_path, kind):
    path = tmp_path / 'x'
    path.write_bytes(encode(kind=kind, size=(800, 600)))
    ours = read_image(path, reduce_to=150)
    by_pillow = read_image(path, 'apply', reduce_to=150)
    np.testing.assert_array_equal(ours, by_pillow)
    assert ours.shape[0] == (150 if kind == 'JPEG' else 600)
