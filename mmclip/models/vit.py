"""What CLIP's and SigLIP's vision transformers share.

The parameter names are those of mmpretrain's ``VisionTransformer``, so that
checkpoints are exchanged with mmpretrain's own fine-tunes.

Shapes: B batch, N patches, T tokens (the patches and, in CLIP, the class
token before them), C channels (the width), H W the patch grid.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.utils import to_2tuple
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmclip.errors import CheckpointError
from mmclip.models.layers import ACTS, PatchEmbed, TransformerLayer
from mmclip.pos_embed import (
    PATCH_GRID,
    Grid,
    resize_pos_embed,
    source_grid,
)

# Numbers of open_clip 3.3.0's model_configs, where heads = width / head_width
# and mlp_width = int(width * mlp_ratio), and of timm's SigLIP models.
ARCH_KEYS = ('width', 'depth', 'num_heads', 'mlp_width')
ARCHS: dict[str, tuple[int, int, int, int]] = {
    'small': (384, 12, 6, 1536),
    'medium': (512, 12, 8, 2048),
    'base': (768, 12, 12, 3072),
    'base-plus': (896, 12, 14, 3584),
    'large': (1024, 24, 16, 4096),
    'so400m': (1152, 27, 16, 4304),
    'huge': (1280, 32, 16, 5120),
    'giant': (1408, 40, 16, 6144),
    'giant-opt': (1536, 40, 16, 6144),
    'gigantic': (1664, 48, 16, 8192),
    'enormous': (1792, 56, 16, 15360),
}
ALIASES = {
    's': 'small',
    'm': 'medium',
    'b': 'base',
    'l': 'large',
    'h': 'huge',
    'g': 'giant',
}
OUT_TYPES = ('pooled', 'avg_featmap', 'raw', 'featmap')


class BaseViT(BaseModule):
    """The frame of a backbone: patches, blocks, which outputs, what is frozen.

    A subclass adds its own parts, says how tokens are embedded (``_embed``)
    and how outputs are made (``_output``), which parts are its stem and its
    tail, and calls ``_finish`` at the end of its constructor. The arguments
    are explained there.
    """

    num_prefix_tokens: int  # tokens before the patches

    def __init__(
        self,
        arch: str | dict[str, Any],
        *,
        act: str,
        img_size: int | tuple[int, int],
        patch_size: int,
        patch_bias: bool,
        norm_eps: float,
        layer_scale_init: float | None,
        out_type: str,
        out_indices: int | Sequence[int],
        drop_path_rate: float,
        patch_dropout: float,
        frozen_stages: int,
        freeze_patch_embed: bool,
        with_cp: bool,
        init_cfg: dict | list[dict] | None,
    ):
        super().__init__(init_cfg)
        width, depth, num_heads, mlp_width = parse_arch(arch)
        check_choice('act', act, ACTS)
        check_choice('out_type', out_type, OUT_TYPES)
        _check_range('patch_dropout', patch_dropout, 0, 1)
        _check_range('drop_path_rate', drop_path_rate, 0, 1)
        _check_range('frozen_stages', frozen_stages, -1, depth + 1)
        if patch_dropout > 0 and out_type == 'featmap':
            raise ValueError(
                "patch_dropout must be 0 with out_type='featmap': dropped "
                f'patches leave holes in the map; got {patch_dropout}.'
            )
        self.width, self.depth, self.num_heads = width, depth, num_heads
        self.mlp_width = mlp_width
        self.patch_size, self.act, self.norm_eps = patch_size, act, norm_eps
        self.out_type = out_type
        self.out_indices = _parse_out_indices(out_indices, depth)
        self.patch_dropout = patch_dropout
        self.frozen_stages = frozen_stages
        self.freeze_patch_embed = freeze_patch_embed
        self.with_cp = with_cp

        self.img_size: tuple[int, int] = tuple(to_2tuple(img_size))
        self.layer_scale_init = layer_scale_init
        self.grid = self.patch_grid(*self.img_size)
        num_tokens = self.num_prefix_tokens + self.grid[0] * self.grid[1]
        self.patch_embed = PatchEmbed(width, patch_size, patch_bias)
        self.pos_embed = nn.Parameter(torch.empty(1, num_tokens, width))
        self.layers = nn.ModuleList(
            TransformerLayer(
                width,
                num_heads,
                mlp_width,
                act=act,
                norm_eps=norm_eps,
                layer_scale_init=layer_scale_init,
                drop_path=drop_path_rate * i / max(depth - 1, 1),
            )
            for i in range(depth)
        )
        self.ln1: nn.Module

    def _finish(self) -> None:
        self.reset_parameters()
        for part in (*self._frozen_parts(), *self._unused_parts()):
            part.requires_grad_(False)
        self.register_load_state_dict_pre_hook(refuse_whole_models)
        self.register_load_state_dict_pre_hook(_resize_pos_embed_on_load)
        self.register_state_dict_post_hook(_tell_patch_grid)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Encode a batch of normalised RGB images.

        Args:
            x (Tensor): ``(B, 3, height, width)`` in pixels. For a size other
                than ``img_size`` the position embedding is interpolated; a
                border narrower than a patch is left out, as in open_clip.

        Returns:
            tuple[Tensor, ...]: One per index of ``out_indices``, its shape
            as ``out_type`` says.
        """
        grid = self.patch_grid(*x.shape[-2:])
        x = self._embed(x, grid)  # (B, T, C)
        outs = []
        for i, layer in enumerate(self.layers[: self.out_indices[-1] + 1]):
            x = self._run(layer, x)
            if i in self.out_indices:
                outs.append(self._output(x, grid, last=i == self.depth - 1))
        return tuple(outs)

    def patch_grid(self, height: int, width: int) -> Grid:
        """Rows and columns of whole patches in an image of that size."""
        if min(height, width) < self.patch_size:
            raise ValueError(
                f'An image of {height}x{width} pixels is smaller than one '
                f'patch of {self.patch_size}x{self.patch_size}.'
            )
        return height // self.patch_size, width // self.patch_size

    def _embed(self, x: Tensor, grid: Grid) -> Tensor:
        """Images ``(B, 3, height, width)`` to tokens; each subclass has it."""
        raise NotImplementedError

    def _output(self, x: Tensor, grid: Grid, *, last: bool) -> Tensor:
        """Tokens of a block to what is returned; each subclass has it."""
        raise NotImplementedError

    def _add_pos_embed(self, x: Tensor, grid: Grid) -> Tensor:
        pos_embed = resize_pos_embed(
            self.pos_embed, self.grid, grid, self.num_prefix_tokens
        )
        x = x + pos_embed  # under autocast in float32, as timm's
        if self.training and self.patch_dropout > 0:
            x = _drop_patches(x, self.patch_dropout, self.num_prefix_tokens)
        return x

    def _run(self, layer: nn.Module, x: Tensor) -> Tensor:
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(layer, x, use_reentrant=False)
        return layer(x)

    def reset_parameters(self) -> None:
        """Draw random weights by CLIP's rule.

        The standard deviations of ``initialize_parameters`` in
        ``clip/model.py`` of openai/CLIP, as FT-CLIP applies them to the image
        tower; norms and biases start neutral.
        """
        attn_std = self.width**-0.5
        proj_std = attn_std * (2 * self.depth) ** -0.5
        fc_std = (2 * self.width) ** -0.5
        nn.init.normal_(self.pos_embed, std=attn_std)
        stds = {
            'attn.qkv': attn_std,
            'attn.proj': proj_std,
            'ffn.layers.0.0': fc_std,
            'ffn.layers.1': proj_std,
        }
        for layer in self.layers:
            for name, module in layer.named_modules():
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=stds[name])
                    nn.init.zeros_(module.bias)

    def describe(self) -> dict[str, Any]:
        """The properties that weights must share with this module.

        The same keys stand in the ``meta['clip']['backbone']`` of a converted
        checkpoint.
        """
        numbers = (self.width, self.depth, self.num_heads, self.mlp_width)
        return dict(
            arch=dict(zip(ARCH_KEYS, numbers, strict=True)),
            act=self.act,
            patch_size=self.patch_size,
            norm_eps=self.norm_eps,
        )

    def architecture(self) -> dict[str, Any]:
        """The arguments that make a backbone of these shapes and outputs.

        Those that only say how it is trained are left out.
        """
        height, width = self.img_size
        arguments = self.describe() | dict(
            img_size=height if height == width else (height, width),
            out_type=self.out_type,
        )
        if self.out_indices != (self.depth - 1,):
            arguments |= dict(out_indices=self.out_indices)
        if self.layer_scale_init is not None:
            arguments |= dict(layer_scale_init=self.layer_scale_init)
        return arguments

    def get_layer_depth(
        self, param_name: str, prefix: str = ''
    ) -> tuple[int, int]:
        """The layer of a parameter, for layer-wise learning rate decay.

        Unlike mmpretrain's ``VisionTransformer``, the pre-norm belongs to the
        stem, as in FT-CLIP and timm.

        Args:
            param_name (str): Its name in the whole model.
            prefix (str): The name of this backbone in it, with the dot.

        Returns:
            tuple[int, int]: The layer (0 the stem, i + 1 block i, depth + 1
            everything after the blocks) and the number of layers.
        """
        num_layers = self.depth + 2
        name = param_name.removeprefix(prefix)
        if not param_name.startswith(prefix):
            return num_layers - 1, num_layers
        if name.startswith(
            ('cls_token', 'pos_embed', 'patch_embed', 'pre_norm')
        ):
            return 0, num_layers
        if name.startswith('layers.'):
            return int(name.split('.')[1]) + 1, num_layers
        return num_layers - 1, num_layers

    def train(self, mode: bool = True) -> 'BaseViT':
        """Set the mode of all but the frozen parts, which stay in eval."""
        super().train(mode)
        for frozen in self._frozen_parts():
            if isinstance(frozen, nn.Module):
                frozen.eval()
        return self

    def _frozen_parts(self) -> list[nn.Module | nn.Parameter]:
        parts: list[nn.Module | nn.Parameter] = []
        if self.freeze_patch_embed or self.frozen_stages >= 0:
            parts.append(self.patch_embed)
        if self.frozen_stages >= 0:
            parts += self._stem()
            parts += self.layers[: self.frozen_stages]
        if self.frozen_stages == self.depth:
            parts += self._tail()
        return parts

    def _unused_parts(self) -> list[nn.Module | nn.Parameter]:
        """What no output depends on: data-parallel training must know."""
        if self.out_indices[-1] == self.depth - 1:
            return []
        return [*self.layers[self.out_indices[-1] + 1 :], *self._tail()]

    def _stem(self) -> list[nn.Module | nn.Parameter]:
        """What precedes the blocks, besides the patch embedding."""
        return [self.pos_embed]

    def _tail(self) -> list[nn.Module | nn.Parameter]:
        """What follows the blocks."""
        return [self.ln1]


