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
        7,
    ],
    ids=lambda wrong: str(getattr(wrong, 'shape', wrong)),
)
def test_other_images_are_refused(model, wrong):
    with pytest.raises(ArgumentError, match=r'uint8|PIL\.Image'):
        model.predict([wrong])


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
