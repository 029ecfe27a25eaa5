"""Counts against independent ones."""

import open_clip
import pytest
import yaml
from modelindex.load_model_index import load

from mmclip.analysis import count_complexity
from mmclip.analysis.complexity import image_size
from mmclip.analysis.zoo_pages import METAFILE, count
from mmclip.checkpoint.towers.open_clip import find_tower
from mmclip.engine.config.load import load_config
from mmclip.zoo import zoo_name
from tests.conftest import REPOSITORY
from tests.processes import finish, start

CONFIGS = REPOSITORY / 'configs' / 'clip'
TOOLS = REPOSITORY / 'tools' / 'analysis_tools'


def closed_form(width, depth, mlp_width, patch, size, classes):
    """Parameters and MACs of a ViT with class token, norms and a head."""
    grid = size // patch
    tokens = grid**2 + 1
    block = 4 * width**2 + 2 * width * mlp_width
    biases_and_norms = 4 * width + mlp_width + width + 4 * width
    params = (
        3 * patch**2 * width
        + (tokens + 1) * width
        + depth * (block + biases_and_norms)
        + 2 * 2 * width
        + width * classes
        + classes
    )
    macs = (
        3 * patch**2 * width * grid**2
        + depth * (tokens * block + 2 * tokens**2 * width)
        + width * classes
    )
    return params, macs


@pytest.mark.parametrize(
    ('config', 'numbers'),
    [
        ('clip-l-336.py', (1024, 24, 4096, 14, 336, 1000)),
        ('clip-l-224.py', (1024, 24, 4096, 14, 224, 1000)),
        ('clip-b16-224.py', (768, 12, 3072, 16, 224, 1000)),
    ],
)
def test_counts_equal_the_closed_form(config, numbers):
    size = numbers[4]
    found = count_complexity(load_config(CONFIGS / config), (size, size))
    assert (found.params, found.macs) == closed_form(*numbers)


def get_flops(*arguments):
    return start(TOOLS / 'get_flops.py', *arguments, cwd=REPOSITORY)


def test_the_tool_prints_the_pages_numbers():
    output = finish(get_flops(CONFIGS / 'clip-l-336.py'))
    assert 'Params: 304.53 M' in output
    assert 'Flops: 190.96 G' in output


@pytest.mark.parametrize(
    ('model', 'params'),
    [
        (dict(type='TimmClassifier', model_name='resnet18'), 11_689_512),
        (
            dict(
                type='ImageClassifier',
                backbone=dict(type='AlexNet', num_classes=10),
            ),
            57_044_810,
        ),
    ],
)
def test_models_without_a_tower_of_ours_are_counted(tmp_path, model, params):
    """Params of torchvision's pages: resnet18, and AlexNet for 10 classes."""
    path = tmp_path / 'config.py'
    path.write_text(f"default_scope = 'mmpretrain'\nmodel = {model}\n")
    assert f'({params:,})' in finish(get_flops(path, '--shape', '224'))
    log, _ = get_flops(path).communicate()
    assert 'error: model.backbone has no img_size' in log


def test_the_updates_of_lora_are_counted_without_weights():
    cfg = load_config(CONFIGS / 'clip-l-336_lora_in1k.py')
    assert image_size(cfg) == (336, 336)
    found = count_complexity(cfg, (336, 336))
    params, macs = closed_form(1024, 24, 4096, 14, 336, 1000)
    updates = 24 * 16 * (1024 + 3 * 1024)
    assert found.params == params + updates
    assert found.macs == macs + updates * (24**2 + 1)


def test_the_model_page_is_up_to_date():
    finish(start(TOOLS / 'model_page.py', '--check', cwd=REPOSITORY))


def test_the_model_index_parses():
    index = load(str(REPOSITORY / 'model-index.yml'))
    index.build_models_with_collections()
    # OpenMMLab's paths begin at the root, modelindex's at the file.
    errors = index.check(silent=True)
    assert [error for error in errors if 'README' not in error] == []
    (collection,) = index.collections
    assert (REPOSITORY / collection.readme).is_file()
    names = [model.name for model in index.models]
    assert 'clip-l-336-laion2b-in12k-pre_3rdparty_in1k' in names
    for model in index.models:
        if model.config is None:  # made on the fly: mmclip/zoo.py
            assert model.weights.startswith('open_clip://')
        else:
            assert (REPOSITORY / model.config).is_file()


@pytest.fixture(scope='module')
def zoo():
    """The rows of the metafile, by name."""
    rows = yaml.safe_load((REPOSITORY / METAFILE).read_text())['Models']
    return {row['Name']: row for row in rows}


def test_the_zoo_has_a_row_for_every_pair_of_name_and_tag(zoo):
    weights = {name: row['Weights'] for name, row in zoo.items()}
    assert weights == {
        zoo_name(name, tag): f'open_clip://{name}/{tag}'
        for name, tag in open_clip.list_pretrained()
    }


@pytest.mark.parametrize(
    ('name', 'tag'), [('ViT-B-32', 'openai'), ('RN50', 'cc12m')]
)
def test_a_row_of_the_zoo_has_the_numbers_of_its_tower(zoo, name, tag):
    counted = count(find_tower(name, None))
    assert zoo[zoo_name(name, tag)]['Metadata'] == dict(
        FLOPs=counted.macs, Parameters=counted.params
    )


@pytest.mark.exhaustive
def test_the_zoos_metafile_is_up_to_date():
    finish(start(TOOLS / 'zoo.py', '--check', cwd=REPOSITORY))
