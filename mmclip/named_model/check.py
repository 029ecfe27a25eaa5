"""A model's name, refused before anything slow is imported."""

from importlib.util import find_spec
from pathlib import Path

from mmclip.errors import ArgumentError, CheckpointError, did_you_mean

SCHEME = 'open_clip://'  # which NAME/TAG may have before it
TIMM = ('vit_', 'eva', 'naflexvit_')  # how its names begin


def check_model(model: str, weights: str | None) -> None:
    """Refuse what cannot be a model, by its name alone.

    Args:
        model (str): See :func:`.encoder.open_encoder`.
        weights (str | None): See there.

    Raises:
        ArgumentError: If a local model has weights already.
        CheckpointError: If it is neither a file or folder nor NAME/TAG, or
            open_clip has no such name.
        FileNotFoundError: If there is no file of weights.
    """
    exists = Path(model).expanduser().exists()
    if weights and exists:
        raise ArgumentError(
            f'--weights is for a NAME/TAG, but {model} has its own weights.'
        )
    if weights and not Path(weights).expanduser().exists():
        raise FileNotFoundError(f'There is no file {weights}.')
    if exists:
        return
    name, _, tag = model.removeprefix(SCHEME).partition('/')
    if not tag:
        raise CheckpointError(
            f'{model} is not a model: give NAME/TAG, such as '
            'ViT-B-32/openai, a folder with open_clip_config.json, or a '
            'file that mmclip converted.'
        )
    names = _open_clip_names()
    if name not in names and not name.startswith(TIMM):
        raise CheckpointError(
            f'open_clip has no model {name!r}{did_you_mean(name, names, 0.3)};'
            ' see open_clip.list_models().'
        )


def _open_clip_names() -> set[str]:
    """List open_clip's models without importing it."""
    spec = find_spec('open_clip')
    assert spec and spec.origin
    configs = Path(spec.origin).parent / 'model_configs'
    return {path.stem for path in configs.glob('*.json')}
