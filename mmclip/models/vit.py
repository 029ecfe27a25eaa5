"""The vision transformer of CLIP and SigLIP, from patches to tokens.

The file follows an image through the model: first the transformer with its
whole ``forward``, then patches, blocks, attention and MLP. clip_vit.py and
siglip_vit.py turn tokens into outputs.

Parameters have the names of mmpretrain's ``VisionTransformer``, so that
checkpoints can be exchanged with mmpretrain's own fine-tuned models.

Shapes: B batch, N patches, T tokens (the patches and, in CLIP, the class
token before them), C channels (the width), H W patch grid.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.utils import to_2tuple
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmclip.errors import DataError, check_choice
from mmclip.models.architecture import ARCH_KEYS, Architecture
from mmclip.models.loading import (
    allocate,
    blocks_are_loaded,
    mark_unloaded,
    refuse_whole_models,
    resize_pos_embed_on_load,
    tell_patch_grid,
)
from mmclip.models.windows import Windows, parse_global_blocks
from mmclip.pos_embed import Grid, resize_pos_embed

OUT_TYPES = ('pooled', 'avg_featmap', 'raw', 'featmap')
NORM_OUTPUTS = ('last', 'each', 'none')


class VisionTransformer(BaseModule):
    """A vision transformer up to its tokens.

    A subclass builds what follows the blocks, the tail (``_build_tail``), and
    turns the tokens into outputs (``_output``).

    Args:
        arch (Architecture): Sizes and choices that fit the weights.
        out_type (str): See :class:`CLIPVisionTransformer` for this and all
            other arguments.
    """

    def __init__(
        self,
        arch: Architecture,
        *,
        out_type: str,
        out_indices: int | Sequence[int],
        drop_path_rate: float,
        patch_dropout: float,
        frozen_stages: int,
        freeze_patch_embed: bool,
        with_cp: bool,
        init_cfg: dict | list[dict] | None,
        window_size: int,
        global_blocks: Sequence[int] | None,
        norm_outputs: str,
        last_layer: Callable[..., 'TransformerLayer'] | None = None,
    ):
        super().__init__(init_cfg)
        check_choice('act', arch.act, ACTS)
        check_choice('out_type', out_type, OUT_TYPES)
        _check_range('patch_dropout', patch_dropout, 0, 1)
        _check_range('drop_path_rate', drop_path_rate, 0, 1)
        _check_range('frozen_stages', frozen_stages, -1, arch.depth + 1)
        if patch_dropout > 0 and (out_type == 'featmap' or window_size):
            raise ValueError(
                "patch_dropout must be 0 with out_type='featmap' or windows, "
                'because dropped patches would leave holes in the map; got '
                f'{patch_dropout}.'
            )
        check_choice('norm_outputs', norm_outputs, NORM_OUTPUTS)
        if norm_outputs != 'last' and (
            out_type not in ('featmap', 'raw') or arch.proj_dim is not None
        ):
            raise ValueError(
                f"norm_outputs={norm_outputs!r} needs out_type='featmap' or "
                "'raw', and no proj_dim."
            )
        if global_blocks is not None and not window_size:
            raise ValueError('global_blocks needs window_size.')
        if window_size < 0:
            raise ValueError(
                f'window_size must not be negative, got {window_size}.'
            )
        self.arch = arch
        self.width, self.depth = arch.width, arch.depth
        self.out_type = out_type
        self.out_indices = _parse_out_indices(out_indices, arch.depth)
        self.patch_dropout = patch_dropout
        self.frozen_stages = frozen_stages
        self.freeze_patch_embed = freeze_patch_embed
        self.with_cp = with_cp
        self.norm_outputs = norm_outputs
        self.window_size = window_size
        self.global_blocks = (
            parse_global_blocks(global_blocks, arch.depth)
            if window_size
            else tuple(range(arch.depth))
        )

        self.img_size: tuple[int, int] = tuple(to_2tuple(arch.img_size))
        self.grid = self.patch_grid(*self.img_size)
        self.num_prefix_tokens = int(arch.class_token)
        num_tokens = self.num_prefix_tokens + self.grid[0] * self.grid[1]

        # Optimizer states in checkpoints follow this order of registration.
        self.patch_embed = PatchEmbed(arch)
        self.pos_embed = nn.Parameter(torch.empty(1, num_tokens, arch.width))
        self.cls_token = (
            nn.Parameter(torch.empty(1, 1, arch.width))
            if arch.class_token
            else None
        )
        last = arch.depth - 1
        with torch.device('meta'):  # or torch draws what is overwritten
            self.layers = nn.ModuleList(
                (last_layer if last_layer and i == last else TransformerLayer)(
                    arch,
                    drop_path_rate * i / max(last, 1),
                    Attention(arch)
                    if i in self.global_blocks
                    else WindowAttention(arch, window_size),
                )
                for i in range(arch.depth)
            )
        allocate(self.layers)
        self.pre_norm = (
            nn.LayerNorm(arch.width, eps=arch.norm_eps)
            if arch.pre_norm
            else nn.Identity()
        )
        self._build_tail()
        if norm_outputs == 'each':
            self.out_norms = nn.ModuleList(
                nn.LayerNorm(arch.width, eps=arch.norm_eps)
                for _ in self.out_indices
            )
        if not self.pos_embed.is_meta:  # where there is nothing to draw
            self.reset_parameters()
            if blocks_are_loaded(init_cfg):
                mark_unloaded(self.layers)
            else:
                self._reset_blocks()
        self._freeze()
        self.register_load_state_dict_pre_hook(refuse_whole_models)
        self.register_load_state_dict_pre_hook(resize_pos_embed_on_load)
        self.register_state_dict_post_hook(tell_patch_grid)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Encode a batch of normalised RGB images.

        Args:
            x (Tensor): ``(B, 3, height, width)`` in pixels. For sizes other
                than ``img_size`` the position embedding is interpolated; a
                border narrower than a patch is cut off, as in open_clip.

        Returns:
            tuple[Tensor, ...]: One per index of ``out_indices``, in the shape
            that ``out_type`` defines.
        """
        grid = self.patch_grid(*x.shape[-2:])
        x = self.patch_embed(x)  # (B, N, C)
        if self.cls_token is not None:
            cls_token = self.cls_token.expand(len(x), -1, -1).to(x)
            x = torch.cat([cls_token, x], dim=1)  # (B, T, C)
        # Under autocast the sum is in float32, as in timm.
        x = x + resize_pos_embed(
            self.pos_embed, self.grid, grid, self.num_prefix_tokens
        )
        if self.training and self.patch_dropout > 0:
            x = drop_patches(x, self.patch_dropout, self.num_prefix_tokens)
        x = self.pre_norm(x)

        recomputes = self.with_cp and torch.is_grad_enabled()
        last_run = self.out_indices[-1]
        outs = []
        for i, layer in enumerate(self.layers[: last_run + 1]):
            num_outputs = self._num_outputs(layer) if i == last_run else None
            if recomputes and i >= self.frozen_stages:
                x = checkpoint(
                    layer, x, num_outputs, grid, use_reentrant=False
                )
            else:
                x = layer(x, num_outputs, grid)
            if i in self.out_indices:
                outs.append(self._output(x, grid, i))
        return tuple(outs)

    def patch_grid(self, height: int, width: int) -> Grid:
        """Return the rows and columns of whole patches in an image."""
        size = self.arch.patch_size
        if min(height, width) < size:
            raise DataError(
                f'An image of {height}x{width} pixels is smaller than one '
                f'patch of {size}x{size}.'
            )
        return height // size, width // size

    def _num_outputs(self, layer: nn.Module) -> int | None:
        """Return how many tokens the last block must compute; None for all.

        Keys and values are those of all tokens, so that the output is the
        same. Whoever has hooked into the block sees all tokens.
        """
        hooks = ('_forward_hooks', '_forward_pre_hooks', '_backward_hooks')
        if self._needs_all_tokens() or any(
            getattr(module, kind)
            for module in layer.modules()
            for kind in (*hooks, '_backward_pre_hooks')
        ):
            return None
        return 1

    def _needs_all_tokens(self) -> bool:
        """Return whether outputs depend on more than the class token."""
        return True

    def _build_tail(self) -> None:
        """Build what follows the blocks.

        Parts that no output depends on must not require gradients, for
        data-parallel training.
        """
        raise NotImplementedError

    def _output(self, x: Tensor, grid: Grid, block: int) -> Any:
        """Turn a block's tokens into an output."""
        raise NotImplementedError

    def _norm_of(self, block: int) -> nn.Module:
        """Return the norm of a block's output."""
        if self.norm_outputs == 'each':
            return self.out_norms[self.out_indices.index(block)]
        is_final = self.norm_outputs == 'last' and block == self.depth - 1
        return self.ln1 if is_final else nn.Identity()

    def reset_parameters(self) -> None:
        """Draw random weights outside the blocks as CLIP does.

        The standard deviations, here and for the blocks, are from
        ``initialize_parameters`` in ``clip/model.py`` of openai/CLIP, as
        FT-CLIP applies them to the image tower.
        """
        nn.init.normal_(self.pos_embed, std=self.width**-0.5)
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=self.width**-0.5)

    def _reset_blocks(self) -> None:
        attn_std = self.width**-0.5
        proj_std = attn_std * (2 * self.depth) ** -0.5
        fc_std = (2 * self.width) ** -0.5
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
                elif isinstance(module, (nn.LayerNorm, LayerScale)):
                    module.reset_parameters()

    def architecture(self) -> dict[str, Any]:
        """Return the arguments that define this backbone.

        Those that only affect training are left out.
        """
        arch, (height, width) = self.arch, self.img_size
        arguments: dict[str, Any] = dict(
            arch={key: getattr(arch, key) for key in ARCH_KEYS},
            act=arch.act,
            img_size=height if height == width else (height, width),
            patch_size=arch.patch_size,
            norm_eps=arch.norm_eps,
            pool=arch.pool,
            out_type=self.out_type,
        )
        if self.out_indices != (self.depth - 1,):
            arguments |= dict(out_indices=self.out_indices)
        if self.window_size:
            arguments |= dict(
                window_size=self.window_size, global_blocks=self.global_blocks
            )
        if self.norm_outputs != 'last':
            arguments |= dict(norm_outputs=self.norm_outputs)
        return arguments

    def get_layer_depth(
        self, param_name: str, prefix: str = ''
    ) -> tuple[int, int]:
        """Return a parameter's layer, for layer-wise learning rate decay.

        Unlike in mmpretrain's ``VisionTransformer``, the pre-norm belongs to
        the stem, as in FT-CLIP and timm.

        Args:
            param_name (str): The parameter's name in the whole model.
            prefix (str): This backbone's name in it, with the dot.

        Returns:
            tuple[int, int]: The layer (0 for the stem, i + 1 for block i,
            depth + 1 for everything after the blocks) and the number of
            layers.
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

    def train(self, mode: bool = True) -> 'VisionTransformer':
        """Set the mode; frozen parts stay in eval mode."""
        super().train(mode)
        for name, module in self.named_modules():
            if name and self._is_frozen(name):
                module.eval()
        return self

    def _freeze(self) -> None:
        """Turn off gradients for frozen parts and for blocks not run."""
        last = self.out_indices[-1] + 1
        for name, param in self.named_parameters():
            layer, _ = self.get_layer_depth(name)
            is_run = layer <= last or name.startswith('out_norms')
            is_run |= last == self.depth
            if self._is_frozen(name) or not is_run:
                param.requires_grad_(False)

    def _is_frozen(self, name: str) -> bool:
        if name.startswith('out_norms'):  # which are new
            return False
        layer, _ = self.get_layer_depth(name)
        return (
            layer <= self.frozen_stages
            or self.frozen_stages == self.depth
            or (self.freeze_patch_embed and name.startswith('patch_embed'))
        )


class PatchEmbed(nn.Module):
    """A layer that cuts an image into patches and projects each."""

    def __init__(self, arch: Architecture):
        super().__init__()
        size = arch.patch_size
        self.projection = nn.Conv2d(
            3, arch.width, kernel_size=size, stride=size, bias=arch.patch_bias
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, 3, height, width)`` to ``(B, N, C)``."""
        return self.projection(x).flatten(2).transpose(1, 2)


