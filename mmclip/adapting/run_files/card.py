"""The model card of a run, in the form that Hugging Face's Hub reads."""

import html
from typing import Any

import yaml

from mmclip.adapting.run_files.run_folder import RunFolder, write_text
from mmclip.markdown import markdown_table


def write_card(folder: RunFolder, numbers: dict[str, Any]) -> None:
    """Write ``README.md``.

    Args:
        folder (RunFolder): The run.
        numbers (dict): What is in its ``metrics.json``.
    """
    chosen = next(
        m for m in numbers['methods'] if m['name'] == numbers['chosen']
    )
    split = 'test' if 'test' in chosen else 'val'
    result, also = chosen[split], chosen.get('also', {})
    measure = 'accuracy'
    several = ''
    tags = ['mmclip', 'clip', 'image-classification']
    if numbers['several_labels']:
        measure = 'mean_average_precision'
        several = '\nAn image may have several of these classes, or none.'
        tags.append('multi-label')
    said = measure.replace('_', ' ').capitalize()
    name = folder.path.resolve().name
    front: dict[str, Any] = dict(
        library_name='mmclip',
        pipeline_tag='image-classification',
        tags=tags,
        metrics=[measure],
    )
    sets = [
        (dict(name=name, type='imagefolder', split=split), result),
        *((dict(name=n, type='imagefolder'), also[n]) for n in also),
    ]
    front['model-index'] = [
        dict(
            name=name,
            results=[
                dict(
                    task=dict(type='image-classification'),
                    dataset=data,
                    metrics=[
                        dict(
                            type=measure,
                            value=round(measured[measure] / 100, 4),
                        )
                    ],
                )
                for data, measured in sets
            ],
        )
    ]
    rows = [
        (
            method['title'],
            *(_cell(method.get(s), measure) for s in ('val', 'test')),
            *(_cell(method['also'][n], measure) for n in also),
        )
        for method in numbers['methods']
    ]
    classes = folder.classes.read_text(encoding='utf-8').splitlines()
    shown = html.escape(', '.join(classes[:20]), quote=False) + (
        ', ...' if len(classes) > 20 else ''
    )
    value = f'{result[measure]:.1f}'
    interval = (
        ''
        if result['low'] is None
        else f'\n(95 % interval {result["low"]:.1f} to {result["high"]:.1f})'
    )
    chosen_on = (
        ''
        if split == 'test' or numbers['chosen_by'] == 'user'
        else ' The method was chosen on\nthese same images, so the number is '
        'slightly too good.'
    )
    command = numbers['command']
    language = 'shell' if command.startswith('mmclip ') else 'python'
    about = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    header = ['method', 'validation', 'test', *map(_text, also)]
    elsewhere = ''.join(
        f'On {_text(name)}, {measured["images"]} images that had no part in '
        f'any choice: {_cell(measured, measure)} %.\n\n'
        for name, measured in also.items()
    )
    training = numbers['training'] or {}
    write_text(
        folder.card,
        f"""---
{about}---
# {name}

An image classifier of {len(classes)} classes ({shown}), made by mmclip
{numbers['mmclip']} from {numbers['model']} with {chosen['title']}
({chosen['source']}).{several}

{said} on {result['images']} {split} images: **{value} %**{interval}.\
{chosen_on}

{elsewhere}{markdown_table(header, rows)}
```python
import mmclip

model = mmclip.load({name!r})  # this folder
model.predict('image.jpg')
```

{_probabilities(numbers)}

Made with:

```{language}
{command}
```
{training.get('fitted', '')}
""",
    )


def _text(name: str) -> str:
    """Return a name as text in a table of Markdown."""
    return html.escape(name, quote=False).replace('|', '\\|')


def _cell(result: dict[str, Any] | None, measure: str) -> str:
    if result is None:
        return ''
    value = f'{result[measure]:.1f}'
    if result['low'] is None:
        return value
    return f'{value} ({result["low"]:.1f} to {result["high"]:.1f})'


def _probabilities(numbers: dict[str, Any]) -> str:
    """Say how logits become answers."""
    calibration = numbers['calibration']
    if calibration is None:
        return (
            'Each class has a probability of its own (a sigmoid). An image '
            'gets the\nclasses at or above their thresholds, which are in the '
            "model's file."
        )
    said = (
        'Scores are divided by a temperature of\n'
        f'{calibration["temperature"]:.3g} before they become probabilities.'
    )
    if calibration['threshold']:
        said += (
            f' Below {calibration["threshold"]:.2f} the answer is\n"not sure".'
        )
    return said
