"""`mmclip segment`, beside the same steps with open_clip's own modules."""

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from mmclip.commands.segment import main
from mmclip.models.dense import DENSE
from mmclip.segmentation.segmenter import WINDOWS
from tests.conftest import save_whole_model
from tests.test_models.test_dense import formula

TEMPLATES = ['a {}', 'one {}']


@pytest.fixture(scope='module')
def scene(tmp_path_factory):
    """A random CLIP model, and an image."""
    folder = tmp_path_factory.mktemp('scene')
    (folder / 'clip').mkdir()
    save_whole_model(folder / 'clip')
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (5, 7, 3), np.uint8)
    image = Image.fromarray(coarse).resize((70, 50), Image.Resampling.BICUBIC)
    image.save(folder / 'scene.png')
    (folder / 'templates.txt').write_text('\n'.join(TEMPLATES))
    return folder


def segment(scene, out, *more):
    return main(
        [
            *(str(scene / 'scene.png'), '--out', str(out), '--device', 'cpu'),
            *('--model', str(scene / 'clip'), *more),
            *('--templates', str(scene / 'templates.txt')),
        ]
    )


def by_open_clip(scene, dense, names):
    """Return scores ``(classes, height, width)`` of the resized image.

    The first two names are those of the first class.
    """
    model, _, _ = open_clip.create_model_and_transforms(
        f'local-dir:{scene / "clip"}'
    )
    tokenizer = open_clip.get_tokenizer(f'local-dir:{scene / "clip"}')
    model.eval()
    texts = [
        model.encode_text(
            tokenizer([t.format(name) for t in TEMPLATES]), normalize=True
        ).mean(0)
        for name in names
    ]
    texts = F.normalize(torch.stack(texts), dim=-1)
    image = Image.open(scene / 'scene.png')
    image = image.resize((67, 48), Image.Resampling.BICUBIC)
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
    x = (x - 0.5) / 0.5
    total, count = torch.zeros(len(names) - 1, 48, 67), torch.zeros(48, 67)
    weight = torch.ones(32, 32)
    if dense == 'windows':  # lighter towards their edges
        slope = torch.tensor([*range(1, 32, 2), *range(31, 0, -2)]) / 32
        weight = torch.outer(slope, slope)
    for top in (0, 16):
        for left in (0, 16, 32, 35):
            window = x[..., top : top + 32, left : left + 32]
            if dense == 'windows':
                patches = model.encode_image(window)[:, None]
            else:
                patches = formula(model.visual, dense, window)
            patches = F.normalize(patches, dim=-1)
            logits = model.logit_scale.exp() * patches @ texts.T
            side = int(patches.shape[1] ** 0.5)
            logits = logits.mT.unflatten(2, (side, side))
            logits = F.interpolate(logits, (32, 32), mode='bilinear')[0]
            likely = logits.softmax(0)
            likely = torch.cat([likely[:2].amax(0, keepdim=True), likely[2:]])
            total[:, top : top + 32, left : left + 32] += weight * likely
            count[top : top + 32, left : left + 32] += weight
    return total / count


@pytest.mark.parametrize('dense', [*DENSE, WINDOWS])
@torch.no_grad()
def test_the_map_is_that_of_open_clips_modules(scene, tmp_path, capsys, dense):
    out = tmp_path / 'map.png'
    names = ['cat', 'kitten', 'lawn', 'horse']
    options = ('--classes', 'cat|kitten,lawn,horse', '--dense', dense)
    assert segment(scene, out, *options) == 0
    scores = by_open_clip(scene, dense, names)
    scores = F.interpolate(scores[None], (50, 70), mode='bilinear')[0]
    wanted, got = scores.argmax(0), np.array(Image.open(out))
    best, second = scores.topk(2, dim=0).values
    clear = (best - second > 1e-4).numpy()
    assert clear.mean() > 0.9 and len(set(wanted.flatten().tolist())) > 1
    assert (got == wanted.numpy())[clear].all()
    printed = capsys.readouterr().out
    assert f'{100 * (got == 1).mean():.1f} %' in printed
    assert '  1  lawn' in printed


