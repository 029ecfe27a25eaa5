"""A hook that draws a picture of every prediction, under unique names."""

import os
from collections.abc import Sequence
from typing import Any

from mmengine.fileio import join_path
from mmengine.runner import Runner
from mmpretrain.engine import VisualizationHook as _VisualizationHook

from mmclip.engine.checks.parts import parts_of
from mmclip.registry import HOOKS


@HOOKS.register_module()
class VisualizationHook(_VisualizationHook):
    """mmpretrain's ``VisualizationHook``, without overwriting pictures.

    Pictures are named after the image's path below the data set's folder:
    ``out_dir/cat__1.jpg_0.png`` for ``cat/1.jpg``. mmpretrain uses only the
    last part, so that one of all images called ``1.jpg`` remains. If an image
    is in the data set twice, the second picture has its number in its name.

    Args:
        enable (bool): Whether to draw anything. Defaults to False.
        interval (int): Draw every Nth image. Defaults to 5000.
        show (bool): Whether to show a window. Defaults to False.
        out_dir (str | None): Where pictures go. Defaults to None: to the
            visualizer.
        **kwargs: As in mmpretrain's ``visualize_cls``.
    """

    def __init__(
        self,
        enable: bool = False,
        interval: int = 5000,
        show: bool = False,
        out_dir: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(enable, interval, show, out_dir, **kwargs)
        self._root = ''
        self._num_seen = 0
        self._names: set[str] = set()

    def before_val_epoch(self, runner: Runner) -> None:
        """Count from the first image again."""
        self._start(runner.val_dataloader.dataset)

    def before_test_epoch(self, runner: Runner) -> None:
        """Count from the first image again."""
        self._start(runner.test_dataloader.dataset)

    def _start(self, dataset: Any) -> None:
        self._num_seen, self._names = 0, set()
        folders = {
            os.path.abspath(part.root())
            for part in parts_of(dataset)
            if part.root()
        }
        self._root = os.path.commonpath(folders) if folders else ''

    def _draw_samples(
        self,
        batch_idx: int,
        data_batch: dict,
        data_samples: Sequence[Any],
        step: int = 0,
    ) -> None:
        if not self.enable:
            return
        images = zip(data_batch['inputs'], data_samples, strict=True)
        for image, sample in images:
            if self._num_seen % self.interval == 0:
                self._draw(image, sample, step)
            self._num_seen += 1

    def _draw(self, image: Any, sample: Any, step: int) -> None:
        name = self._name(sample)
        out = {}
        if self.out_dir is not None:
            out['out_file'] = join_path(self.out_dir, f'{name}_{step}.png')
        self._visualizer.visualize_cls(
            image=image.permute(1, 2, 0).cpu().numpy().astype('uint8'),
            data_sample=sample,
            step=step,
            name=name,
            **self.draw_args,
            **out,
        )

    def _name(self, sample: Any) -> str:
        """Return a name that no other picture of this epoch has."""
        # The data set's index, since several processes share a folder.
        name = str(sample.get('sample_idx', self._num_seen))
        if sample.get('img_path'):
            path = os.path.abspath(sample.get('img_path'))
            name = os.path.relpath(path, self._root or '/')
            if name.startswith(os.pardir):
                name = os.path.relpath(path, '/')
        name = name.replace(os.sep, '__')  # visualizers make no folders
        if name in self._names:
            name = f'{name}_{self._num_seen}'
        self._names.add(name)
        return name
