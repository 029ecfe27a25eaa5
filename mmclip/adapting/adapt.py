"""The whole way from a folder of images to a classifier."""

import datetime
import filecmp
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from mmengine.device import get_device

from mmclip.adapting.encode import encode
from mmclip.adapting.insights import embedding_map, near_duplicates
from mmclip.adapting.material import Material, copies
from mmclip.adapting.one_label import make_one
from mmclip.adapting.run_files.card import write_card
from mmclip.adapting.run_files.config_file import dataset
from mmclip.adapting.run_files.run_folder import RunFolder, write_text
from mmclip.adapting.several_labels import make_several
from mmclip.adapting.tuning.tune import NAME as TUNED
from mmclip.errors import ArgumentError, DataError, check_choice, some
from mmclip.few_shot import METHODS, several_labels
from mmclip.few_shot.method import Encoded
from mmclip.named_model.encoder import Encoder, open_encoder
from mmclip.own_images.images import SPLITS, Finding, Images
from mmclip.own_images.listing import number
from mmclip.own_images.survey import find_small, survey
from mmclip.text.class_embeddings import ClassEmbeddings, Template, make_texts
from mmclip.version import __version__


def learn(
    images: Images,
    folder: RunFolder,
    *,
    model: str,
    weights: str | None,
    names: Sequence[str] | None,
    templates: Sequence[Template],
    others: Mapping[str, dict[str, Any]],
    method: str | None,
    recipe: str,
    seconds: float,
    seed: int,
    command: str,
    say: Callable[[str], None],
) -> None:
    """Make a classifier from images, and write all about it into a folder.

    Args:
        images (Images): The images.
        folder (RunFolder): The folder of the run.
        model (str): See :func:`mmclip.named_model.encoder.open_encoder`.
        weights (str | None): See there.
        names (Sequence[str] | None): Class names for the text tower, in the
            order of the classes; None for the names of the folders, with
            spaces for ``_`` and ``-``.
        templates (Sequence): See
            :func:`mmclip.text.class_embeddings.named_templates`.
        others (Mapping[str, dict]): Data sets that are only measured.
        method (str | None): The name of the method whose classifier is
            taken, whatever the accuracies; None for the best.
        recipe (str): ``'light'``, or how the tower is fine-tuned, see
            :func:`.tuning.tune.tune`.
        seconds (float): The time for fine-tuning.
        seed (int): The seed of folds and training.
        command (str): What makes this run again, for the page.
        say (Callable): Prints a line for the user.
    """
    start = time.perf_counter()
    if method is not None:
        known = [*(m.name for m in METHODS), TUNED]
        if images.several_labels:
            known = [m.name for m in several_labels.METHODS]
        check_choice('--method', method, known)
        if method == TUNED and recipe == 'light':
            raise ArgumentError(
                f'--method {TUNED} needs another --recipe than light.'
            )
        if method != TUNED and recipe not in ('auto', 'light'):
            raise ArgumentError(
                f'--recipe {recipe} is for fine-tuning, but --method {method} '
                'is asked for: leave one of them out.'
            )
    make_texts([''], templates)  # refuses what is no template
    check(images, names, recipe)
    counts = {split: len(images.rows(split)) for split in SPLITS}
    say(
        f'{len(images):,} images of {len(images.classes)} classes: '
        + ', '.join(f'{n:,} {split}' for split, n in counts.items() if n)
        + (f' ({images.made_split})' if images.made_split else '')
    )
    findings, sizes = survey(images)
    for finding in findings:
        say(f'  {finding.text}')
    encoder = open_encoder(model, weights)
    for finding in find_small(images, sizes, encoder.clip['img_size']):
        findings.append(finding)
        say(f'  {finding.text}')
    text = None
    if encoder.embed is not None:  # first, since its files may be missing
        text = encoder.embed(names or spoken(images), templates, say)
    if folder.metrics.exists():
        say(
            f'the run that was here is in {folder.replaced} until this one is '
            'finished'
        )
    folder.begin()
    images.write(folder.split)
    write_text(folder.classes, '\n'.join(images.classes) + '\n')
    everything = see(encoder, images, folder, text, say)
    material = Material(
        encoder, everything, images, copies(images), folder, seed, say
    )
    if images.several_labels:
        found, said = make_several(material, method, recipe)
    else:
        found, said = make_one(material, others, method, recipe, seconds)
    looks = look(everything, images)
    across = [
        pair['paths']
        for pair in looks['duplicates']
        if not pair['exact'] and len(set(pair['splits'])) > 1
    ]
    if across:  # exact ones have been named
        say(
            f'  {number(across, "pair")} of almost equal images in different '
            f'splits, such as {" and ".join(across[0])}: accuracies are too '
            'good unless one of each is removed (they are on the page).'
        )
    numbers = dict(
        mmclip=__version__,
        command=command,
        date=datetime.datetime.now().isoformat(timespec='minutes'),
        seconds=round(time.perf_counter() - start, 1),
        seed=seed,
        model=model,
        device=get_device(),
        data=describe_data(images, counts, findings),
        several_labels=images.several_labels,
        **dict(suspects=[]) | found,
        **looks,
    )
    write_card(folder, numbers)
    folder.write_metrics(numbers)
    say(said)


