"""What a notebook needs: load a classifier, and ask it."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.device import get_device

from mmclip.adapting.run_files.model_file import build_model, read_model
from mmclip.adapting.run_files.run_folder import RunFolder
from mmclip.checkpoint.files.paths import find_weights
from mmclip.errors import ArgumentError
from mmclip.named_model.check import SCHEME, check_model
from mmclip.named_model.encoder import CONFIG
from mmclip.predicting.classifier import Classifier
from mmclip.text.class_embeddings import (
    Template,
    class_names,
    named_templates,
)
from mmclip.text.zero_shot import zero_shot_checkpoint


def load(
    model: str | Path,
    classes: str | Sequence[str] | None = None,
    *,
    templates: str | Sequence[Template] = 'openai',
    device: str | None = None,
) -> Classifier:
    """Load a classifier.

    Args:
        model (str | Path): The folder of a run of ``mmclip adapt``; the file
            of a classifier that mmclip trained or made; or, with ``classes``,
            open_clip's ``'NAME/TAG'``, with or without ``open_clip://``, or a
            folder with ``open_clip_config.json`` and weights.
        classes (str | Sequence[str] | None): Names for a zero-shot
            classifier: see :func:`mmclip.text.class_embeddings.class_names`.
        templates (str | Sequence): For these, see
            :func:`mmclip.text.class_embeddings.named_templates`.
        device (str | None): Defaults to a GPU if there is one.

    Raises:
        ArgumentError: If classes are missing, or the model has its own.
        CheckpointError: If it is not such a classifier.
        DataError: If a folder is not that of a finished run.
        FileNotFoundError: If there is no such file or folder.
    """
    device = device or get_device()
    path = Path(model).expanduser()
    is_name = classes is not None and not path.exists()
    is_name |= str(model).startswith(SCHEME)
    if is_name or (path / CONFIG).is_file():
        return _zero_shot(str(model), classes, templates, device)
    if not path.exists():
        raise FileNotFoundError(
            f'There is no file or folder {path}. For a CLIP model, NAME/TAG, '
            'give classes, too.'
        )
    if classes is not None:
        raise ArgumentError(
            f'{model} takes no classes: they are for NAME/TAG and folders '
            f'with {CONFIG}, which have a text tower.'
        )
    if path.is_dir():
        folder = RunFolder(path)
        folder.check_finished()
        path = folder.model
    return Classifier(*read_model(path), device)


def _zero_shot(
    model: str,
    classes: str | Sequence[str] | None,
    templates: str | Sequence[Template],
    device: str,
) -> Classifier:
    names = class_names(classes or [])
    if len(names) < 2:
        raise ArgumentError(
            f'{model} needs classes, two names or more, such as cat,dog; got '
            f'{len(names)}.'
        )
    folder = Path(model).expanduser()
    if folder.exists():
        name, tag = str(folder / CONFIG), str(find_weights(folder))
    else:
        check_model(model, None)
        name, _, tag = model.removeprefix(SCHEME).partition('/')
    made = zero_shot_checkpoint(
        name, tag, names, named_templates(templates), device=device
    )
    clip = made['meta']['clip']
    built = build_model(made['state_dict'], clip, model)
    return Classifier(built, clip, device)
