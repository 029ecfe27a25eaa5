"""From images to a classifier and its page: ``mmclip adapt``, in Python too.

What is wrong is refused first, in less than a second: torch and all that needs
it are imported afterwards.
"""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmclip.adapting.inputs import files_of_recipe, other_folders
from mmclip.adapting.run_files.run_folder import RunFolder
from mmclip.adapting.screen import log_to
from mmclip.named_model.check import check_model
from mmclip.own_images.read import read_images
from mmclip.post_import import hide_mmcv_lite

if TYPE_CHECKING:
    from mmclip.text.class_embeddings import Template

MODEL = 'ViT-B-32/openai'


def adapt(
    images: str | Path,
    out: str | Path | None = None,
    *,
    model: str = MODEL,
    weights: str | None = None,
    names: str | Sequence[str] | None = None,
    templates: 'str | Sequence[Template]' = 'openai',
    also_test: str | Path | Sequence[str | Path] = (),
    method: str | None = None,
    recipe: str = 'auto',
    seconds: float = 600.0,
    seed: int = 0,
    shots: int | None = None,
    root: str | Path | None = None,
    force: bool = False,
    verbose: bool = False,
    command: str = '',
) -> RunFolder:
    """Make a classifier from images, and a folder with all about it.

    ``mmclip.load`` loads it from the folder. A run that was stopped goes on
    where it stopped.

    Args:
        images (str | Path): The images, see
            :func:`mmclip.own_images.read.read_images`.
        out (str | Path | None): The folder of the run. Defaults to None:
            ``runs/`` and the name of the images.
        model (str): ``'NAME/TAG'`` of open_clip, a folder with
            ``open_clip_config.json`` and weights, or a file that mmclip
            converted. Defaults to ``'ViT-B-32/openai'``.
        weights (str | None): A local file with the weights of
            ``'NAME/TAG'``. Defaults to None: open_clip's download.
        names (str | Sequence[str] | None): Class names for the text tower, in
            the order of the classes: see
            :func:`mmclip.text.class_embeddings.class_names`. Defaults to the
            names of the folders, with spaces for ``_`` and ``-``.
        templates (str | Sequence): See
            :func:`mmclip.text.class_embeddings.named_templates`.
        also_test (str | Path | Sequence): A folder with one folder per class,
            or several, on which each method is measured too. They choose
            nothing. Defaults to none.
        method (str | None): The name of the method whose classifier is
            taken, whatever the accuracies. Defaults to None: the best.
        recipe (str): ``'light'``, or how the tower is fine-tuned: ``'auto'``,
            ``'full'`` or the path of a config. Defaults to ``'auto'``.
        seconds (float): The time for fine-tuning. Defaults to 600.
        seed (int): The seed of splits, folds and training. Defaults to 0.
        shots (int | None): How many training images per class to use.
            Defaults to None: all.
        root (str | Path | None): The folder that the paths of a table are
            relative to. Defaults to None: that of the table.
        force (bool): Whether to replace a finished run. Defaults to False.
        verbose (bool): Whether the screen shows the whole log. Defaults to
            False.
        command (str): What makes this run again, for the page. Defaults to
            this call.

    Returns:
        RunFolder: The folder of the run, with its files: ``report`` is the
        path of the page, ``model`` that of the classifier;
        ``read_metrics()`` returns all numbers.

    Raises:
        ArgumentError: If an argument is not as it should be.
        CheckpointError: If the model is unknown or cannot be read, or the
            folder must not be written.
        DataError: If no classifier can be made from the images.
        FileNotFoundError: If a file or folder is missing.
    """
    if isinstance(also_test, str | Path):
        also_test = [also_test]
    command = command or _call(locals())
    check_model(model, weights)
    source = Path(images)
    folder = RunFolder(Path(out or default_out(source)))
    files = model, weights, names, templates, *files_of_recipe(recipe)
    folder.check_free(
        [source, *map(Path, also_test)],
        [Path(f) for f in files if f and isinstance(f, str | Path)],
        force=force,
    )
    read = read_images(
        source, seed, shots=shots, root=root, keep=folder.images
    )
    others = other_folders(also_test, read)

    with hide_mmcv_lite():
        from mmclip.adapting.adapt import learn
        from mmclip.report.page import write_report
        from mmclip.text.class_embeddings import class_names, named_templates

    with log_to(folder.log, verbose=verbose) as say:
        learn(
            read,
            folder,
            model=model,
            weights=weights,
            names=class_names(names) if names else None,
            templates=named_templates(templates),
            others=others,
            method=method,
            recipe=recipe,
            seconds=seconds,
            seed=seed,
            command=command,
            say=say,
        )
        try:
            # Its own images, and so its own paths.
            write_report(folder, root=folder.read_metrics()['data']['root'])
        except BaseException:
            folder.metrics.unlink()  # it marks a finished run
            raise
    folder.end()
    return folder


def default_out(images: Path) -> Path:
    """Return the folder of a run: ``runs/`` and the name of its images."""
    path = images.resolve()
    return Path('runs') / (path.stem if path.is_file() else path.name)


def _call(given: dict[str, Any]) -> str:
    """Return the call of :func:`adapt` that has these arguments."""
    words = [repr(str(given['images']))]
    for name, parameter in inspect.signature(adapt).parameters.items():
        value = given[name]
        if name in ('images', 'command') or value == parameter.default:
            continue
        if name == 'also_test':
            value = [str(folder) for folder in value]
        value = str(value) if isinstance(value, Path) else value
        words.append(f'{name}={value!r}')
    return f'mmclip.adapt({", ".join(words)})'
