"""Learning rates that decrease from the head to the stem."""

import re
from collections.abc import Collection, Iterator
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm, _InstanceNorm
from torch import nn

from mmclip.errors import ConfigError, did_you_mean
from mmclip.models.library_towers.library_tower import LibraryTower
from mmclip.models.vit import VisionTransformer
from mmclip.registry import OPTIM_WRAPPER_CONSTRUCTORS

KEYS = (
    'layer_decay_rate',
    'norm_decay_mult',
    'bias_decay_mult',
    'flat_decay_mult',
    'custom_keys',
)
CUSTOM_KEYS = ('lr_mult', 'decay_mult')
BACKBONES = (VisionTransformer, LibraryTower)
NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)
# What FSDP, torch.compile, activation checkpointing and DDP add to names.
WRAPPERS = re.compile(
    r'(_fsdp_wrapped_module|_orig_mod|_checkpoint_wrapped_module)\.|^module\.'
)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Layer-wise learning rate decay for CLIP backbones in any model.

    A parameter of layer ``id`` (0 for the stem, i + 1 for block i) trains with
    ``lr * layer_decay_rate ** (L + 1 - id)``, where L is the number of blocks;
    the final norm and everything outside the backbone train with ``lr``. The
    pre-norm belongs to the stem and the final norm to the head, as in FT-CLIP
    (arXiv 2212.06138). There may be several backbones, anywhere in the model
    (classifier, segmentor, detector). Parameters with the same learning rate
    and weight decay share a group.

    The keys of ``paramwise_cfg`` are those of mmpretrain's
    ``LearningRateDecayOptimWrapperConstructor``:

    - ``layer_decay_rate`` (float): Required.
    - ``norm_decay_mult``, ``bias_decay_mult``, ``flat_decay_mult`` (float):
      Factors of the weight decay of norms, biases and one-dimensional
      parameters; the first that applies is used.
    - ``custom_keys`` (dict): Parts of parameter names, each with
      ``decay_mult``, which replaces the factors above, and ``lr_mult``, which
      multiplies the layer's rate. The longest part that matches is used.

    Raises:
        ConfigError: If a key is unknown, ``layer_decay_rate`` or the
            optimizer's ``lr`` is missing, the model has no backbone that
            knows its layers, a custom key matches no parameter, or FSDP has
            hidden the names or (with ``flat_decay_mult``) the shapes of
            parameters.
    """

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        _refuse_unknown(self.paramwise_cfg, KEYS, 'paramwise_cfg')
        for key, custom in self.paramwise_cfg.get('custom_keys', {}).items():
            where = f'paramwise_cfg.custom_keys[{key!r}]'
            _refuse_unknown(custom, CUSTOM_KEYS, where)
        if 'layer_decay_rate' not in self.paramwise_cfg:
            raise ConfigError(
                'paramwise_cfg has no layer_decay_rate, which '
                f'{type(self).__name__} needs: set it, for example to 0.65.'
            )
        if self.base_lr is None:
            raise ConfigError(
                'optim_wrapper.optimizer.lr is required: layer decay scales '
                'it.'
            )

    def add_params(self, params: list[dict], module: nn.Module) -> None:
        """Append the parameter groups of a model to params."""
        # Such as the toy model of mmpretrain's vis_scheduler.py, to which
        # custom keys do not apply either.
        is_one_layer = _is_one_layer(module)
        exponents = {} if is_one_layer else _decay_exponents(module)
        custom_keys = self.paramwise_cfg.get('custom_keys', {})
        unmatched = set(custom_keys)
        groups: dict[tuple, dict] = {}
        for name, owner, param in _named_parameters(module):
            self._refuse_flattened(name, param)
            matching = [key for key in custom_keys if key in name]
            unmatched.difference_update(matching)
            if not param.requires_grad:
                continue
            longest = min(matching, key=lambda k: (-len(k), k), default='')
            custom = custom_keys.get(longest)
            exponent = exponents.get(id(param), 0)
            lr_scale = self.paramwise_cfg['layer_decay_rate'] ** exponent
            lr_scale *= (custom or {}).get('lr_mult', 1.0)
            decay_mult = self._decay_mult(name, owner, param, custom)
            group = groups.setdefault(
                (exponent, lr_scale, decay_mult),
                dict(
                    params=[],
                    param_names=[],
                    lr=self.base_lr * lr_scale,
                    lr_scale=lr_scale,
                ),
            )
            if self.base_wd is not None:
                group['weight_decay'] = self.base_wd * decay_mult
            group['params'].append(param)
            group['param_names'].append(name)
        if unmatched and not is_one_layer:
            raise ConfigError(
                f'paramwise_cfg.custom_keys: {", ".join(sorted(unmatched))} '
                'matches no parameter name; correct or remove it.'
            )
        params.extend(groups.values())

    def _decay_mult(
        self,
        name: str,
        owner: nn.Module,
        param: nn.Parameter,
        custom: dict | None,
    ) -> float:
        if custom is not None:
            return custom.get('decay_mult', 1.0)
        rules = (
            ('norm_decay_mult', isinstance(owner, NORMS)),
            ('bias_decay_mult', name.endswith('bias')),
            ('flat_decay_mult', param.ndim == 1),
        )
        for key, applies in rules:
            if applies and self.paramwise_cfg.get(key) is not None:
                return self.paramwise_cfg[key]
        return 1.0

    def _refuse_flattened(self, name: str, param: nn.Parameter) -> None:
        """Refuse FSDP1, which flattens every parameter."""
        if not getattr(param, '_fsdp_flattened', False):  # set by torch
            return
        needs_shapes = self.paramwise_cfg.get('flat_decay_mult') is not None
        if needs_shapes or name.endswith('_flat_param'):
            raise ConfigError(
                f'FullyShardedDataParallel has flattened {name}, so its '
                'weight decay is unknown: use strategy=dict(type='
                "'mmclip.FullyShardStrategy'), as in configs/_base_/fsdp.py."
            )


def _is_one_layer(model: nn.Module) -> bool:
    """Tell whether a model has only one layer, so that rates cannot differ."""
    names = [name for name, _ in model.named_parameters()]
    flat = any(name.endswith('_flat_param') for name in names)  # FSDP1's
    return not flat and len({n.rpartition('.')[0] for n in names}) == 1


def _decay_exponents(model: nn.Module) -> dict[int, int]:
    """Count the layers above each parameter (by id) of the backbones."""
    backbones: list[Any] = [
        module for module in model.modules() if isinstance(module, BACKBONES)
    ]
    if not backbones:
        raise ConfigError(
            f'{type(model).__name__} has no backbone that knows its layers, '
            'which layer-wise learning rate decay needs: use one of '
            "mmclip's, or remove optim_wrapper.constructor."
        )
    exponents = {}
    for backbone in backbones:
        for name, param in backbone.named_parameters():
            layer, num_layers = backbone.get_layer_depth(
                WRAPPERS.sub('', name)
            )
            exponents[id(param)] = num_layers - 1 - layer
    return exponents


def _named_parameters(
    model: nn.Module,
) -> Iterator[tuple[str, nn.Module, nn.Parameter]]:
    """Yield each parameter once, with its name in the model and its module."""
    seen: set[int] = set()
    for prefix, owner in model.named_modules():
        for name, param in owner.named_parameters(recurse=False):
            if id(param) in seen:
                continue
            seen.add(id(param))
            full_name = WRAPPERS.sub('', f'{prefix}.{name}'.lstrip('.'))
            yield full_name, owner, param


def _refuse_unknown(
    given: Collection[str], known: Collection[str], where: str
) -> None:
    for key in given:
        if key not in known:
            raise ConfigError(
                f'{where} has no key {key!r}{did_you_mean(key, known)}; it '
                f'has {", ".join(known)}.'
            )
