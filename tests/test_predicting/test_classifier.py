import multiprocessing

import numpy as np
import pytest
import torch
from PIL import Image

from mmclip.datasets import LoadImageError
from mmclip.errors import ArgumentError
from mmclip.predicting import loading


def image(photos, name='a/0.png'):
    return Image.open(photos / name)


def test_an_image_is_a_path_a_pillow_image_or_rgb_pixels(model, photos):
    path = photos / 'a' / '0.png'
    expected = model.predict(path).probabilities
    assert model.predict(image(photos)).probabilities == expected
    pixels = np.asarray(image(photos))
    assert model.predict(pixels).probabilities == expected
    assert model.predict(pixels[..., ::-1]).probabilities != expected


def test_palettes_become_colours_as_from_a_file(model, photos, tmp_path):
    palette = image(photos).quantize(8)
    palette.save(tmp_path / 'palette.png')
    expected = model.predict(tmp_path / 'palette.png').probabilities
    assert model.predict(palette).probabilities == expected


@pytest.mark.parametrize(
    'wrong',
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((3, 8, 8), np.uint8),
        np.array(7),
        torch.zeros(3, 8, 8),
        7,
        None,
        b'a.png',
        dict(a=1),
    ],
    ids=lambda wrong: str(getattr(wrong, 'shape', wrong)),
)
@pytest.mark.parametrize('ask', ['predict', 'features'])
def test_other_images_are_refused(model, wrong, ask):
    for images in (wrong, [wrong], ['a.png'] * loading.FEW + [wrong]):
        with pytest.raises(ArgumentError, match=r'uint8|PIL\.Image') as error:
            getattr(model, ask)(images)
        assert '\n' not in str(error.value)


def test_several_images_come_in_any_form(model, photos):
    paths = sorted(photos.rglob('*.png'))
    expected = model.predict(paths).probabilities
    opened = [Image.open(path) for path in paths]
    pixels = [np.asarray(image) for image in opened]
    for images in (
        tuple(map(str, paths)),
        (path for path in paths),
        np.array([*map(str, paths)]),
        opened,
        pixels,
        np.stack(pixels),
        [paths[0], opened[1], *pixels[2:]],
    ):
        found = model.predict(images)
        assert found.probabilities.equal(expected)


@pytest.mark.parametrize('few', [1, 100], ids=['processes', 'no processes'])
def test_answers_are_in_order_across_batches(model, photos, monkeypatch, few):
    paths = sorted(map(str, photos.rglob('*.png')))
    paths = [*paths, 'nothing.png', *paths]
    alone = [model.answer([path])[0] for path in paths]
    monkeypatch.setattr(loading, 'BATCH', 4)
    monkeypatch.setattr(loading, 'FEW', few)
    found = model.answer(paths)
    assert [answer.path for answer in found] == paths
    for one, other in zip(found, alone, strict=True):
        assert (one.names, one.note) == (other.names, other.note)
        assert one.probabilities == pytest.approx(other.probabilities)


@pytest.mark.parametrize(
    ('start_method', 'number', 'processes'),
    [('fork', 12, True), ('spawn', 12, False), ('fork', 5, False)],
)
def test_only_many_images_are_read_by_forked_processes(
    model, photos, monkeypatch, start_method, number, processes
):
    """Others would run a script again that has no `if __name__`."""
    path = str(next(photos.rglob('*.png')))
    children = []
    method = lambda: start_method  # noqa: E731
    monkeypatch.setattr(multiprocessing, 'get_start_method', method)
    monkeypatch.setattr(loading, 'BATCH', 4)
    monkeypatch.setattr(loading, 'FEW', 8)
    for _ in loading.batches([path] * number, model._prepare):
        children += multiprocessing.active_children()
    assert bool(children) == processes


def test_the_most_probable_of_one_image_are_sorted(model, photos):
    answer = model.predict(photos / 'a' / '0.png')
    assert len(answer.names) == 5
    assert sorted(answer.probabilities)[::-1] == [*answer.probabilities]
    assert answer.is_sure == (answer.probability >= model.threshold)


def test_unreadable_images_are_named_and_the_rest_answered(model, photos, log):
    (photos / 'a' / '0.png').write_bytes(b'broken')
    found = model.predict([photos / 'a' / '0.png', photos / 'b' / '1.png'])
    assert [answer.name == '' for answer in found] == [True, False]
    assert '0.png: it is not in an image format' in found[0].note
    assert log == [found[0].note]


def test_all_may_be_unreadable(model):
    found = model.predict(['nothing.png'])
    assert len(found.unreadable) == 1


def test_a_single_unreadable_image_is_an_error(model):
    with pytest.raises(LoadImageError, match=r'nothing\.png: no such file'):
        model.predict('nothing.png')


def test_features_are_what_the_head_sees(model, photos):
    paths = sorted(photos.rglob('*.png'))
    features = model.features(paths)
    assert features.shape == (5, 16)
    logits = model.model.head.fc(features)
    expected = (logits / model.temperature).softmax(dim=1)
    found = model.predict(paths).probabilities
    torch.testing.assert_close(found, expected)
    with pytest.raises(LoadImageError, match=r'x\.png.*\n.*y\.png'):
        model.features([*paths, 'x.png', 'y.png'])


def test_no_images_give_no_answers(model):
    assert len(model.predict([])) == 0
