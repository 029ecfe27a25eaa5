"""Initializers that load weights completely or not at all."""

from collections.abc import Sequence
from typing import Any

from mmengine.logging import print_log
from mmengine.model import PretrainedInit, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS as MMENGINES
from mmengine.runner import CheckpointLoader
from mmengine.utils import to_2tuple
from torch import Tensor, nn

from mmclip.checkpoint.describe import (
    compare_with_model,
    find_backbone,
    kind_of,
)
from mmclip.checkpoint.finite import check_finite
from mmclip.checkpoint.grids import set_grid, told_grid
from mmclip.checkpoint.meta import Clip, patch_grid
from mmclip.checkpoint.state_dict import (
    check_names,
    weights_of,
    without_prefix,
    without_wrapper,
)
from mmclip.checkpoint.towers.convert import check_complete
from mmclip.checkpoint.unconverted import (
    CONVERTER,
    advise,
    not_a_file,
    refuse_unconverted,
)
from mmclip.errors import CheckpointError, some, some_misfits
from mmclip.models.loading import resize_pos_embed_on_load
from mmclip.pos_embed import PATCH_GRID
from mmclip.registry import WEIGHT_INITIALIZERS

PREFIX = 'backbone.'


@WEIGHT_INITIALIZERS.register_module()
class PretrainedCLIP:
    """Load a CLIP image encoder (tower) into a backbone.

    All of it is loaded, or none: every tensor of the backbone must be in the
    checkpoint with the same shape, and every tensor of the checkpoint's
    backbone must be used. There are three exceptions, which are logged:
    position embeddings are resized for another image size, a projection is
    left out if the backbone has none, and so is what ``fresh`` names. The
    properties in ``meta['clip']`` (activation, heads, epsilon, pooling ...)
    must match the backbone.

    Args:
        checkpoint (str): ``'open_clip://NAME/TAG'``, ``'timm://NAME.TAG'``,
            ``'hf-hub:ORG/REPOSITORY'``, ``'local-dir:FOLDER'``, a file made
            by ``mmclip convert``, or any other path that mmengine can load,
            if the backbone in it, or in a classifier, has mmpretrain's names.
        fresh (Sequence[str]): Parts of the backbone that keep their random
            initialisation, such as ``['ln1']`` for the final norm. Defaults
            to none.
        img_size (int | Sequence[int] | None): Image height and width in
            pixels that the weights are for. Only needed if the file does not
            say and the patch grid is not square. Defaults to None.

    Raises:
        CheckpointError: When called, if anything does not fit.
    """

    def __init__(
        self,
        checkpoint: str,
        fresh: Sequence[str] = (),
        img_size: int | Sequence[int] | None = None,
    ):
        self.checkpoint = checkpoint
        self.fresh = tuple(fresh)
        self.img_size = img_size

    def __call__(self, module: nn.Module) -> None:
        """Load the weights into ``module``, an mmclip backbone."""
        if kind_of(module) is None:
            raise CheckpointError(
                'mmclip.PretrainedCLIP belongs in the init_cfg of an mmclip '
                f'backbone, not of a {type(module).__name__}.'
            )
        self.load(self.read(), module)

    def load(self, checkpoint: dict[str, Any], module: nn.Module) -> None:
        """Load a checkpoint that has been read already."""
        state_dict = self.prepare(checkpoint, module)
        fresh = keep_fresh(state_dict, module, self.fresh)
        if fresh:
            self._log(f'Kept fresh: {fresh}.')
        try:
            check_complete(state_dict, module.state_dict())
        except CheckpointError as error:
            raise CheckpointError(f'{self.checkpoint}: {error}') from None
        check_finite(state_dict, self.checkpoint, module)
        module.load_state_dict(state_dict)
        if hasattr(module, '_params_init_info'):
            update_init_info(
                module, f'PretrainedCLIP: load from {self.checkpoint}'
            )
        self._log(f'Loaded {len(state_dict) - len(fresh)} tensors.')

    def prepare(
        self, checkpoint: dict[str, Any], module: nn.Module
    ) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint, prepared for this backbone.

        Returns:
            dict[str, Tensor]: By the backbone's names; not yet compared with
            its keys and shapes.
        """
        refuse_unconverted(self.checkpoint, checkpoint, module)
        state_dict = self._backbone(checkpoint)
        clip = compare_with_model(checkpoint, module, self.checkpoint)
        if clip:
            self._log(_say_images(clip))
        pos_embed = state_dict.get('pos_embed')
        if getattr(pos_embed, 'ndim', 0) == 3 and hasattr(module, 'grid'):
            self._resize(state_dict, clip, module)
        self._drop_unwanted(state_dict, module)
        return state_dict

    def read(self) -> dict[str, Any]:
        """Read the checkpoint."""
        if problem := not_a_file(self.checkpoint):
            raise CheckpointError(problem)
        try:
            return CheckpointLoader.load_checkpoint(self.checkpoint, 'cpu')
        except FileNotFoundError:
            raise FileNotFoundError(
                f'Checkpoint {self.checkpoint} does not exist. Make it with '
                f'{CONVERTER} NAME TAG {self.checkpoint}.'
            ) from None

    def _backbone(self, checkpoint: dict[str, Any]) -> dict[str, Tensor]:
        state_dict = without_wrapper(checkpoint.get('state_dict', checkpoint))
        others = [key for key in state_dict if not key.startswith(PREFIX)]
        if len(others) == len(state_dict):
            return state_dict
        if others:
            self._log(f'Left out (not part of the backbone): {others}.')
        return without_prefix(state_dict, PREFIX)

    def _resize(
        self, state_dict: dict[str, Tensor], clip: Clip | None, module: Any
    ) -> None:
        grid = patch_grid(clip) or told_grid(state_dict)
        if self.img_size is not None:
            given = module.patch_grid(*to_2tuple(self.img_size))
            if grid is not None and tuple(grid) != given:
                raise CheckpointError(
                    f'{self.checkpoint} has a patch grid of {tuple(grid)}, '
                    f'but img_size={self.img_size} gives {given}. Leave '
                    'img_size out.'
                )
            grid = given
        try:
            resize_pos_embed_on_load(
                module, state_dict, '', {PATCH_GRID: grid}
            )
        except CheckpointError as error:
            raise CheckpointError(f'{self.checkpoint}: {error}') from None
        set_grid(state_dict, module.grid)

    def _drop_unwanted(
        self, state_dict: dict[str, Tensor], module: Any
    ) -> None:
        """Leave out the final parts that the backbone does not have."""
        for part in ('proj', 'proj_bias', 'attn_pool'):
            keys = [k for k in state_dict if k.split('.')[0] == part]
            if keys and getattr(module, part, None) is None:
                for key in keys:
                    del state_dict[key]
                self._log(f'Left out: {part} (the backbone has none).')
        head = [key for key in state_dict if key.startswith('tower.head.')]
        if head and getattr(module, 'proj_dim', 0) is None:
            for key in head:
                del state_dict[key]
            self._log('Left out: the projection (the backbone has none).')

    def _log(self, message: str) -> None:
        print_log(
            f'PretrainedCLIP: {self.checkpoint}: {message}', logger='current'
        )


@MMENGINES.register_module(name='Pretrained', force=True)
class StrictPretrained(PretrainedInit):
    """Load a module's weights as mmengine's ``Pretrained`` does, all or none.

    mmengine's own only warns of missing or misshapen weights, and leaves them
    random. Extra weights in the file, such as a head, are left out. If the
    file describes a backbone of ours, the description must match, and its
    patch grid is used.

    Args:
        checkpoint (str): The file, or any path that mmengine can load.
        prefix (str | None): The prefix of the module's weights in the file.
            Defaults to None.
        map_location (str): The device to load to. Defaults to ``'cpu'``.
        fresh (Sequence[str]): Parts of the module that keep their random
            initialisation, such as ``['ln2']``. Defaults to none.

    Raises:
        CheckpointError: When called, if anything does not fit.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: str | None = None,
        map_location: str = 'cpu',
        fresh: Sequence[str] = (),
    ):
        super().__init__(checkpoint, prefix, map_location)
        self.fresh = tuple(fresh)

    def __call__(self, module: nn.Module) -> None:
        """Load the weights into ``module``."""
        checkpoint = CheckpointLoader.load_checkpoint(
            self.checkpoint, self.map_location
        )
        weights = self._weights(checkpoint)
        compare_with_model(checkpoint, module, self.checkpoint)
        own = module.state_dict().keys()
        used = {key: weights[key] for key in sorted(own & weights.keys())}
        if used:
            weights_of(dict(state_dict=used), self.checkpoint)
        check_finite(used, self.checkpoint, module)
        fresh = keep_fresh(weights, module, self.fresh)
        held = set(weights)  # loading removes what modules compute themselves
        try:
            found = module.load_state_dict(weights, strict=False)
        except CheckpointError:
            raise
        except RuntimeError as error:
            problems = some_misfits(error)
            raise self._misfit(module, weights, problems) from None
        missing = [
            f'missing: {key}'
            for key in found.missing_keys
            if not _is_made_anew(key, module, held)
        ]
        if missing:
            raise self._misfit(module, weights, some(missing))
        print_log(
            f'Pretrained: {self.checkpoint}: Loaded; kept fresh: {fresh}; '
            f'left out: {found.unexpected_keys}.',
            logger='current',
        )
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())

    def _weights(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        prefix = f'{self.prefix}.'.replace('..', '.') if self.prefix else ''
        weights = checkpoint.get('state_dict', checkpoint)
        check_names(weights, self.checkpoint)
        state_dict = without_prefix(without_wrapper(weights), prefix)
        if not state_dict:
            raise CheckpointError(
                f'{self.checkpoint} has no weights with prefix {prefix!r}.'
            )
        return state_dict

    def _misfit(
        self, module: nn.Module, weights: dict[str, Any], problems: str
    ) -> CheckpointError:
        advice = find_backbone(module) and advise(self.checkpoint, weights)
        return CheckpointError(
            f'{self.checkpoint} does not fit the {type(module).__name__} '
            f"whose init_cfg has type='Pretrained': {problems}. "
            + (
                advice
                or 'Move the init_cfg to the part that the file is for, give '
                "the prefix of that part in the file (prefix='backbone.'), or "
                "name the parts that stay random (fresh=['head'])."
            )
        )


def keep_fresh(
    state_dict: dict[str, Any], module: nn.Module, parts: Sequence[str]
) -> list[str]:
    """Replace parts of a state dict with a module's own weights.

    Returns:
        list[str]: The keys of those parts.
    """
    own = module.state_dict()
    fresh = {
        part: [key for key in own if f'{key}.'.startswith(f'{part}.')]
        for part in parts
    }
    for part, keys in fresh.items():
        if not keys:
            raise CheckpointError(
                f'fresh: the {type(module).__name__} has no part {part!r}.'
            )
        state_dict.update({key: own[key] for key in keys})
    return [key for keys in fresh.values() for key in keys]


def _is_made_anew(key: str, module: nn.Module, held: set[str]) -> bool:
    """Return whether a missing key is a buffer that the model computes itself.

    Examples are Swin's position tables, which loading leaves out on purpose,
    and BEiT's indices.
    """
    if key in dict(module.named_parameters(remove_duplicate=False)):
        return False
    buffer = module.state_dict()[key]
    is_index = isinstance(buffer, Tensor) and not buffer.is_floating_point()
    return is_index or key in held


def _say_images(clip: Clip) -> str:
    if not clip['preprocess']:
        return 'It does not say how images must be prepared.'
    return (
        f'Images must be prepared with {clip["preprocess"]} (mean and std '
        'for pixels in 0..1; mmpretrain takes them times 255).'
    )
