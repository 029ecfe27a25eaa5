"""Other libraries' names for the tensors of an image tower.

A dialect is data: pairs of names, read in both directions. ``{i}`` stands for
a block's number, ``{p}`` for ``weight`` or ``bias``, ``{rest}`` for anything.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property


@dataclass(frozen=True)
class Rule:
    """Two names of one tensor, or of one tensor per block.

    If a side has several names, their tensors are concatenated along the
    first dimension to get those of the other side.

    Args:
        theirs (str | tuple[str, ...]): The name in the other library.
        ours (str | tuple[str, ...]): The name in our backbones or, for a
            classifier's head, in the whole model.
        new_dims (int): Leading dimensions of size one that only ours has.
            Defaults to 0.
        transposed (bool): Whether theirs is the transpose of ours.
        outside (bool): Whether their name lacks the dialect's prefix.
        shares (tuple[int, ...]): How several names of ours divide the first
            dimension. Defaults to equal parts.
    """

    theirs: str | tuple[str, ...]
    ours: str | tuple[str, ...]
    new_dims: int = 0
    transposed: bool = False
    outside: bool = False
    shares: tuple[int, ...] = ()

    @cached_property
    def their_names(self) -> tuple[str, ...]:
        """Return ``theirs`` as a tuple."""
        return _tuple(self.theirs)

    @cached_property
    def our_names(self) -> tuple[str, ...]:
        """Return ``ours`` as a tuple."""
        return _tuple(self.ours)


@dataclass(frozen=True)
class Dialect:
    """The tensor names of one library.

    Args:
        name (str): The library's name in messages.
        prefixes (tuple[str, ...]): Possible prefixes of all names.
        anchors (tuple[str, ...]): A set of names unique to this dialect.
        rules (tuple[Rule, ...]): The tensors of the image tower.
        left_out (dict[str, str]): Regular expressions for the keys of other
            parts, by their description.
    """

    name: str
    prefixes: tuple[str, ...]
    anchors: tuple[str, ...]
    rules: tuple[Rule, ...]
    left_out: dict[str, str] = field(default_factory=dict)

    def prefix_in(self, keys: Iterable[str]) -> str | None:
        """Return the prefix of a checkpoint, None for other dialects."""
        known = set(keys)
        for prefix in self.prefixes:
            if any(key.startswith(prefix) for key in known) and all(
                prefix + anchor in known for anchor in self.anchors
            ):
                return prefix
        return None


@cache
def pattern(name: str) -> re.Pattern[str]:
    """Return the regular expression for a name with placeholders."""
    escaped = re.escape(name)
    for placeholder, expression in _PLACEHOLDERS.items():
        escaped = escaped.replace(re.escape(placeholder), expression)
    return re.compile(escaped)


_PLACEHOLDERS = {
    '{i}': r'(?P<i>\d+)',
    '{p}': r'(?P<p>weight|bias)',
    '{rest}': r'(?P<rest>.+)',
}


def _tuple(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


_CONTRASTIVE = {'contrastive head': r'logit_scale|logit_bias'}
_OPEN_CLIP_TEXT = {
    'text tower': (
        r'(transformer|token_embedding|ln_final|text|text_decoder)\..+'
        r'|positional_embedding|text_projection|attn_mask'
    ),
}
_BLOCK = 'transformer.resblocks.{i}.'

# `VisionTransformer` in open_clip/transformer.py (3.3.0); OpenAI's
# clip/model.py has the same names. `attn_pool` is CoCa's.
OPEN_CLIP = Dialect(
    name='open_clip',
    prefixes=('visual.', ''),
    anchors=('class_embedding', 'conv1.weight'),
    rules=(
        Rule('class_embedding', 'cls_token', new_dims=2),
        Rule('positional_embedding', 'pos_embed', new_dims=1),
        Rule('conv1.weight', 'patch_embed.projection.weight'),
        Rule('ln_pre.{p}', 'pre_norm.{p}'),
        Rule(_BLOCK + 'ln_1.{p}', 'layers.{i}.ln1.{p}'),
        Rule(_BLOCK + 'attn.in_proj_{p}', 'layers.{i}.attn.qkv.{p}'),
        Rule(_BLOCK + 'attn.out_proj.{p}', 'layers.{i}.attn.proj.{p}'),
        Rule(_BLOCK + 'ls_1.gamma', 'layers.{i}.attn.gamma1.weight'),
        Rule(_BLOCK + 'ln_2.{p}', 'layers.{i}.ln2.{p}'),
        Rule(_BLOCK + 'mlp.c_fc.{p}', 'layers.{i}.ffn.layers.0.0.{p}'),
        Rule(_BLOCK + 'mlp.c_proj.{p}', 'layers.{i}.ffn.layers.1.{p}'),
        Rule(_BLOCK + 'ls_2.gamma', 'layers.{i}.ffn.gamma2.weight'),
        Rule('attn_pool.{rest}', 'attn_pool.{rest}'),
        Rule('ln_post.{p}', 'ln1.{p}'),
        Rule('proj', 'proj'),
    ),
    left_out={
        **_OPEN_CLIP_TEXT,
        **_CONTRASTIVE,
        "sizes in OpenAI's files": (
            r'input_resolution|context_length|vocab_size'
        ),
    },
)

# Any tower with open_clip's names, for OpenCLIPVisionTower, which has the same
# names with the prefix `backbone.tower.`.
OPEN_CLIP_TOWER = Dialect(
    name='open_clip',
    prefixes=('visual.', 'backbone.tower.', ''),
    anchors=(),
    rules=(Rule('{rest}', 'tower.{rest}'),),
    left_out={**OPEN_CLIP.left_out},
)

_TIMM_TOWER = (
    Rule('cls_token', 'cls_token'),
    Rule('pos_embed', 'pos_embed'),
    Rule('patch_embed.proj.{p}', 'patch_embed.projection.{p}'),
    Rule('norm_pre.{p}', 'pre_norm.{p}'),
    Rule('blocks.{i}.norm1.{p}', 'layers.{i}.ln1.{p}'),
    Rule('blocks.{i}.attn.qkv.{p}', 'layers.{i}.attn.qkv.{p}'),
    Rule('blocks.{i}.attn.proj.{p}', 'layers.{i}.attn.proj.{p}'),
    Rule('blocks.{i}.ls1.gamma', 'layers.{i}.attn.gamma1.weight'),
    Rule('blocks.{i}.norm2.{p}', 'layers.{i}.ln2.{p}'),
    Rule('blocks.{i}.mlp.fc1.{p}', 'layers.{i}.ffn.layers.0.0.{p}'),
    Rule('blocks.{i}.mlp.fc2.{p}', 'layers.{i}.ffn.layers.1.{p}'),
    Rule('blocks.{i}.ls2.gamma', 'layers.{i}.ffn.gamma2.weight'),
    Rule('norm.{p}', 'ln1.{p}'),
    Rule('attn_pool.{rest}', 'attn_pool.{rest}'),
)

# `VisionTransformer` in timm/models/vision_transformer.py (1.0.31), also the
# trunk of open_clip's SigLIP models and MobileCLIP2-L-14. Its `head` is CLIP's
# projection here, and a classifier below.
TIMM = Dialect(
    name='timm',
    prefixes=('visual.trunk.', 'trunk.', ''),
    anchors=('pos_embed', 'patch_embed.proj.weight', 'blocks.0.norm1.weight'),
    rules=(
        *_TIMM_TOWER,
        Rule('head.weight', 'proj', transposed=True),
        Rule('head.bias', 'proj_bias'),
    ),
    left_out={**_OPEN_CLIP_TEXT, **_CONTRASTIVE},
)
TIMM_CLASSIFIER = Dialect(
    name='timm, with a classifier',
    prefixes=('',),
    anchors=(*TIMM.anchors, 'head.weight', 'head.bias'),
    rules=(*_TIMM_TOWER, Rule('head.{p}', 'head.fc.{p}')),
)

# Any vision transformer with timm's names, for TimmVisionTower, which has the
# same names with the prefix `backbone.tower.`. `visual.trunk.` is open_clip's.
TIMM_MODEL = Dialect(
    name='timm',
    prefixes=('visual.trunk.', ''),
    anchors=(),
    rules=(Rule('{rest}', 'tower.{rest}'),),
    left_out={**TIMM.left_out},
)
TIMM_MODEL_CLASSIFIER = Dialect(
    name='timm, with a classifier',
    prefixes=('',),
    anchors=(),
    rules=(Rule('head.{p}', 'head.fc.{p}'), *TIMM_MODEL.rules),
)

_HF_LAYER = 'encoder.layers.{i}.'
_HF_BLOCKS = (
    Rule(_HF_LAYER + 'layer_norm1.{p}', 'layers.{i}.ln1.{p}'),
    Rule(
        tuple(f'{_HF_LAYER}self_attn.{x}_proj.{{p}}' for x in 'qkv'),
        'layers.{i}.attn.qkv.{p}',
    ),
    Rule(_HF_LAYER + 'self_attn.out_proj.{p}', 'layers.{i}.attn.proj.{p}'),
    Rule(_HF_LAYER + 'layer_norm2.{p}', 'layers.{i}.ln2.{p}'),
    Rule(_HF_LAYER + 'mlp.fc1.{p}', 'layers.{i}.ffn.layers.0.0.{p}'),
    Rule(_HF_LAYER + 'mlp.fc2.{p}', 'layers.{i}.ffn.layers.1.{p}'),
    Rule('post_layernorm.{p}', 'ln1.{p}'),
    Rule('embeddings.position_embedding.weight', 'pos_embed', new_dims=1),
    Rule(
        'embeddings.patch_embedding.{p}',
        'patch_embed.projection.{p}',
    ),
)
_HF_LEFT_OUT = {
    'text tower': r'text_model\..+|text_projection\.(weight|bias)',
    'position numbers': r'(vision_model\.)?embeddings\.position_ids',
    **_CONTRASTIVE,
}

# transformers/models/clip/modeling_clip.py. Keys of `CLIPVisionModel` have no
# prefix since transformers 5; before, and in other classes, `vision_model.`.
HF_CLIP = Dialect(
    name='Hugging Face CLIP',
    prefixes=('vision_model.', ''),
    anchors=(
        'embeddings.class_embedding',
        'embeddings.patch_embedding.weight',
    ),
    rules=(
        Rule('embeddings.class_embedding', 'cls_token', new_dims=2),
        Rule('pre_layrnorm.{p}', 'pre_norm.{p}'),
        *_HF_BLOCKS,
        Rule(
            'visual_projection.weight', 'proj', transposed=True, outside=True
        ),
    ),
    left_out=_HF_LEFT_OUT,
)
# transformers/models/siglip/modeling_siglip.py.
HF_SIGLIP = Dialect(
    name='Hugging Face SigLIP',
    prefixes=('vision_model.', ''),
    anchors=(
        'embeddings.patch_embedding.bias',
        'embeddings.position_embedding.weight',
    ),
    rules=(
        *_HF_BLOCKS,
        Rule('head.probe', 'attn_pool.latent'),
        Rule(
            'head.attention.in_proj_{p}',
            ('attn_pool.q.{p}', 'attn_pool.kv.{p}'),
            shares=(1, 2),
        ),
        Rule('head.attention.out_proj.{p}', 'attn_pool.proj.{p}'),
        Rule('head.layernorm.{p}', 'attn_pool.norm.{p}'),
        Rule('head.mlp.{rest}', 'attn_pool.mlp.{rest}'),
    ),
    left_out=_HF_LEFT_OUT,
)

# Names of mmpretrain's `VisionTransformer`, which are also ours.
MMPRETRAIN = Dialect(
    name='mmpretrain',
    prefixes=('backbone.', ''),
    anchors=('pos_embed', 'patch_embed.projection.weight'),
    rules=(
        *(
            Rule(name, name)
            for name in ('cls_token', 'pos_embed', 'proj', 'proj_bias')
        ),
        *(
            Rule(f'{part}.{{rest}}', f'{part}.{{rest}}')
            for part in (
                'patch_embed',
                'pre_norm',
                'layers',
                'ln1',
                'attn_pool',
            )
        ),
        Rule('head.fc.{p}', 'head.fc.{p}', outside=True),
        Rule('head.layers.head.{p}', 'head.fc.{p}', outside=True),
    ),
    left_out={'preprocessing': r'data_preprocessor\..+'},
)

PLAIN_DIALECTS = (OPEN_CLIP, TIMM, HF_CLIP, HF_SIGLIP, MMPRETRAIN)


def advise_on_prefix(keys: Iterable[str]) -> str | None:
    """Say how to remove an extra prefix, such as a wrapper's ``model.``."""
    keys = list(keys)
    for dialect in PLAIN_DIALECTS:
        for inner in dialect.prefixes:  # the longest first
            before = [
                {
                    key.removesuffix(name)
                    for key in keys
                    if key.endswith(f'.{name}')
                }
                for name in (inner + anchor for anchor in dialect.anchors)
            ]
            if common := set.intersection(*before):
                return (
                    f"it has {dialect.name}'s names with the prefix "
                    f'{(prefix := min(common))!r}. Save the weights without '
                    f'it: torch.save({{k.removeprefix({prefix!r}): v for k, '
                    f'v in weights.items() if k.startswith({prefix!r})}}, '
                    "'OUT.pth')."
                )
    return None