def drop_patches(x: Tensor, rate: float, num_prefix_tokens: int) -> Tensor:
    """Keep the prefix tokens and a random share of each image's patches.

    Patch dropout (https://arxiv.org/abs/2212.00794), as in open_clip.

    Returns:
        Tensor: The remaining tokens, with at least one patch of each image.
    """
    prefix, patches = x[:, :num_prefix_tokens], x[:, num_prefix_tokens:]
    batch, num_patches, width = patches.shape
    num_kept = max(1, int(num_patches * (1 - rate)))
    order = torch.randn(batch, num_patches, device=x.device)
    kept = order.topk(num_kept, dim=-1).indices  # (B, kept)
    patches = patches.gather(1, kept[..., None].expand(-1, -1, width))
    return torch.cat([prefix, patches], dim=1)


class TransformerLayer(nn.Module):
    """A pre-norm block: attention and MLP, each added to its input."""

    def __init__(
        self, arch: Architecture, drop_path: float, attention: 'Attention'
    ):
        super().__init__()
        self.ln1 = nn.LayerNorm(arch.width, eps=arch.norm_eps)
        self.attn = attention
        self.ln2 = nn.LayerNorm(arch.width, eps=arch.norm_eps)
        self.ffn = MLP(arch)
        self.drop_path = DropPath(drop_path)

    def forward(
        self,
        x: Tensor,
        num_outputs: int | None = None,
        grid: Grid | None = None,
    ) -> Tensor:
        """Map ``(B, T, C)`` to the same shape, or only its first tokens."""
        attended = self.attn(self.ln1(x), num_outputs, grid)
        x = x[:, :num_outputs] + self.drop_path(attended)
        return x + self.drop_path(self.ffn(self.ln2(x)))


