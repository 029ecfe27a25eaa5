"""Configs: loaded, checked, completed."""

import re

import pytest
from mmengine.config import Config

from mmclip.engine.config.load import complete_dataloaders, load_config
from tests.conftest import REPOSITORY


def write(tmp_path, text, name='config.py'):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_misspelt_keys_are_errors_with_the_nearest_known_key(tmp_path):
    path = write(tmp_path, 'optim_wraper = dict()\nload_form = None\n')
    with pytest.raises(KeyError) as error:
        load_config(path)
    assert "'optim_wraper' (did you mean 'optim_wrapper'?)" in str(error.value)
    assert "'load_form' (did you mean 'load_from'?)" in str(error.value)


def test_misspelt_options_are_errors(tmp_path):
    path = write(tmp_path, 'optim_wrapper = dict()\n')
    with pytest.raises(KeyError, match='optim_wraper'):
        load_config(path, {'optim_wraper.optimizer.lr': 1})


def test_variables_that_the_config_itself_reads_are_none(tmp_path):
    write(tmp_path, 'scale = 3\nepochs = 5\n', 'base.py')
    path = write(
        tmp_path,
        "_base_ = ['base.py']\n"
        'lr = 0.1 * _base_.scale\n'
        'optim_wrapper = dict(optimizer=dict(lr=lr))\n'
        'train_cfg = dict(max_epochs={{_base_.epochs}})\n',
    )
    cfg = load_config(path)
    assert cfg.train_cfg.max_epochs == 5


def test_variables_that_nobody_reads_are_errors(tmp_path):
    path = write(tmp_path, 'lr = 1\nmodel = dict(lr=lr)\nleft_over = 1\n')
    with pytest.raises(KeyError, match="top-level key 'left_over'"):
        load_config(path)


TOO_LATE = [
    ('clip-l-336_wise-ft_in1k.py', 'iters', 'param_scheduler'),
    ('clip-l-336_wise-ft_in1k.py', 'epochs', 'param_scheduler, train_cfg'),
    (
        'clip-l-336.py',
        'accumulative_counts',
        'auto_scale_lr, custom_hooks, op',
    ),
    ('clip-b16-224.py', 'warmup_epochs', 'param_scheduler'),
]


@pytest.mark.parametrize(('base', 'name', 'computed'), TOO_LATE)
def test_variables_that_come_too_late_are_errors(
    tmp_path, base, name, computed
):
    """A base has computed what depends on them, and the old value stays."""
    config = REPOSITORY / 'configs' / 'clip' / base
    child = write(tmp_path, f"_base_ = ['{config}']\n{name} = 7\n")
    for path, options in (child, None), (config, {name: 7}):
        with pytest.raises(KeyError) as error:
            load_config(path, options)
        assert f"top-level key '{name}', from which" in str(error.value)
        assert f'set what it computes: {computed}' in str(error.value)


def test_a_variable_may_be_set_anew_where_it_is_read(tmp_path):
    write(tmp_path, 'n = 3\ntrain_cfg = dict(max_epochs=n)\n', 'base.py')
    write(tmp_path, "_base_ = 'base.py'\nn = 4\n", 'middle.py')
    path = write(
        tmp_path,
        "_base_ = 'middle.py'\ntrain_cfg = dict(max_epochs=_base_.n)\n",
    )
    assert load_config(path).train_cfg.max_epochs == 4


BASE = """
n = 3
pipeline = [dict(type='Resize', scale=n)]
train_dataloader = dict(dataset=dict(pipeline=pipeline))
"""
HARMLESS = {
    'the same as in the base': 'n = 3',
    'set anew, and read': 'n = 4\ntrain_cfg = dict(max_epochs=n)',
    'assigned into the base': '_base_.train_dataloader.num_workers = 2',
    'assigned into the base and read': "_base_['pipeline'][0]['scale'] = 4\n"
    'train_dataloader = dict(dataset=dict(pipeline=_base_.pipeline))',
    'read by its key': "train_cfg = dict(max_epochs=_base_['n'])\nn = 4",
    'read with a default': "n = 4\nx = _base_.get('n', 0)\nmodel = dict(x=x)",
    'a helper left over': 'a, _ = range(2)\nbgr = [a, a][::-1]',
    'of a loop': 'model = dict()\nfor i in range(3):\n    model.update(a=1)',
}


@pytest.mark.parametrize('case', HARMLESS)
def test_variables_that_do_no_harm(tmp_path, case):
    write(tmp_path, BASE, 'base.py')
    load_config(write(tmp_path, f"_base_ = 'base.py'\n{HARMLESS[case]}\n"))


def test_bases_may_be_computed(tmp_path):
    write(tmp_path, BASE, 'base.py')
    path = write(tmp_path, "_base_ = ['base.py'] + []\nn = 4\n")
    with pytest.raises(KeyError, match=r"'n', from which base\.py has"):
        load_config(path)


@pytest.mark.parametrize(
    'text',
    [
        'optim_wraper = dict(lr=a)',
        'optimizer = dict(lr=a)',
        'epochs = 2 * a',
        'epochs = 3; epochs += a',
        'left_over = 3',
        '_base_.epochs = 4',
        "_base_['epochs'] = 4",
    ],
)
def test_what_looks_like_a_setting_and_is_none(tmp_path, text):
    write(
        tmp_path, 'epochs = 3\ntrain_cfg = dict(max_epochs=epochs)\n', 'b.py'
    )
    path = write(
        tmp_path, f"_base_ = 'b.py'\na = 1\n{text}\nmodel = dict(a=a)"
    )
    name = re.findall('epochs|optim[a-z_]*|left_over', text)[0]
    with pytest.raises(KeyError, match=f"top-level key '{name}'"):
        load_config(path)