def check(images: Images, names: Sequence[str] | None, recipe: str) -> None:
    """Refuse images from which no classifier can be made and chosen.

    Args:
        images (Images): The images.
        names (Sequence[str] | None): What the user calls the classes.
        recipe (str): As in :func:`learn`.

    Raises:
        ArgumentError: If there are not as many names as classes, or images
            with several labels are to be fine-tuned.
        DataError: If no image of a split has a label.
    """
    if images.several_labels and recipe not in ('auto', 'light'):
        raise ArgumentError(
            f'--recipe {recipe} is for images with one label each. Train on '
            'from the run with: mmclip train CONFIG'
        )
    for split in SPLITS[1:]:
        if split in images.splits and not images.per_class(split).any():
            raise DataError(
                f'No {split} image has a label, so nothing can be measured '
                'with them.'
            )
    if names and len(names) != len(images.classes):
        raise ArgumentError(
            f'{len(names)} names are given for {len(images.classes)} classes: '
            f'there must be one for each of {some(images.classes)}, in this '
            'order.'
        )


def spoken(images: Images) -> list[str]:
    """Return the class names as a caption would have them."""
    return [
        name.replace('_', ' ').replace('-', ' ') for name in images.classes
    ]


def see(
    encoder: Encoder,
    images: Images,
    folder: RunFolder,
    text: ClassEmbeddings | None,
    say: Callable[[str], None],
) -> Encoded:
    """Compute what the image tower says of the images."""
    data = dataset(images, folder, None)
    found = encode(encoder, data, folder.features, say=say)
    return Encoded(
        torch.tensor(found.features),
        torch.tensor(
            images.targets()
            if images.several_labels
            else images.first_labels()
        ),
        len(images.classes),
        encoder.projection,
        text,
    )


def look(everything: Encoded, images: Images) -> dict[str, Any]:
    """Collect what the features say of the images."""
    return dict(
        map=embedding_map(everything.embedded()),
        duplicates=[
            dict(
                paths=[images.paths[one], images.paths[other]],
                splits=[images.splits[one], images.splits[other]],
                exact=filecmp.cmp(
                    images.full_path(one),
                    images.full_path(other),
                    shallow=False,
                ),
                similarity=round(cosine, 4),
            )
            for one, other, cosine in near_duplicates(
                everything.pooled, images.splits
            )
        ],
    )


def describe_data(
    images: Images, counts: dict[str, int], findings: Sequence[Finding]
) -> dict[str, Any]:
    """Return what ``metrics.json`` says of the images."""
    return dict(
        root=images.root,
        made_split=images.made_split,
        images=counts,
        per_class={
            split: images.per_class(split).tolist() for split in SPLITS
        },
        findings=[asdict(finding) for finding in findings],
    )
