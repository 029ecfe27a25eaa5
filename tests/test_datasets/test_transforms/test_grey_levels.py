"""Grey of every depth loads from black to white, as its file says."""

import struct

import numpy as np
import pytest
from PIL import Image

from mmclip.datasets import LoadImageError, read_image
from mmclip.datasets.transforms import load_image

SHORT, LONG, DOUBLE = 3, 4, 12
MAX_SAMPLE_VALUE, SMIN_SAMPLE_VALUE, SMAX_SAMPLE_VALUE = 281, 340, 341
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
# Of eight columns, from black to white.
RAMP = np.uint8([0, 36, 73, 109, 146, 182, 219, 255])


def ramp(bits):
    high = 2**bits - 1
    return np.linspace(0, high, 8).round().astype(np.int64)[None].repeat(2, 0)


def write_tiff(
    path,
    values,
    bits,
    photometric=1,
    sample_format=UNSIGNED,
    order='<',
    **tags,
):
    """Write a TIFF of one strip, which Pillow cannot write so."""
    height, width = values.shape
    if bits in (8, 16, 32):
        kind = {UNSIGNED: 'u', SIGNED: 'i', FLOAT: 'f'}[sample_format]
        data = values.astype(f'{order}{kind}{bits // 8}').tobytes()
    else:  # packed, the high bit first
        rows = (''.join(f'{v:0{bits}b}' for v in row) for row in values)
        data = b''.join(
            int(row, 2).to_bytes(len(row) // 8, 'big') for row in rows
        )
    entries = [
        (256, SHORT, width),
        (257, SHORT, height),
        (258, SHORT, bits),
        (259, SHORT, 1),
        (262, SHORT, photometric),
        (273, LONG, 8),
        (277, SHORT, 1),
        (278, SHORT, height),
        (279, LONG, len(data)),
        (339, SHORT, sample_format),
    ]
    for name, value in tags.items():
        kind = DOUBLE if name.startswith('S') else SHORT
        entries.append((globals()[name], kind, value))
    directory = struct.pack(f'{order}H', len(entries))
    for tag, kind, value in sorted(entries):
        directory += struct.pack(f'{order}HHI', tag, kind, 1)
        if kind == DOUBLE:
            directory += struct.pack(f'{order}I', 8 + len(data))
            data += struct.pack(f'{order}d', value)
        else:
            form = {SHORT: 'HH', LONG: 'I'}[kind]
            directory += struct.pack(
                order + form, value, *[0] * (len(form) - 1)
            )
    mark = {'<': b'II*\0', '>': b'MM\0*'}[order]
    start = mark + struct.pack(f'{order}I', 8 + len(data))
    path.write_bytes(start + data + directory + bytes(4))


def columns(path):
    """The grey of each column."""
    image = read_image(path)
    assert (image == image[:1, :, :1]).all()
    return image[0, :, 0]


@pytest.mark.parametrize(
    ('bits', 'settings'),
    [
        (4, {}),
        (8, {}),
        (12, {}),
        (16, {}),
        (16, dict(order='>')),
    ],
    ids=str,
)
def test_a_ramp_of_any_depth_is_a_ramp(tmp_path, bits, settings):
    write_tiff(tmp_path / 'x.tif', ramp(bits), bits, **settings)
    found = columns(tmp_path / 'x.tif').astype(int)
    step = 255 // (2 ** min(bits, 8) - 1)  # of levels that the file has
    np.testing.assert_allclose(found, RAMP, atol=step)
    assert (found[0], found[-1]) == (0, 255)


@pytest.mark.parametrize('bits', [8, 16])
def test_white_may_be_zero(tmp_path, bits):
    write_tiff(tmp_path / 'x.tif', ramp(bits), bits, photometric=0)
    np.testing.assert_array_equal(columns(tmp_path / 'x.tif'), RAMP[::-1])


def test_white_may_be_zero_of_compressed_pixels(tmp_path):
    image = Image.fromarray(ramp(16).astype(np.uint16))
    image.save(tmp_path / 'x.tif', compression='tiff_lzw', tiffinfo={262: 0})
    np.testing.assert_array_equal(columns(tmp_path / 'x.tif'), RAMP[::-1])


@pytest.mark.parametrize('bits', [10, 12, 14])
def test_a_file_may_say_that_it_uses_fewer_bits(tmp_path, bits):
    path = tmp_path / 'x.tif'
    tags = dict(MAX_SAMPLE_VALUE=2**bits - 1)
    write_tiff(path, ramp(bits), 16, **tags)
    np.testing.assert_array_equal(columns(path), RAMP)
    # What is brighter shows that the tag is wrong.
    write_tiff(path, ramp(16), 16, **tags)
    np.testing.assert_array_equal(columns(path), RAMP)


def test_the_brightest_pixel_is_not_white(tmp_path):
    """By TIFF 6.0, MaxSampleValue may be what the image happens to have."""
    values = ramp(16) // 3
    write_tiff(
        tmp_path / 'x.tif', values, 16, MAX_SAMPLE_VALUE=int(values.max())
    )
    found = columns(tmp_path / 'x.tif')
    np.testing.assert_array_equal(found, values[0] >> 8)


@pytest.mark.parametrize(
    ('values', 'bits', 'photometric', 'sample_format', 'low', 'high'),
    [
        (ramp(8) / 255, 32, 1, FLOAT, 0.0, 1.0),
        (ramp(8) / 255, 32, 0, FLOAT, 0.0, 1.0),
        (ramp(8) - 128, 8, 1, SIGNED, -128.0, 127.0),
        (ramp(12) - 2048, 16, 1, SIGNED, -2048.0, 2047.0),
        (ramp(12), 32, 1, SIGNED, 0.0, 4095.0),
    ],
    ids=['float', 'white is 0', 'signed 8', 'signed 16', 'signed 32'],
)
def test_a_range_is_followed_and_asked_for(
    tmp_path, values, bits, photometric, sample_format, low, high
):
    path = tmp_path / 'x.tif'
    given = dict(SMIN_SAMPLE_VALUE=low, SMAX_SAMPLE_VALUE=high)
    write_tiff(path, values, bits, photometric, sample_format, **given)
    wanted = RAMP if photometric else RAMP[::-1]
    np.testing.assert_array_equal(columns(path), wanted)
    write_tiff(path, values, bits, photometric, sample_format)
    with pytest.raises(LoadImageError, match='no largest value to scale by'):
        read_image(path)


def test_pixels_that_are_not_numbers_are_refused(tmp_path):
    values = np.full((2, 8), np.nan)
    given = dict(SMIN_SAMPLE_VALUE=0.0, SMAX_SAMPLE_VALUE=1.0)
    write_tiff(tmp_path / 'x.tif', values, 32, 1, FLOAT, **given)
    with pytest.raises(LoadImageError, match='NaN or infinite'):
        read_image(tmp_path / 'x.tif')


@pytest.mark.parametrize('bits', [10, 14])
def test_a_depth_that_pillow_lacks_is_named_as_such(tmp_path, bits):
    write_tiff(tmp_path / 'x.tif', ramp(bits), bits)
    with pytest.raises(LoadImageError, match='TIFF with pixels'):
        read_image(tmp_path / 'x.tif')


@pytest.mark.parametrize('high', [15, 255, 1023, 4095, 65535])
def test_pgm_scales_by_its_own_maximum(tmp_path, high):
    bits = high.bit_length()
    kind = 'u1' if bits <= 8 else '>u2'
    path = tmp_path / 'x.pgm'
    pixels = ramp(bits).astype(kind).tobytes()
    path.write_bytes(f'P5 8 2 {high}\n'.encode() + pixels)
    found = columns(path).astype(int)
    np.testing.assert_allclose(found, RAMP, atol=255 // min(high, 255))


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('suffix', ['png', 'tif'])
def test_data_of_12_bits_in_a_file_of_16_are_named_once(
    tmp_path, channels, suffix, monkeypatch
):
    import cv2

    monkeypatch.setattr(load_image, '_warned', set())
    said = []
    monkeypatch.setattr(
        load_image, 'print_log', lambda text, **_: said.append(text)
    )
    dark = ramp(12).astype(np.uint16)
    for name, values in dict(bright=ramp(16), a=dark, b=dark).items():
        pixels = values.astype(np.uint16)[..., None].repeat(channels, 2)
        assert cv2.imwrite(str(tmp_path / f'{name}.{suffix}'), pixels)
    read_image(tmp_path / f'bright.{suffix}')
    assert not said
    for name in 'ab':
        read_image(tmp_path / f'{name}.{suffix}')
    (text,) = said
    assert f'a.{suffix} has 16 bits' in text
