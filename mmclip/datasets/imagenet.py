"""ImageNet-1k, with a helpful error if it is missing."""

from mmengine.fileio import isdir
from mmpretrain.datasets import ImageNet as _ImageNet

from mmclip.datasets.image_folder import ImageFolder
from mmclip.datasets.image_tree import class_folders
from mmclip.datasets.shifts import imagenet_synsets
from mmclip.errors import some
from mmclip.registry import DATASETS

LAYOUT = """{root}/
  train/n01440764/*.JPEG ... train/n15075141/*.JPEG
  val/n01440764/*.JPEG   ... val/n15075141/*.JPEG"""


@DATASETS.register_module()
class ImageNet(ImageFolder, _ImageNet):
    """mmpretrain's ``ImageNet``, finding images as :class:`ImageFolder` does.

    Raises:
        FileNotFoundError: On loading, if the split's folder does not exist or
            classes are missing; the message says what is expected where.
    """

    def load_data_list(self) -> list[dict]:
        """List the images as dicts."""
        if not isdir(self.img_prefix):
            raise FileNotFoundError(
                f'ImageNet-1k is not in {self.img_prefix!r}. Expected one '
                'folder per class (links are fine):\n'
                f'{LAYOUT.format(root=self.data_root)}\n'
                'If it is elsewhere, pass --cfg-options '
                'train_dataloader.dataset.data_root=DIR (and the same for '
                'val_dataloader and test_dataloader). To try everything '
                'without ImageNet, run: make demo'
            )
        self._refuse_missing_classes()
        return super().load_data_list()

    def _refuse_missing_classes(self) -> None:
        folders = set(class_folders(self.img_prefix))
        if len(folders) == 1000 or self.ann_file or not self.with_label:
            return
        synsets = set(imagenet_synsets())
        raise FileNotFoundError(
            f'{self.img_prefix} has {len(folders)} class folders instead of '
            f'1000. Missing: {some(sorted(synsets - folders)) or "none"}; '
            f'not classes: {some(sorted(folders - synsets)) or "none"}.'
        )