def test_a_config_that_options_changed_is_read_again(tmp_path):
    """Its train_pipeline is not that of its data loader any more."""
    cfg = load_config(
        REPOSITORY / 'configs' / 'clip' / 'clip-b16-224.py',
        {
            'train_dataloader.dataset.pipeline.2.scale': 160,
            'val_dataloader.dataset.pipeline.1.scale': 160,
            'test_dataloader.dataset.pipeline.1.scale': 160,
        },
    )
    cfg.dump(tmp_path / 'x.py')
    assert load_config(tmp_path / 'x.py').train_pipeline


def test_the_configs_of_the_docs_are_read(tmp_path):
    """Those that extend one of ours; deepspeed need not be there for it."""
    docs = (REPOSITORY / 'docs' / 'distributed.md').read_text()
    configs = re.findall(r'```python\n(_base_ = .*?)```', docs, re.DOTALL)
    assert len(configs) == 2
    for text in configs:
        text = text.replace("'./", f"'{REPOSITORY}/configs/clip/")
        text = text.replace("'../", f"'{REPOSITORY}/configs/")
        load_config(write(tmp_path, text))


@pytest.mark.parametrize('suffix', ['.py', '.json'])
def test_what_mmengine_wrote_of_a_recipe_is_read_again(tmp_path, suffix):
    cfg = load_config(REPOSITORY / 'configs' / 'clip' / 'clip-l-224.py')
    cfg.dump(tmp_path / f'x{suffix}')
    again = load_config(tmp_path / f'x{suffix}')
    assert again.model.backbone.img_size == 224
    cfg.optim_wraper = cfg.pop('optim_wrapper')
    cfg.dump(tmp_path / f'y{suffix}')
    with pytest.raises(KeyError, match=r"'optim_wraper' \(did you mean"):
        load_config(tmp_path / f'y{suffix}')


def test_a_missing_config_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'nowhere\.py does not'):
        load_config(tmp_path / 'nowhere.py')


@pytest.mark.parametrize(
    ('text', 'given', 'wanted'),
    [
        ('model = dict()', None, 'work_dirs/config'),
        ("work_dir = 'mine'", None, 'mine'),
        ("work_dir = 'mine'", 'yours', 'yours'),
    ],
)
def test_work_dir(tmp_path, text, given, wanted):
    assert load_config(write(tmp_path, text), None, given).work_dir == wanted


def test_dataloaders_are_completed():
    cfg = Config(
        dict(
            train_dataloader=dict(num_workers=2),
            val_dataloader=dict(num_workers=0, pin_memory=False),
            test_dataloader=None,
        )
    )
    complete_dataloaders(cfg, pin_memory=True)
    assert cfg.train_dataloader.persistent_workers
    assert cfg.train_dataloader.pin_memory
    assert not cfg.val_dataloader.persistent_workers
    assert not cfg.val_dataloader.pin_memory
    complete_dataloaders(cfg, pin_memory=False, persistent_workers=False)
    assert not cfg.train_dataloader.persistent_workers
    assert not cfg.train_dataloader.pin_memory


@pytest.mark.parametrize(
    ('scope', 'dataset', 'stacked'),
    [
        (None, dict(type='Mine'), True),
        ('mmpretrain', dict(type='ImageNet'), True),
        ('mmpretrain', dict(type='mmdet.CocoDataset'), False),
        ('mmseg', dict(type='ADE20KDataset'), False),
        ('mmseg', dict(type='mmclip.ImageNetR'), True),
        ('mmdet', dict(type='RepeatDataset', dataset=dict(type='X')), False),
        (
            'mmpretrain',
            dict(
                type='ConcatDataset',
                datasets=[dict(type='mmpose.CocoDataset')],
            ),
            False,
        ),
    ],
)
def test_images_of_other_packages_are_not_stacked(scope, dataset, stacked):
    """They may differ in size; mmengine's own default gives lists."""
    loader = dict(num_workers=0, dataset=dataset)
    cfg = Config(dict(default_scope=scope, train_dataloader=loader))
    complete_dataloaders(cfg, pin_memory=True)
    collate = dict(type='default_collate') if stacked else None
    assert cfg.train_dataloader.get('collate_fn') == collate


def test_left_over_keys_of_other_packages_are_logged(tmp_path, caplog):
    """As backend_args, which nearly all configs of mmpose have."""
    text = "default_scope = 'mmpose'\nx = 1\nbackend_args = dict(backend=x)\n"
    load_config(write(tmp_path, text))
    assert "nothing reads the top-level key 'backend_args'" in caplog.text


@pytest.mark.parametrize(
    ('text', 'options', 'named'),
    [
        ('optim_wraper = dict()', None, 'optim_wraper'),
        ('', {'backend_args.backend': 'local'}, 'backend_args'),
    ],
)
def test_misspelt_keys_of_other_packages_are_refused(
    tmp_path, text, options, named
):
    text = "default_scope = 'mmpose'\nx = 1\ny = dict(x=x)\n" + text
    with pytest.raises(KeyError, match=f'nothing reads .*{named}'):
        load_config(write(tmp_path, text), options)
