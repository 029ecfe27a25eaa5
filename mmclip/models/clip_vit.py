"""CLIP's image tower: a vision transformer with a norm before its blocks.

Paper: Learning Transferable Visual Models From Natural Language Supervision
(https://arxiv.org/abs/2103.00020). The computation is that of
``VisionTransformer`` in ``open_clip/transformer.py``; the parameter names are
those of mmpretrain's ``VisionTransformer``, so that checkpoints are exchanged
with mmpretrain's own CLIP fine-tunes.

Shapes: B batch, N patches, C channels (the width), H W the patch grid.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.utils import to_2tuple
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

from mmclip.models.pos_embed import Grid, resize_pos_embed, square_grid
from mmclip.registry import MODELS

# Numbers of open_clip 3.3.0's model_configs, where heads = width / head_width
# and mlp_width = int(width * mlp_ratio).
ARCH_KEYS = ('width', 'depth', 'num_heads', 'mlp_width')
ARCHS: dict[str, tuple[int, int, int, int]] = {
    'small': (384, 12, 6, 1536),
    'medium': (512, 12, 8, 2048),
    'base': (768, 12, 12, 3072),
    'base-plus': (896, 12, 14, 3584),
    'large': (1024, 24, 16, 4096),
    'huge': (1280, 32, 16, 5120),
    'giant': (1408, 40, 16, 6144),
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
OUT_TYPES = ('cls_token', 'avg_featmap', 'raw', 'featmap')


class QuickGELU(nn.Module):
    """The sigmoid approximation of GELU that OpenAI's CLIP was trained with.

    Source: ``QuickGELU`` in ``clip/model.py`` of openai/CLIP.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply it element by element."""
        return x * torch.sigmoid(1.702 * x)


ACTS: dict[str, type[nn.Module]] = {'gelu': nn.GELU, 'quick_gelu': QuickGELU}


@MODELS.register_module()
class CLIPVisionTransformer(BaseModule):
    """CLIP's vision transformer as an OpenMMLab backbone.

    Args:
        arch (str | dict): A preset (``'small'``, ``'medium'``, ``'base'``,
            ``'base-plus'``, ``'large'``, ``'huge'``, ``'giant'``,
            ``'gigantic'``, ``'enormous'``; ``s m b l h g`` for short), or the
            numbers ``dict(width=, depth=, num_heads=, mlp_width=)``.
        act (str): ``'gelu'`` or ``'quick_gelu'``. There is no default: it is
            a property of the weights that their name does not tell (all
            weights of the tag ``openai`` are ``'quick_gelu'``).
        img_size (int | tuple[int, int]): Image height and width in pixels
            that the position embedding is made for. Defaults to 224.
        patch_size (int): Patch height and width in pixels. Defaults to 16.
        norm_eps (float): Epsilon of every LayerNorm. Defaults to 1e-5, as in
            all plain CLIP weights.
        layer_scale_init (float | None): Initial value of LayerScale
            (https://arxiv.org/abs/2103.17239); None for blocks without it.
        proj_dim (int | None): Width D of CLIP's joint space, for the linear
            projection into it after the final norm; None for no projection.
        out_type (str): What is returned per index of ``out_indices``:

            - ``'cls_token'``: the class token, ``(B, C)``.
            - ``'avg_featmap'``: the mean of the patch tokens, ``(B, C)``.
            - ``'raw'``: all tokens, class token first, ``(B, 1 + N, C)``.
            - ``'featmap'``: the patch tokens as a map, ``(B, C, H, W)``.
        out_indices (int | Sequence[int]): Blocks whose output is returned,
            increasing; negative numbers count from the end. The last block's
            output has passed the final norm and, with ``proj_dim``, the
            projection (C becomes D). Blocks after the last index exist, so
            that whole checkpoints load, but are neither run nor trained.
            Defaults to -1.
        drop_path_rate (float): Stochastic depth of the last block, rising
            linearly from 0 in the first. Defaults to 0.
        patch_dropout (float): Share of patches that each image loses in
            training (https://arxiv.org/abs/2212.00794). Defaults to 0.
        frozen_stages (int): -1 freezes nothing, 0 the stem (patch embedding,
            class token, position embedding, pre-norm), n also the first n
            blocks; the depth freezes all. Defaults to -1.
        freeze_patch_embed (bool): Freeze the patch embedding alone, as FT-CLIP
            (https://arxiv.org/abs/2212.06138) does. Defaults to False.
        with_cp (bool): Recompute the blocks' activations in the backward pass
            to save memory. Defaults to False.
        init_cfg (dict | list[dict] | None): Where the weights come from,
            usually ``dict(type='mmclip.PretrainedCLIP', checkpoint=...)``.
            None keeps the random initialisation.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        arch: str | dict[str, Any],
        *,
        act: str,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        norm_eps: float = 1e-5,
        layer_scale_init: float | None = None,
        proj_dim: int | None = None,
        out_type: str = 'cls_token',
        out_indices: int | Sequence[int] = -1,
        drop_path_rate: float = 0.0,
        patch_dropout: float = 0.0,
        frozen_stages: int = -1,
        freeze_patch_embed: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        width, depth, num_heads, mlp_width = _parse_arch(arch)
        _check_choice('act', act, ACTS)
        _check_choice('out_type', out_type, OUT_TYPES)
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

        height, img_width = to_2tuple(img_size)
        self.grid = self.patch_grid(height, img_width)
        self.patch_embed = PatchEmbed(width, patch_size)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        num_patches = self.grid[0] * self.grid[1]
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + num_patches, width))
        self.pre_norm = nn.LayerNorm(width, eps=norm_eps)
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
        self.ln1 = nn.LayerNorm(width, eps=norm_eps)
        self.proj = (
            nn.Parameter(torch.empty(width, proj_dim)) if proj_dim else None
        )
        self.reset_parameters()
        self._freeze()
        self.register_load_state_dict_pre_hook(_resize_pos_embed_on_load)

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
        x = self._embed(x, grid)  # (B, 1 + N, C)
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
        x = self.patch_embed(x)  # (B, N, C)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1).to(x), x], dim=1)
        x = x + resize_pos_embed(self.pos_embed, self.grid, grid).to(x.dtype)
        if self.training and self.patch_dropout > 0:
            x = _drop_patches(x, self.patch_dropout)
        return self.pre_norm(x)

    def _run(self, layer: nn.Module, x: Tensor) -> Tensor:
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(layer, x, use_reentrant=False)
        return layer(x)

    def _output(self, x: Tensor, grid: Grid, *, last: bool) -> Tensor:
        if last:
            x = self.ln1(x)
        if self.out_type == 'cls_token':
            x = x[:, 0]
        elif self.out_type == 'avg_featmap':
            x = x[:, 1:].mean(dim=1)
        elif self.out_type == 'featmap':
            x = x[:, 1:]
        if last and self.proj is not None:
            x = x @ self.proj
        if self.out_type == 'featmap':
            x = x.transpose(1, 2).unflatten(2, grid)  # (B, C, H, W)
        return x

    def reset_parameters(self) -> None:
        """Draw random weights by CLIP's rule.

        The standard deviations of ``initialize_parameters`` in
        ``clip/model.py`` of openai/CLIP, as FT-CLIP applies them to the image
        tower; norms and biases start neutral.
        """
        attn_std = self.width**-0.5
        proj_std = attn_std * (2 * self.depth) ** -0.5
        fc_std = (2 * self.width) ** -0.5
        nn.init.normal_(self.cls_token, std=attn_std)
        nn.init.normal_(self.pos_embed, std=attn_std)
        if self.proj is not None:
            nn.init.normal_(self.proj, std=attn_std)
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

        The same keys stand in the ``meta['clip']['arch']`` of a converted
        checkpoint.
        """
        return dict(
            width=self.width,
            depth=self.depth,
            num_heads=self.num_heads,
            mlp_width=self.mlp_width,
            patch_size=self.patch_size,
            act=self.act,
            norm_eps=self.norm_eps,
        )

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

    def train(self, mode: bool = True) -> 'CLIPVisionTransformer':
        """Set the mode of all but the frozen parts, which stay in eval."""
        super().train(mode)
        for frozen in self._frozen_parts():
            if isinstance(frozen, nn.Module):
                frozen.eval()
        return self

    def _freeze(self) -> None:
        for frozen in (*self._frozen_parts(), *self._unused_parts()):
            frozen.requires_grad_(False)

    def _frozen_parts(self) -> list[nn.Module | nn.Parameter]:
        parts: list[nn.Module | nn.Parameter] = []
        if self.freeze_patch_embed or self.frozen_stages >= 0:
            parts.append(self.patch_embed)
        if self.frozen_stages >= 0:
            parts += [self.cls_token, self.pos_embed, self.pre_norm]
            parts += self.layers[: self.frozen_stages]
        if self.frozen_stages == self.depth:
            parts += self._tail()
        return parts

    def _unused_parts(self) -> list[nn.Module | nn.Parameter]:
        """What no output depends on: data-parallel training must know."""
        if self.out_indices[-1] == self.depth - 1:
            return []
        return [*self.layers[self.out_indices[-1] + 1 :], *self._tail()]

    def _tail(self) -> list[nn.Module | nn.Parameter]:
        return [self.ln1] if self.proj is None else [self.ln1, self.proj]


class PatchEmbed(nn.Module):
    """Cut an image into patches and project each; no bias, as in CLIP."""

    def __init__(self, width: int, patch_size: int):
        super().__init__()
        self.projection = nn.Conv2d(
            3, width, kernel_size=patch_size, stride=patch_size, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 3, height, width)`` to ``(B, N, C)``."""
        return self.projection(x).flatten(2).transpose(1, 2)


class TransformerLayer(nn.Module):
    """A pre-norm block: attention and MLP, each added to its input."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        mlp_width: int,
        *,
        act: str,
        norm_eps: float,
        layer_scale_init: float | None,
        drop_path: float,
    ):
        super().__init__()
        self.ln1 = nn.LayerNorm(width, eps=norm_eps)
        self.attn = Attention(width, num_heads, layer_scale_init)
        self.ln2 = nn.LayerNorm(width, eps=norm_eps)
        self.ffn = MLP(width, mlp_width, act, layer_scale_init)
        self.drop_path = StochasticDepth(drop_path, mode='row')

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 1 + N, C)`` to the same shape."""
        x = x + self.drop_path(self.attn(self.ln1(x)))
        return x + self.drop_path(self.ffn(self.ln2(x)))


class Attention(nn.Module):
    """Multi-head self-attention with one matrix for q, k and v."""

    def __init__(
        self, width: int, num_heads: int, layer_scale_init: float | None
    ):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.gamma1 = _layer_scale(width, layer_scale_init)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 1 + N, C)`` to the same shape."""
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, 1 + N, C / heads)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.gamma1(self.proj(x.transpose(1, 2).flatten(2)))


class MLP(nn.Module):
    """Two linear layers; the nesting gives mmcv's parameter names."""

    def __init__(
        self,
        width: int,
        mlp_width: int,
        act: str,
        layer_scale_init: float | None,
    ):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Sequential(nn.Linear(width, mlp_width), ACTS[act]()),
            nn.Linear(mlp_width, width),
        )
        self.gamma2 = _layer_scale(width, layer_scale_init)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 1 + N, C)`` to the same shape."""
        return self.gamma2(self.layers(x))


class LayerScale(nn.Module):
    """A learned factor per channel (https://arxiv.org/abs/2103.17239)."""

    def __init__(self, width: int, init_value: float):
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), init_value))

    def forward(self, x: Tensor) -> Tensor:
        """Scale the last dimension, of size C."""
        return x * self.weight


