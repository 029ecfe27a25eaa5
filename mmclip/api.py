"""What a notebook needs: load a classifier, and ask it."""

from collections.abc import Sequence
from pathlib import Path

from mmclip.adapting.model_file import build_model, read_model
from mmclip.adapting.run_folder import RunFolder
from mmclip.errors import ArgumentError
from mmclip.predicting.classifier import Classifier
from mmclip.text.class_embeddings import Template, named_templates
from mmclip.text.zero_shot import zero_shot_checkpoint

SCHEME = 'open_clip://'


def load(
    model: str | Path,
    classes: Sequence[str] | None = None,
    *,
    templates: str | Sequence[Template] = 'openai',
    device: str | None = None,
) -> Classifier:
    """Load a classifier.

    Args:
        model (str | Path): The folder of a run of ``mmclip adapt``; a file of
            a classifier that mmclip made or trained; or
            ``'open_clip://NAME/TAG'``, which needs ``classes``.
        classes (Sequence[str] | None): Names for a zero-shot classifier.
        templates (str | Sequence): For these, see
            :func:`mmclip.text.class_embeddings.named_templates`.
        device (str | None): Defaults to a GPU if there is one.

    Raises:
        ArgumentError: If classes are missing, or the model has its own.
        CheckpointError: If the file is not such a classifier.
        FileNotFoundError: If there is no such file.
    """
    if str(model).startswith(SCHEME):
        if not classes:
            raise ArgumentError(
                f'{model} needs the names of the classes: '
                "classes=['cat', 'dog']."
            )
        name, _, tag = str(model).removeprefix(SCHEME).partition('/')
        made = zero_shot_checkpoint(
            name, tag, classes, named_templates(templates)
        )
        clip = made['meta']['clip']
        built = build_model(made['state_dict'], clip, str(model))
        return Classifier(built, clip, device)
    if classes:
        raise ArgumentError(f'{model} has its own classes: leave them out.')
    path = Path(model)
    if path.is_dir():
        path = RunFolder(path).model
    return Classifier(*read_model(path), device)
