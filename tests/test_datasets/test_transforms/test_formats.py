"""What counts as an image, and that none starts a program."""

import os
import shutil

import pytest
from PIL import EpsImagePlugin, Image

from mmclip.datasets import LoadImageError, read_image
from mmclip.datasets.transforms.formats import FORMATS, is_image

PICTURE = Image.new('RGB', (16, 16), 'red')


def test_an_eps_starts_no_program(tmp_path, monkeypatch):
    program = tmp_path / 'gs'
    program.write_text(f'#!/bin/sh\ntouch {tmp_path}/started\n')
    program.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, 'gs_binary', None)
    for name in ('x.eps', 'x.jpg'):
        PICTURE.save(tmp_path / name, format='EPS')
        with pytest.raises(LoadImageError, match='not in an image format'):
            read_image(tmp_path / name)
    assert not (tmp_path / 'started').exists()


def test_formats_of_pillow_that_are_left_out():
    """A format that Pillow adds is to be looked at before it is taken."""
    Image.init()
    left_out = {'BUFR', 'EPS', 'GRIB', 'HDF5', 'IPTC', 'MPEG', 'WMF'}
    assert set(Image.OPEN) - FORMATS == left_out


@pytest.mark.parametrize(
    'name',
    [
        *('x.jpg', 'x.JPEG', 'x.jpe', 'x.JFIF', 'x.png', 'x.PNG', 'x.webp'),
        *('x.tif', 'x.TIFF', 'x.bmp', 'x.gif', 'x.ppm', 'x.avif', 'x.jp2'),
        *('x.tga', 'x.pcx', 'x.ico', 'x.dds', 'x.sgi', 'x.qoi'),
    ],
)
def test_every_suffix_that_loads_counts(tmp_path, name):
    PICTURE.save(tmp_path / name)
    assert is_image(tmp_path / name)
    assert read_image(tmp_path / name).shape == (16, 16, 3)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'TIFF', 'WEBP', 'GIF'])
def test_a_file_without_suffix_counts_by_its_content(tmp_path, kind):
    PICTURE.save(tmp_path / 'x', format=kind)
    assert is_image(tmp_path / 'x')


def test_what_is_not_an_image_does_not_count(tmp_path):
    contents = {
        'labels.txt': b'P5 is not a picture',
        'boxes.xml': b'<annotation/>',
        'empty': b'',
        'list.csv': b'BM,1\n',
        'page.pdf': b'%PDF-1.4',
        'numbers.npy': b'\x93NUMPY',
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert not is_image(tmp_path / name), name
    # Raw files of cameras are TIFF, with a thumbnail first.
    PICTURE.save(tmp_path / 'x.tif')
    shutil.copy(tmp_path / 'x.tif', tmp_path / 'x.nef')
    assert not is_image(tmp_path / 'x.nef')