def to_map(x: Tensor, grid: Grid) -> Tensor:
    """Patch tokens ``(B, N, C)`` as a map ``(B, C, H, W)``."""
    return x.transpose(1, 2).unflatten(2, grid)


def _drop_patches(x: Tensor, rate: float, num_prefix_tokens: int) -> Tensor:
    """Keep the prefix tokens and a random share of each image's patches."""
    prefix, patches = x[:, :num_prefix_tokens], x[:, num_prefix_tokens:]
    batch, num_patches, width = patches.shape
    num_kept = max(1, int(num_patches * (1 - rate)))
    order = torch.randn(batch, num_patches, device=x.device)
    kept = order.topk(num_kept, dim=-1).indices  # (B, kept)
    patches = patches.gather(1, kept[..., None].expand(-1, -1, width))
    return torch.cat([prefix, patches], dim=1)


def refuse_whole_models(
    module: nn.Module, state_dict: dict, prefix: str, *_: Any
) -> None:
    """Stop where mmengine would warn, and leave a backbone random.

    A hook for ``register_load_state_dict_pre_hook`` of backbones.

    Raises:
        CheckpointError: If there is nothing for the backbone but what is
            named as in a whole model.
    """
    whole = f'{prefix}backbone.'
    if not any(key.startswith(whole) for key in state_dict):
        return
    names = chain(module.named_parameters(), module.named_buffers())
    if not any(prefix + name in state_dict for name, _ in names):
        raise CheckpointError(
            f'The keys begin with {whole!r}, and those of a '
            f"{type(module).__name__} do not: add prefix='backbone.' to its "
            "init_cfg, or take mmclip.PretrainedCLIP instead of 'Pretrained'."
        )


