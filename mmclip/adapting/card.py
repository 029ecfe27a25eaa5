"""The model card of a run, in the form that Hugging Face's Hub reads."""

import html
from typing import Any

import yaml

from mmclip.adapting.run_folder import RunFolder, write_text
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
    result = chosen[split]
    name = folder.path.name
    front: dict[str, Any] = dict(
        library_name='mmclip',
        pipeline_tag='image-classification',
        tags=['mmclip', 'clip', 'image-classification'],
        metrics=['accuracy'],
    )
    front['model-index'] = [
        dict(
            name=name,
            results=[
                dict(
                    task=dict(type='image-classification'),
                    dataset=dict(name=name, type='imagefolder', split=split),
                    metrics=[
                        dict(
                            type='accuracy',
                            value=round(result['accuracy'] / 100, 4),
                        )
                    ],
                )
            ],
        )
    ]
    rows = [
        (
            method['title'],
            *(
                f'{method[s]["accuracy"]:.1f} ({method[s]["low"]:.1f} to '
                f'{method[s]["high"]:.1f})'
                if s in method
                else ''
                for s in ('val', 'test')
            ),
        )
        for method in numbers['methods']
    ]
    classes = folder.classes.read_text(encoding='utf-8').splitlines()
    shown = html.escape(', '.join(classes[:20]), quote=False) + (
        ', ...' if len(classes) > 20 else ''
    )
    chosen_on = (
        ''
        if split == 'test' or numbers['chosen_by'] == 'user'
        else ' The method was chosen on\nthese same images, so the number is '
        'slightly too good.'
    )
    header = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    write_text(
        folder.card,
        f"""---
{header}---
# {name}

An image classifier of {len(classes)} classes ({shown}), made by mmclip
{numbers['mmclip']} from {numbers['model']} with {chosen['title']}
({chosen['source']}).

Accuracy on {result['images']} {split} images: **{result['accuracy']:.1f} %**
(95 % interval {result['low']:.1f} to {result['high']:.1f}).{chosen_on}

{markdown_table(['method', 'validation', 'test'], rows)}
```python
import mmclip

model = mmclip.load({name!r})  # this folder
model.predict('image.jpg')
```

Probabilities are divided by a temperature of
{numbers['calibration']['temperature']:.3g} first. Below
{numbers['calibration']['threshold']:.2f} the answer is "not sure".

Made with:

```shell
{numbers['command']}
```
""",
    )
