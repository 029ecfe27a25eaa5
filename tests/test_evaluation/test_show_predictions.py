"""Each package's own visualization hook is turned on."""

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, Registry

from mmclip.evaluation.show_predictions import show_predictions

OTHERS = Registry('hook', parent=HOOKS, scope='otherpackage')


@OTHERS.register_module()
class SegVisualizationHook(Hook):
    """With the arguments of mmseg's."""

    def __init__(self, draw=False, interval=50, show=False, wait_time=0.0):
        pass


@OTHERS.register_module()
class DetVisualizationHook(Hook):
    """With those of mmdet's."""

    def __init__(
        self,
        draw=False,
        interval=50,
        score_thr=0.3,
        show=False,
        wait_time=0.0,
        test_out_dir=None,
    ):
        pass


@OTHERS.register_module()
class TrackVisualizationHook(Hook):
    """With those of mmdet's for videos."""

    def __init__(
        self,
        draw=False,
        frame_interval=30,
        show=False,
        wait_time=0.0,
        test_out_dir=None,
    ):
        pass


@OTHERS.register_module()
class PoseVisualizationHook(Hook):
    """With those of mmpose's."""

    def __init__(
        self, enable=False, interval=50, show=False, wait_time=0, out_dir=None
    ):
        pass


def config(scope, **hook):
    hooks = dict(visualization=hook) if hook else {}
    return Config(
        dict(default_scope=scope, default_hooks=hooks, visualizer=dict())
    )


@pytest.mark.parametrize(
    ('kind', 'wanted'),
    [
        ('SegVisualizationHook', dict(draw=True, interval=3)),
        (
            'DetVisualizationHook',
            dict(draw=True, interval=3, test_out_dir='here', score_thr=0.5),
        ),
        (
            'TrackVisualizationHook',
            dict(draw=True, frame_interval=3, test_out_dir='here'),
        ),
        (
            'PoseVisualizationHook',
            dict(enable=True, interval=3, out_dir='here'),
        ),
    ],
)
def test_the_hook_of_the_package_is_turned_on(tmp_path, kind, wanted):
    given = dict(score_thr=0.5) if 'score_thr' in wanted else {}
    cfg = config('otherpackage', type=kind, **given)
    show_predictions(cfg, folder=tmp_path, wait_time=1, interval=3)
    wanted = {
        k: str(tmp_path) if v == 'here' else v for k, v in wanted.items()
    }
    hook = cfg.default_hooks.visualization
    assert hook == dict(type=kind, show=False, wait_time=1, **wanted)
    visualizer_writes = kind == 'SegVisualizationHook'
    assert cfg.visualizer == (
        dict(save_dir=str(tmp_path)) if visualizer_writes else {}
    )
    OTHERS.build(dict(hook, _scope_='otherpackage'))


def test_classifiers_need_no_hook_in_the_config(tmp_path):
    cfg = config('mmpretrain')
    show_predictions(cfg, folder=tmp_path, show=True)
    hook = cfg.default_hooks.visualization
    assert hook.type.endswith('.VisualizationHook')
    assert hook.out_dir == str(tmp_path)
    assert hook.enable and hook.show


def test_other_packages_need_theirs():
    with pytest.raises(ValueError, match='visualization hook of mmseg'):
        show_predictions(config('mmseg'), folder='pictures')


def test_a_new_config_is_of_the_package_of_its_data(tmp_path):
    cfg = config(None, type=DetVisualizationHook)
    kind = type('CocoDataset', (), dict(__module__='mmdet.datasets'))
    cfg.test_dataloader = dict(dataset=dict(type=kind))
    show_predictions(cfg, folder=tmp_path)
    assert cfg.default_hooks.visualization.type is DetVisualizationHook
    assert cfg.default_hooks.visualization.test_out_dir == str(tmp_path)
