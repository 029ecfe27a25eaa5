"""What ``mmclip.load`` takes, and what it says of the rest."""

import subprocess
import sys

import pytest

import mmclip
from mmclip.checkpoint.files.writing import write_checkpoint
from mmclip.commands import zero_shot
from mmclip.errors import ArgumentError, CheckpointError, DataError
from tests.conftest import save_whole_model
from tests.test_predicting.conftest import CLASSES, checkpoint, save_photos

NAMES = ['cat', 'dog', 'bird']


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    """A folder with a CLIP model, and photos beside it."""
    folder = tmp_path_factory.mktemp('clip')
    save_whole_model(folder)
    return folder


def test_a_clip_model_and_names_are_a_classifier(clip, tmp_path):
    photos = save_photos(tmp_path / 'photos')
    model = mmclip.load(clip, NAMES, templates=['a {}'], device='cpu')
    found = model.predict_folder(photos)
    assert model.classes == NAMES
    (tmp_path / 'names.txt').write_text('\n'.join(NAMES))
    (tmp_path / 'templates.txt').write_text('a {}')
    zero_shot.main(
        [
            str(clip / 'open_clip_config.json'),
            str(clip / 'open_clip_model.safetensors'),
            str(tmp_path / 'out.pth'),
            f'--classes={tmp_path / "names.txt"}',
            f'--templates={tmp_path / "templates.txt"}',
        ]
    )
    written = mmclip.load(tmp_path / 'out.pth', device='cpu')
    expected = written.predict_folder(photos).probabilities
    assert found.probabilities.equal(expected)


@pytest.mark.parametrize('classes', [None, [], ['cat']])
def test_a_clip_model_needs_names(clip, classes):
    with pytest.raises(
        ArgumentError, match='needs classes, two names or more'
    ):
        mmclip.load(clip, classes)


def test_a_classifier_has_names_of_its_own(tmp_path):
    write_checkpoint(checkpoint(), tmp_path / 'model.safetensors')
    model = mmclip.load(tmp_path / 'model.safetensors', device='cpu')
    assert model.classes == [*CLASSES]
    assert repr(model).startswith('Classifier of 6 classes: blue, green')
    with pytest.raises(ArgumentError, match='takes no classes'):
        mmclip.load(tmp_path / 'model.safetensors', NAMES)


def test_a_folder_that_is_no_finished_run_is_named(tmp_path):
    write_checkpoint(checkpoint(), tmp_path / 'model.safetensors')
    with pytest.raises(DataError, match='finished run: it has no metrics'):
        mmclip.load(tmp_path)


@pytest.mark.parametrize(
    ('name', 'error', 'said'),
    [
        ('runs/nothing', FileNotFoundError, 'no file or folder runs/nothing'),
        ('open_clip://ViT-B-32', CheckpointError, 'give NAME/TAG'),
        ('open_clip://ViT-B-33/openai', CheckpointError, 'ViT-B-33'),
        ('ViT-B-33/openai', CheckpointError, 'ViT-B-33'),
    ],
)
def test_what_is_not_there_is_named(name, error, said):
    classes = NAMES if 'ViT' in name else None
    with pytest.raises(error, match=said):
        mmclip.load(name, classes)


@pytest.mark.slow
@pytest.mark.parametrize(
    'code',
    [
        'mmclip.load',
        # Two images of two classes: what is imported comes before the error.
        "mmclip.adapt('photos', model='clip', names=['a'])",
    ],
)
def test_nothing_warns_of_an_operator_that_no_model_needs(tmp_path, code):
    """As mmcv-lite does when it is imported."""
    save_photos(tmp_path / 'photos')
    (tmp_path / 'clip').mkdir()
    save_whole_model(tmp_path / 'clip')
    result = subprocess.run(
        [sys.executable, '-c', f'import mmclip; {code}'],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert 'Fail to import' not in result.stderr
    last = result.stderr.splitlines()[-1:]
    assert last == [] or 'names are given for 2 classes' in last[0]


def test_other_names_are_no_attributes_of_the_package():
    with pytest.raises(AttributeError, match="no attribute 'loads'"):
        _ = mmclip.loads