class DropPath(nn.Module):
    """Leave a branch out for a random share of images, in training.

    Stochastic depth (https://arxiv.org/abs/1603.09382), with the random
    numbers of torchvision, whose import takes a second.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, T, C)`` with zeros for some images."""
        if not self.training or self.rate == 0:
            return x
        kept = x.new_empty(len(x), 1, 1).bernoulli_(1 - self.rate)
        if self.rate < 1:
            kept /= 1 - self.rate
        return x * kept


class Attention(nn.Module):
    """Multi-head self-attention with one matrix for q, k and v."""

    def __init__(self, arch: Architecture):
        super().__init__()
        self.num_heads = arch.num_heads
        self.qkv = nn.Linear(arch.width, 3 * arch.width)
        self.proj = nn.Linear(arch.width, arch.width)
        self.gamma1 = _layer_scale(arch)

    def forward(
        self,
        x: Tensor,
        num_outputs: int | None = None,
        grid: Grid | None = None,
    ) -> Tensor:
        """Map ``(B, T, C)`` to the same shape, or only its first tokens."""
        q, k, v = self.project(x)
        return self.join(self.attend(q[:, :, :num_outputs], k, v))

    def project(self, x: Tensor) -> Tensor:
        """Return queries, keys and values: ``(3, B, heads, T, C / heads)``."""
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, -1))
        return qkv.permute(2, 0, 3, 1, 4)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the heads' outputs ``(B, heads, T, C / heads)``."""
        return F.scaled_dot_product_attention(q, k, v)

    def join(self, x: Tensor) -> Tensor:
        """Map the heads' outputs ``(B, heads, T, C / heads)`` to tokens."""
        return self.gamma1(self.proj(x.transpose(1, 2).flatten(2)))


