"""A folder data set has every image and nothing else."""

import os

import pytest
from mmpretrain.datasets import CustomDataset
from PIL import Image

from mmclip.datasets import ImageFolder

PICTURE = Image.new('RGB', (16, 16), 'red')
SUFFIXES = ('jpg', 'JPE', 'png', 'webp', 'TIFF', 'gif', 'avif', 'tga')


def save(path, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.save(path, **settings)


@pytest.fixture
def root(tmp_path):
    """Three classes of two images, which mmpretrain finds too."""
    for name in ('Zed', 'one', 'two'):
        save(tmp_path / 'train' / name / '1.png')
        save(tmp_path / 'train' / name / 'deeper' / '2.JPG', format='PNG')
    return tmp_path


def images(dataset):
    infos = (dataset.get_data_info(i) for i in range(len(dataset)))
    return [(info['img_path'], info.get('gt_label')) for info in infos]


@pytest.mark.parametrize('with_label', [True, False])
def test_it_is_custom_dataset_where_that_finds_all(root, with_label, log):
    settings = dict(
        data_root=str(root), data_prefix='train', with_label=with_label
    )
    ours, theirs = ImageFolder(**settings), CustomDataset(**settings)
    assert images(ours) == images(theirs)
    assert ours.metainfo == theirs.metainfo
    assert not log


@pytest.mark.parametrize('with_label', [True, False])
def test_every_image_counts(root, with_label):
    for suffix in SUFFIXES:
        save(root / 'train' / 'two' / f'x.{suffix}')
    save(root / 'train' / 'two' / 'no suffix', format='JPEG')
    dataset = ImageFolder(str(root), 'train', with_label=with_label)
    assert len(dataset) == 6 + len(SUFFIXES) + 1


def test_suffixes_may_be_chosen(root, log):
    save(root / 'train' / 'two' / 'x.webp')
    dataset = ImageFolder(str(root), 'train', extensions=['.webp', '.png'])
    assert len(dataset) == 4
    assert 'left out 3 files' in log[-1]


def test_other_files_are_left_out_and_counted_in_the_log(root, log):
    (root / 'train' / 'two' / 'notes.txt').write_text('x')
    (root / 'train' / 'two' / 'x.heic').write_bytes(b'....ftypheic')
    assert len(ImageFolder(str(root), 'train')) == 6
    (line,) = log
    assert 'left out 2 files' in line
    assert '1 .heic' in line


@pytest.mark.parametrize(
    'name', ['.ipynb_checkpoints', '.git', '__MACOSX', '@eaDir', '.anything']
)
@pytest.mark.parametrize('inside', ['', 'two'])
def test_hidden_folders_are_not_classes(root, log, name, inside):
    save(root / 'train' / inside / name / '1.png')
    dataset = ImageFolder(str(root), 'train')
    assert dataset.metainfo['classes'] == ('Zed', 'one', 'two')
    assert len(dataset) == 6
    (line,) = log
    assert name in line


def test_hidden_files_are_left_out_and_named(root, log):
    save(root / 'train' / 'two' / '._1.png')
    (root / 'train' / 'two' / 'Thumbs.db').touch()
    assert len(ImageFolder(str(root), 'train')) == 6
    (line,) = log
    assert 'two/._1.png, two/Thumbs.db' in line


def test_links_in_a_circle_end(root):
    os.symlink(root / 'train', root / 'train' / 'two' / 'again')
    assert len(ImageFolder(str(root), 'train')) == 6


def test_images_beside_the_class_folders_are_named(root):
    save(root / 'train' / 'stray.webp')
    with pytest.raises(ValueError, match=r'1 image outside .*stray\.webp'):
        ImageFolder(str(root), 'train')
    with pytest.raises(ValueError, match=r'image and no class folders: 2\.J'):
        ImageFolder(str(root), 'train/two/deeper')


def test_a_missing_folder_is_explained(root):
    with pytest.raises(FileNotFoundError, match=r'val \(.* has train\)'):
        ImageFolder(str(root), 'val')


def test_an_empty_folder_is_explained(root):
    (root / 'val' / 'one').mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r'has no image .*: one'):
        ImageFolder(str(root), 'val')


@pytest.mark.parametrize(
    'names',
    [
        ('one', 'two', 'Zed'),
        ('one', 'two', 'zed'),
        ('zed', 'TWO', 'other'),
    ],
)
def test_names_in_another_order_are_refused(root, names):
    metainfo = dict(classes=names)
    with pytest.raises(ValueError, match=r'order of the folders: Zed, one, t'):
        ImageFolder(str(root), 'train', metainfo=metainfo)


@pytest.mark.parametrize(
    'names', [('Zed', 'one', 'two'), ('zed', 'One', 'other'), ('x', 'y', 'z')]
)
def test_names_in_the_order_of_the_folders_pass(root, names):
    dataset = ImageFolder(str(root), 'train', metainfo=dict(classes=names))
    assert dataset.metainfo['classes'] == names


def test_spaces_and_underscores_are_the_same(tmp_path):
    for name in ('golden_retriever', 'tabby-cat'):
        save(tmp_path / name / '1.png')
    names = ['Golden Retriever', 'tabby cat']
    ImageFolder(str(tmp_path), metainfo=dict(classes=names))
    with pytest.raises(ValueError, match="'tabby cat' is number 0"):
        ImageFolder(str(tmp_path), metainfo=dict(classes=names[::-1]))


def test_another_number_of_names_is_refused(root):
    path = root / 'names.txt'
    path.write_text('a\nb\n')
    with pytest.raises(ValueError, match=r'has 2 names, but .* 3 class'):
        ImageFolder(str(root), 'train', metainfo=dict(classes=str(path)))


def test_numbered_folders_are_said_to_be_in_another_order(tmp_path, log):
    for name in ('1', '2', '10'):
        save(tmp_path / name / '1.png')
    ImageFolder(str(tmp_path))
    assert not log
    metainfo = dict(classes=['first', 'second', 'tenth'])
    ImageFolder(str(tmp_path), metainfo=metainfo)
    (line,) = log
    assert "1 is 'first', 10 is 'second', 2 is 'tenth'" in line


def read(root, text, **settings):
    (root / 'list.txt').write_text(text, encoding='utf-8')
    dataset = ImageFolder(str(root), 'images', ann_file='list.txt', **settings)
    prefix = f'{root}/images/'
    return [
        (path.removeprefix(prefix), label) for path, label in images(dataset)
    ]


def test_lists_may_have_tabs_and_blank_lines(tmp_path):
    text = '\ufeffa.png 0\r\n\n b c.png\t12 \n\t\n'
    assert read(tmp_path, text) == [('a.png', 0), ('b c.png', 12)]


def test_lists_without_labels_may_have_blank_lines(tmp_path):
    found = read(tmp_path, 'a.png\n\nb c.png\n', with_label=False)
    assert found == [('a.png', None), ('b c.png', None)]


@pytest.mark.parametrize(
    'line', ['a.png,0', 'a.png, 0', 'path,label', 'a.png', '# images', 'a 1.5']
)
def test_a_line_that_is_not_one_is_named(tmp_path, line):
    message = rf'Line 3 of {tmp_path}/list\.txt is {line!r}'
    with pytest.raises(ValueError, match=message):
        read(tmp_path, f'a.png 0\n\n{line}\n')


def test_a_list_that_is_missing_or_empty_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'list\.txt names no image'):
        read(tmp_path, '\n')
    with pytest.raises(FileNotFoundError, match='correct ann_file'):
        ImageFolder(str(tmp_path), ann_file='another.txt')
