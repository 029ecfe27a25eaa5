"""The initializers that load weights: strictly, or telling what is wrong."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.logging import print_log
from mmengine.model import PretrainedInit, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS as MMENGINES
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_state_dict
from mmengine.utils import to_2tuple
from torch import Tensor, nn

from mmclip.checkpoint.describe import compare_with_model, kind_of
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
    not_a_file,
    refuse_unconverted,
)
from mmclip.errors import CheckpointError
from mmclip.pos_embed import resize_pos_embed, source_grid
from mmclip.registry import WEIGHT_INITIALIZERS

PREFIX = 'backbone.'


@WEIGHT_INITIALIZERS.register_module()
class PretrainedCLIP:
    """Load a CLIP image tower into a backbone, completely or not at all.

    Every tensor of the backbone must be in the checkpoint with its shape, and
    every tensor of the checkpoint's backbone must be used. Three things are
    done on purpose, and logged: position embeddings are resized for another
    image size, a projection that the backbone has no place for is left out,
    and so is what ``fresh`` names. The properties in ``meta['clip']``
    (activation, heads, epsilon, pooling ...) must be the backbone's own.

    Args:
        checkpoint (str): ``'open_clip://NAME/TAG'``, ``'timm://NAME.TAG'``,
            ``'hf-hub:ORG/REPOSITORY'``, ``'local-dir:FOLDER'``, a file of
            ``tools/model_converters``, or any checkpoint whose backbone has
            mmpretrain's names, a classifier's too; any path that mmengine
            can load.
        fresh (Sequence[str]): Parts of the backbone that keep their random
            initialisation, such as ``['ln1']`` for the final norm. Defaults
            to none.
        img_size (int | Sequence[int] | None): Image height and width in
            pixels that the weights are for, where the file does not say it:
            without it only square grids are resized. Defaults to None.

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
        """Load the weights into ``module``, a backbone of mmclip."""
        if kind_of(module) is None:
            raise CheckpointError(
                'mmclip.PretrainedCLIP belongs in the init_cfg of a '
                f'backbone of mmclip, not of a {type(module).__name__}.'
            )
        self.load(self.read(), module)

    def load(self, checkpoint: dict[str, Any], module: nn.Module) -> None:
        """Load a checkpoint that was read before."""
        state_dict = self.prepare(checkpoint, module)
        num_fresh = self._keep_fresh(state_dict, module)
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
        self._log(f'Loaded {len(state_dict) - num_fresh} tensors.')

    def prepare(
        self, checkpoint: dict[str, Any], module: nn.Module
    ) -> dict[str, Tensor]:
        """The tensors of a checkpoint, as they are for this backbone.

        Args:
            checkpoint (dict): As it was read.
            module (nn.Module): A backbone of mmclip, on any device.

        Returns:
            dict[str, Tensor]: In the backbone's names; not yet compared with
            its keys and shapes.

        Raises:
            CheckpointError: If the metadata does not fit.
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
        """Read the checkpoint, or say what to write instead.

        Raises:
            CheckpointError: If it is a folder or cannot be read.
            FileNotFoundError: If there is none.
        """
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
            self._log(f'Left out (no part of the backbone): {others}.')
        return without_prefix(state_dict, PREFIX)

    def _resize(
        self, state_dict: dict[str, Tensor], clip: Clip | None, module: Any
    ) -> None:
        num_prefix = module.num_prefix_tokens
        grid = patch_grid(clip) or told_grid(state_dict)
        if self.img_size is not None:
            given = module.patch_grid(*to_2tuple(self.img_size))
            if grid is not None and tuple(grid) != given:
                raise CheckpointError(
                    f'{self.checkpoint} has a patch grid of {tuple(grid)}, '
                    f'and img_size={self.img_size} would be {given}: leave '
                    'img_size out.'
                )
            grid = given
        try:
            source = source_grid(
                state_dict['pos_embed'].shape[1] - num_prefix,
                module.grid,
                grid,
            )
        except CheckpointError as error:
            raise CheckpointError(f'{self.checkpoint}: {error}') from None
        if source != module.grid:
            self._log(
                f'Resized the position embedding from a {source} to a '
                f'{module.grid} patch grid (bicubic, antialias).'
            )
        state_dict['pos_embed'] = resize_pos_embed(
            state_dict['pos_embed'], source, module.grid, num_prefix
        )
        set_grid(state_dict, module.grid)

    def _drop_unwanted(
        self, state_dict: dict[str, Tensor], module: Any
    ) -> None:
        """Leave out the ends of a tower that the backbone is built without."""
        for part in ('proj', 'proj_bias', 'attn_pool'):
            keys = [k for k in state_dict if k.split('.')[0] == part]
            if keys and getattr(module, part, None) is None:
                for key in keys:
                    del state_dict[key]
                self._log(f'Left out: {part} (the backbone has none).')

    def _keep_fresh(self, state_dict: dict[str, Tensor], module: Any) -> int:
        own, fresh = module.state_dict(), []
        for name in self.fresh:
            keys = [k for k in own if k == name or k.startswith(f'{name}.')]
            if not keys:
                raise CheckpointError(
                    f'fresh: the backbone has no part {name!r}.'
                )
            fresh += keys
        if fresh:
            state_dict.update({key: own[key] for key in fresh})
            self._log(f'Kept fresh: {fresh}.')
        return len(fresh)

    def _log(self, message: str) -> None:
        print_log(
            f'PretrainedCLIP: {self.checkpoint}: {message}', logger='current'
        )


# What torch writes of a tensor of another shape.
MISSHAPEN = re.compile(r'size mismatch for ([\w.]+):')


@dataclass
class Misfit:
    """What a file lacks for a module, and what has another shape."""

    module: str
    checkpoint: str
    problems: dict[str, str]  # by the key of the module


@MMENGINES.register_module(name='Pretrained', force=True)
class NotedPretrained(PretrainedInit):
    """mmengine's ``Pretrained``, which leaves a note of what did not fit.

    It loads and warns as ever; ``mmclip.StrictLoadHook`` takes up the notes.
    What the file says of a backbone of ours must be so, and the grid of its
    position embedding is used.
    """

    def __call__(self, module: nn.Module) -> None:
        """Load the weights into ``module``, as far as they fit.

        Raises:
            CheckpointError: If they are those of another backbone, or there
                are none below the prefix.
        """
        errors: list[str] = []
        held: set[str] = set()
        problems: dict[str, str] = {}

        def before(module: nn.Module, *arguments: Any) -> None:
            nonlocal errors, held
            errors = arguments[-1]  # filled by the modules, one by one
            held = set(arguments[0])
            used = held & set(module.state_dict())
            weights = {key: arguments[0][key] for key in sorted(used)}
            if weights:
                weights_of(dict(state_dict=weights), self.checkpoint)
            check_finite(weights, self.checkpoint, module)

        def after(module: nn.Module, incompatible: Any) -> None:
            for key in incompatible.missing_keys:
                if not _is_made_anew(key, module, held):
                    problems[key] = f'missing: {key}'
            for error in errors:
                key = MISSHAPEN.match(error)
                problems[key[1] if key else error] = error

        handles = (
            module.register_load_state_dict_pre_hook(before),
            module.register_load_state_dict_post_hook(after),
        )
        # Before the module's own, which may leave out what the file holds.
        hooks: Any = module._load_state_dict_pre_hooks
        hooks.move_to_end(handles[0].id, last=False)
        try:
            self._load(module)
        finally:
            for handle in handles:
                handle.remove()
        for part in module.modules():  # whose weights were replaced
            part.__dict__.pop('_misfit', None)
        if problems:
            module.__dict__['_misfit'] = Misfit(
                type(module).__name__, self.checkpoint, problems
            )

    def _load(self, module: nn.Module) -> None:
        """As mmengine's own does, which loses the grid below a prefix."""
        prefix = f'{self.prefix}.'.replace('..', '.') if self.prefix else ''
        print_log(
            f'load {f"{self.prefix} in " if prefix else ""}model from: '
            f'{self.checkpoint}',
            logger='current',
        )
        checkpoint = CheckpointLoader.load_checkpoint(
            self.checkpoint, self.map_location
        )
        weights = checkpoint.get('state_dict', checkpoint)
        check_names(weights, self.checkpoint)
        state_dict = without_prefix(without_wrapper(weights), prefix)
        if not state_dict:
            raise CheckpointError(
                f'{self.checkpoint} holds no weights below {prefix!r}.'
            )
        compare_with_model(checkpoint, module, self.checkpoint)
        load_state_dict(module, state_dict, strict=False, logger='current')
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())


def _is_made_anew(key: str, module: nn.Module, held: set[str]) -> bool:
    """Whether a missing key is not a weight, but what a model computes itself.

    Such as Swin's tables of positions, which loading leaves out on purpose, or
    BEiT's indices.
    """
    if key in dict(module.named_parameters(remove_duplicate=False)):
        return False
    buffer = module.state_dict()[key]
    is_index = isinstance(buffer, Tensor) and not buffer.is_floating_point()
    return is_index or key in held


def misfits(model: nn.Module) -> list[Misfit]:
    """The notes of ``Pretrained`` in a model."""
    notes = (module.__dict__.get('_misfit') for module in model.modules())
    return [note for note in notes if note is not None]


def _say_images(clip: Clip) -> str:
    if not clip['preprocess']:
        return 'It does not say how images must be prepared.'
    return (
        f'Images must be prepared so: {clip["preprocess"]} (mean and std of '
        'pixels in 0..1; mmpretrain takes them times 255).'
    )