def test_a_model_of_images_that_are_not_square(scene, tmp_path):
    folder = tmp_path / 'wide'
    folder.mkdir()
    vision = dict(layers=2, width=32, head_width=16)
    vision |= dict(patch_size=8, image_size=(32, 48))
    model = save_whole_model(folder, vision_cfg=vision)
    tokens = open_clip.get_tokenizer(f'local-dir:{folder}')
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'window.png')
    options = ('--model', folder, '--short-side', 32, '--classes', 'cat,dog')
    options += ('--templates', tmp_path / 'texts.txt', '--device', 'cpu')
    (tmp_path / 'texts.txt').write_text('a {}')
    out = tmp_path / 'map.png'
    arguments = (tmp_path / 'window.png', '--out', out, *options)
    assert main([*map(str, arguments)]) == 0
    with torch.no_grad():
        texts = model.encode_text(tokens(['a cat', 'a dog']), normalize=True)
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
        patches = F.normalize(formula(model.visual, 'sclip', x), dim=-1)
        scores = (patches @ texts.T).mT.unflatten(2, (4, 6))
    wanted = F.interpolate(scores, (32, 48), mode='bilinear').argmax(1)[0]
    assert 0 < wanted.float().mean() < 1
    assert (np.asarray(Image.open(out)) == wanted.numpy()).mean() > 0.99


def test_what_is_unlikely_is_background(scene, tmp_path, capsys):
    out = tmp_path / 'map.png'
    options = ('--classes', 'cat,sky', '--background', '--threshold', '1')
    assert segment(scene, out, *options) == 0
    assert not np.array(Image.open(out)).any()
    assert '  0  background  100.0 %' in capsys.readouterr().out


def test_maps_have_the_colours_of_pascal_voc(scene, tmp_path):
    out = tmp_path / 'map.png'
    assert segment(scene, out, '--classes', 'cat,sky') == 0
    palette = Image.open(out).getpalette()
    # The first classes of its masks: none, aeroplane, bicycle, bird, boat.
    assert palette[:15] == [
        *(0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128)
    ]


@pytest.mark.parametrize(
    ('options', 'code', 'said'),
    [
        (['--classes', 'cat'], 2, 'At least two names'),
        (['--classes', 'a,b', '--background'], 2, 'needs --threshold'),
        (
            ['--classes', 'names.txt', '--background', 'x'],
            1,
            'no text file names.txt',
        ),
        (['--classes', 'a,b', '--threshold', '2'], 2, 'needs --background'),
        (['--classes', 'a,b', '--background', 'c,d'], 2, 'put | between its'),
        (['--classes', 'a,b', '--dense', 'x'], 2, "invalid choice: 'x'"),
        (['--classes', 'a,b', '--model', 'ViT'], 1, 'ViT is not a model'),
        (
            ['--classes', ','.join(map(str, range(257)))],
            2,
            'room for 256 classes; got 257',
        ),
    ],
)
def test_wrong_arguments(scene, tmp_path, capsys, options, code, said):
    assert segment(scene, tmp_path / 'map.png', *options) == code
    assert said in capsys.readouterr().err


def test_the_image_is_not_overwritten(scene, capsys):
    out = scene / 'scene.png'
    for more in (), ('--force',):
        assert segment(scene, out, '--classes', 'a,b', *more) != 0
    assert 'would overwrite an input' in capsys.readouterr().err


def test_a_file_of_names_may_have_a_byte_order_mark(scene, tmp_path, capsys):
    names = tmp_path / 'names.txt'
    names.write_text('cat\n\nsky|air\n', encoding='utf-8-sig')
    assert segment(scene, tmp_path / 'map.png', '--classes', str(names)) == 0
    printed = capsys.readouterr().out
    assert printed.startswith('  0  cat  ') and '\n  1  sky  ' in printed
    names.write_bytes('caf\xe9\nsky'.encode('latin-1'))
    assert segment(scene, tmp_path / 'm.png', '--classes', str(names)) == 1
    assert 'names.txt is not UTF-8' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('image', 'said'),
    [
        (None, 'There is no image'),
        (b'GIF89a', 'Cannot load'),
        (Image.new('L', (3000, 2)), 'more than 20 times as long'),
    ],
)
def test_wrong_images(scene, tmp_path, capsys, image, said):
    path = tmp_path / 'image.png'
    if isinstance(image, bytes):
        path.write_bytes(image)
    elif image:
        image.save(path)
    line = [str(path), '--classes', 'a,b', '--out', str(tmp_path / 'map.png')]
    line += ['--model', str(scene / 'clip'), '--device', 'cpu']
    line += ['--templates', str(scene / 'templates.txt')]
    assert main(line) == 1
    assert said in capsys.readouterr().err