class WindowAttention(Attention):
    """Attention of patches to those of their window, for large images.

    The grid is cut into windows of ``size`` x ``size`` patches, from the top
    left; those at the right and the bottom may be smaller (ViTDet,
    https://arxiv.org/abs/2203.16527). The class token attends to all, and all
    to it, so that a window that holds the image changes nothing.
    """

    def __init__(self, arch: Architecture, size: int):
        super().__init__(arch)
        self.size = size

    def forward(
        self,
        x: Tensor,
        num_outputs: int | None = None,
        grid: Grid | None = None,
    ) -> Tensor:
        """Map ``(B, T, C)``, with patches of ``grid``, to the same shape."""
        assert grid is not None
        q, k, v = self.project(x)
        num_prefix = x.shape[1] - grid[0] * grid[1]
        parts = [F.scaled_dot_product_attention(q[:, :, :num_prefix], k, v)]
        if num_outputs != num_prefix:
            windows = Windows(grid, self.size)
            keys, values = (
                torch.cat(
                    [
                        windows.for_each(t[:, :, :num_prefix]),
                        windows.cut(t[:, :, num_prefix:]),
                    ],
                    dim=2,
                )
                for t in (k, v)
            )
            out = F.scaled_dot_product_attention(
                windows.cut(q[:, :, num_prefix:]),
                keys,
                values,
                attn_mask=windows.mask(len(x), num_prefix, x.device),
            )
            parts.append(windows.join(out))
        return self.join(torch.cat(parts, dim=2))


