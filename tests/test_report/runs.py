"""Made-up runs, as `mmclip adapt` leaves them."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmclip.adapting.choice import interval
from mmclip.adapting.run_files.run_folder import RunFolder

CLASSES = ('cat', 'dog', 'owl')


def write_run(
    path: Path,
    classes: Sequence[str] = CLASSES,
    per_class: int = 6,
    *,
    seed: int = 0,
    accuracy: float = 0.7,
    test: bool = False,
    images: Path | None = None,
    **numbers: Any,
) -> RunFolder:
    """Write the folder of a run.

    Args:
        path (Path): The folder.
        classes (Sequence[str]): Class names.
        per_class (int): Images per class in each split.
        seed (int): Of the answers.
        accuracy (float): About how many are right.
        test (bool): Whether there is a test set. Defaults to False.
        images (Path | None): Where the images are; those that are missing
            are made. Defaults to a folder beside the run.
        **numbers: Values of ``metrics.json`` that differ.
    """
    folder, random = RunFolder(path), np.random.default_rng(seed)
    path.mkdir(parents=True)
    root = images or path.parent / 'images'
    folder.classes.write_text('\n'.join(classes) + '\n', encoding='utf-8')
    splits = ('train', 'val', 'test') if test else ('train', 'val')
    table = [
        (f'{split}/{k}/{i}.png', classes[k], split)
        for split in splits
        for k in range(len(classes))
        for i in range(per_class)
    ]
    for name, label, _ in table:
        file = root / name
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            colour = np.array([60, 120, 180]) + 25 * classes.index(label)
            noise = random.integers(0, 60, (24, 32, 3))
            pixels = (colour + noise) % 256
            Image.fromarray(pixels.astype(np.uint8)).save(file)
    write_table(folder.split, ['path', 'label', 'split'], table)
    shown = min(5, len(classes))
    header = ['path', 'split', 'label', 'prediction', 'probability']
    for i in range(2, shown + 1):
        header += [f'prediction_{i}', f'probability_{i}']
    answers, right = [], dict(val=0, test=0)
    for name, label, split in table:
        if split == 'train':
            continue
        others = [str(c) for c in random.permutation(classes) if c != label]
        place = 0 if random.random() < accuracy else 1
        right[split] += place == 0
        names = [*others[:place], label, *others[place:]][:shown]
        values = np.sort(random.dirichlet([1.0] * shown))[::-1]
        row = [name, split, label]
        for answer, value in zip(names, values, strict=True):
            row += [answer, f'{value:.4f}']
        answers.append([*row, 'yes' if values[0] >= 0.6 else 'no'])
    write_table(folder.predictions, [*header, 'sure'], answers)
    results = {
        split: result(right[split], per_class * len(classes))
        for split in splits[1:]
    }
    pair = [table[0][0], table[per_class * len(classes)][0]]
    folder.write_metrics(
        dict(
            mmclip='0.2.0',
            command='mmclip adapt photos/ --out runs/photos',
            date='2026-11-30T12:00',
            seconds=83.2,
            seed=seed,
            model='ViT-B-32/openai',
            device='cpu',
            data=dict(
                root=str(root),
                made_split='a fifth of each class for validation, seed 0',
                images={s: sum(r[2] == s for r in table) for s in splits},
                per_class={s: [per_class] * len(classes) for s in splits},
                findings=[
                    dict(
                        kind='small',
                        text='2 images are smaller than what the model sees.',
                        paths=pair,
                    )
                ],
            ),
            several_labels=False,
            methods=[
                method('zero_shot', 'Zero-shot', results, -20, None),
                method('linear_probe', 'Linear probe', results, 0, 81.2),
                method('tip_adapter', 'Tip-Adapter', results, -3, 79.9),
            ],
            chosen='linear_probe',
            not_worse=['tip_adapter'],
            calibration=dict(
                temperature=1.37,
                threshold=0.62,
                error_before=9.4,
                error_after=3.1,
                answered=88.8,
                accuracy_of_answered=95.5,
                bins=bins(0.0),
                bins_before=bins(0.1),
            ),
            training=dict(
                steps=[
                    dict(step=i, loss=1.4 / (1 + i / 20))
                    for i in range(0, 200, 5)
                ],
                validation=[
                    dict(step=i, accuracy=33 + i / 4) for i in (50, 100, 150)
                ],
                chance_loss=float(np.log(len(classes))),
                learned=True,
                seconds=61,
                estimated_seconds=70,
                plan=dict(steps=200, learning_rate=1e-4),
            ),
            map=random.normal(size=(len(table), 2)).round(3).tolist(),
            suspects=[
                dict(
                    path=pair[1],
                    label=classes[0],
                    prediction=classes[1],
                    probability=0.97,
                )
            ],
            duplicates=[
                dict(
                    paths=pair,
                    splits=['train', 'val'],
                    exact=False,
                    similarity=0.991,
                )
            ],
        )
        | numbers
    )
    return folder


def write_table(
    path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    with open(path, 'w', encoding='utf-8', newline='') as file:
        csv.writer(file).writerows([header, *rows])


def change(folder: RunFolder, **numbers: Any) -> RunFolder:
    """Change values of ``metrics.json``."""
    content = json.loads(folder.metrics.read_text('utf-8'))
    folder.write_metrics(content | numbers)
    return folder


def result(right: int, images: int) -> dict[str, Any]:
    low, high = interval(right, images)
    accuracy = 100 * right / images
    return dict(accuracy=accuracy, low=low, high=high, images=images)


def method(
    name: str,
    title: str,
    results: dict[str, Any],
    difference: int,
    cross_validation: float | None,
) -> dict[str, Any]:
    moved = {}
    for split, found in results.items():
        right = round(found['accuracy'] * found['images'] / 100)
        share = max(0, right + difference * found['images'] // 100)
        moved[split] = result(share, found['images'])
    return dict(
        name=name,
        title=title,
        source='arXiv 2103.00020',
        settings={} if cross_validation is None else dict(c=0.316),
        cross_validation=cross_validation,
        seconds=1.25,
        **moved,
    )


def bins(gap: float) -> list[dict[str, Any]]:
    return [
        dict(
            low=i / 5,
            high=(i + 1) / 5,
            images=3 * i,
            confidence=(i + 0.5) / 5 if i else None,
            accuracy=100 * max(0, (i + 0.5) / 5 - gap) if i else None,
        )
        for i in range(5)
    ]
