"""How other projects name the tensors of a CLIP image tower.

A dialect is data: pairs of names, read in both directions. ``{i}`` stands for
a block's number, ``{p}`` for ``weight`` or ``bias``.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """One tensor (or one per block) in two spellings.

    Args:
        theirs (str): The name in the other project.
        ours (str): The name in ``CLIPVisionTransformer``.
        new_dims (int): Leading dimensions of size one that ours has and
            theirs has not. Defaults to 0.
    """

    theirs: str
    ours: str
    new_dims: int = 0


@dataclass(frozen=True)
class Dialect:
    """The names of one project.

    Args:
        name (str): What to call it.
        rules (tuple[Rule, ...]): The image tower.
        left_out (dict[str, str]): What else such a checkpoint holds: a
            description and the regular expression of the keys.
    """

    name: str
    rules: tuple[Rule, ...]
    left_out: dict[str, str]


_BLOCK = 'visual.transformer.resblocks.{i}.'

# `VisionTransformer` in open_clip/transformer.py (3.3.0), as `visual` of a
# whole model; OpenAI's clip/model.py has the same names.
OPEN_CLIP = Dialect(
    name='open_clip',
    rules=(
        Rule('visual.class_embedding', 'cls_token', new_dims=2),
        Rule('visual.positional_embedding', 'pos_embed', new_dims=1),
        Rule('visual.conv1.weight', 'patch_embed.projection.weight'),
        Rule('visual.ln_pre.{p}', 'pre_norm.{p}'),
        Rule(_BLOCK + 'ln_1.{p}', 'layers.{i}.ln1.{p}'),
        Rule(_BLOCK + 'attn.in_proj_{p}', 'layers.{i}.attn.qkv.{p}'),
        Rule(_BLOCK + 'attn.out_proj.{p}', 'layers.{i}.attn.proj.{p}'),
        Rule(_BLOCK + 'ls_1.gamma', 'layers.{i}.attn.gamma1.weight'),
        Rule(_BLOCK + 'ln_2.{p}', 'layers.{i}.ln2.{p}'),
        Rule(_BLOCK + 'mlp.c_fc.{p}', 'layers.{i}.ffn.layers.0.0.{p}'),
        Rule(_BLOCK + 'mlp.c_proj.{p}', 'layers.{i}.ffn.layers.1.{p}'),
        Rule(_BLOCK + 'ls_2.gamma', 'layers.{i}.ffn.gamma2.weight'),
        Rule('visual.ln_post.{p}', 'ln1.{p}'),
        Rule('visual.proj', 'proj'),
    ),
    left_out={
        'text tower': (
            r'(transformer|token_embedding|ln_final|text|text_decoder)\..+'
            r'|positional_embedding|text_projection|attn_mask'
        ),
        'contrastive head': r'logit_scale|logit_bias',
        "sizes in OpenAI's files": (
            r'input_resolution|context_length|vocab_size'
        ),
    },
)