def _layer_scale(width: int, init_value: float | None) -> nn.Module:
    return (
        nn.Identity() if init_value is None else LayerScale(width, init_value)
    )


def _drop_patches(x: Tensor, rate: float) -> Tensor:
    """Keep the class token and a random share of each image's patches."""
    cls_token, patches = x[:, :1], x[:, 1:]
    batch, num_patches, width = patches.shape
    num_kept = max(1, int(num_patches * (1 - rate)))
    order = torch.randn(batch, num_patches, device=x.device)
    kept = order.topk(num_kept, dim=-1).indices  # (B, kept)
    patches = patches.gather(1, kept[..., None].expand(-1, -1, width))
    return torch.cat([cls_token, patches], dim=1)


def _resize_pos_embed_on_load(
    module: CLIPVisionTransformer, state_dict: dict, prefix: str, *_: Any
) -> None:
    """Fit the position embedding of a checkpoint for another image size."""
    name = f'{prefix}pos_embed'
    if name not in state_dict:
        return  # the caller's strict check reports it
    num_patches = state_dict[name].shape[1] - 1
    if num_patches == module.grid[0] * module.grid[1]:
        return
    source = square_grid(num_patches)
    print_log(
        f'Resize {name} from a {source[0]}x{source[1]} to a '
        f'{module.grid[0]}x{module.grid[1]} patch grid (bicubic, antialias).',
        logger='current',
    )
    state_dict[name] = resize_pos_embed(state_dict[name], source, module.grid)


def _parse_arch(arch: str | dict[str, Any]) -> tuple[int, int, int, int]:
    if isinstance(arch, str):
        name = ALIASES.get(arch, arch)
        _check_choice('arch', name, ARCHS)
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


def _check_choice(name: str, value: str, choices: Any) -> None:
    if value not in choices:
        raise ValueError(
            f'{name} must be one of {", ".join(choices)}; got {value!r}.'
        )


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value < high:
        raise ValueError(f'{name} must be in [{low}, {high}), got {value}.')