def _tell_patch_grid(
    module: BaseViT, state_dict: Any, prefix: str, local_metadata: dict
) -> None:
    """Let the grid travel with the weights, where torch has its versions."""
    local_metadata[PATCH_GRID] = list(module.grid)


def _resize_pos_embed_on_load(
    module: BaseViT,
    state_dict: dict,
    prefix: str,
    local_metadata: dict,
    *_: Any,
) -> None:
    """Fit the position embedding of a checkpoint for another image size."""
    name = f'{prefix}pos_embed'
    if name not in state_dict or state_dict[name].ndim != 3:
        return  # the caller's strict check reports it
    source = source_grid(
        state_dict[name].shape[1] - module.num_prefix_tokens,
        module.grid,
        local_metadata.get(PATCH_GRID),
        name,
    )
    if source == module.grid:
        return
    print_log(
        f'Resize {name} from a {source[0]}x{source[1]} to a '
        f'{module.grid[0]}x{module.grid[1]} patch grid (bicubic, antialias).',
        logger='current',
    )
    state_dict[name] = resize_pos_embed(
        state_dict[name], source, module.grid, module.num_prefix_tokens
    )


def parse_arch(arch: str | dict[str, Any]) -> tuple[int, int, int, int]:
    """The numbers of ``ARCH_KEYS`` that an argument ``arch`` means.

    Raises:
        ValueError: If it is not a preset, or not these numbers.
    """
    if isinstance(arch, str):
        name = ALIASES.get(arch, arch)
        check_choice('arch', name, ARCHS)
        return ARCHS[name]
    if set(arch) != set(ARCH_KEYS):
        raise ValueError(
            f'arch must have exactly the keys {", ".join(ARCH_KEYS)}; got '
            f'{", ".join(arch)}.'
        )
    if arch['width'] % arch['num_heads']:
        raise ValueError(
            f'arch: width {arch["width"]} is not a multiple of num_heads '
            f'{arch["num_heads"]}.'
        )
    return arch['width'], arch['depth'], arch['num_heads'], arch['mlp_width']


def _parse_out_indices(
    out_indices: int | Sequence[int], depth: int
) -> tuple[int, ...]:
    given = [out_indices] if isinstance(out_indices, int) else out_indices
    indices = tuple(i + depth if i < 0 else i for i in given)
    in_range = all(0 <= i < depth for i in indices)
    if not indices or not in_range or list(indices) != sorted(set(indices)):
        raise ValueError(
            f'out_indices must be increasing indices of the {depth} blocks '
            f'(negative ones count from the end), got {out_indices}.'
        )
    return indices


def check_choice(name: str, value: str, choices: Any) -> None:
    """Raise a ValueError that lists the choices if value is none of them."""
    if value not in choices:
        raise ValueError(
            f'{name} must be one of {", ".join(choices)}; got {value!r}.'
        )


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value < high:
        raise ValueError(f'{name} must be in [{low}, {high}), got {value}.')