class MLP(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, arch: Architecture):
        super().__init__()
        self.layers = nn.Sequential(  # nested for mmpretrain's names
            nn.Sequential(
                nn.Linear(arch.width, arch.mlp_width), ACTS[arch.act]()
            ),
            nn.Linear(arch.mlp_width, arch.width),
        )
        self.gamma2 = _layer_scale(arch)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, T, C)`` to the same shape."""
        return self.gamma2(self.layers(x))


class LayerScale(nn.Module):
    """A learned factor per channel (https://arxiv.org/abs/2103.17239)."""

    def __init__(self, width: int, init_value: float):
        super().__init__()
        self.init_value = init_value
        self.weight = nn.Parameter(torch.empty(width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with the same factor for all channels."""
        nn.init.constant_(self.weight, self.init_value)

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels, the last dimension of size C."""
        return x * self.weight


class QuickGELU(nn.Module):
    """The sigmoid approximation of GELU that OpenAI's CLIP was trained with.

    Source: ``QuickGELU`` in ``clip/model.py`` of openai/CLIP.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation elementwise.

        x * sigmoid(1.702 * x) would keep two tensors for the backward pass;
        this keeps one. It differs by rounding, and in float16 it overflows
        from 38,496 on instead of 65,504.
        """
        return F.silu(1.702 * x) / 1.702


ACTS: dict[str, Callable[[], nn.Module]] = {
    'gelu': nn.GELU,
    'gelu_tanh': partial(nn.GELU, approximate='tanh'),
    'quick_gelu': QuickGELU,
}


def to_map(x: Tensor, grid: Grid) -> Tensor:
    """Arrange patch tokens ``(B, N, C)`` as a map ``(B, C, H, W)``."""
    return x.transpose(1, 2).unflatten(2, grid)


def _layer_scale(arch: Architecture) -> nn.Module:
    if arch.layer_scale_init is None:
        return nn.Identity()
    return LayerScale(arch.width, arch.layer_scale_init)


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


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value < high:
        raise ValueError(f'{name} must be in [{low}, {high}), got {value}.')
