"""Lines to copy: what can be done with a run."""

import shlex

from mmclip.few_shot.linear_probe import LinearProbe
from mmclip.report.run import Run


def usage(run: Run) -> list[tuple[str, str]]:
    """Return titles and lines, for a shell or for Python."""
    folder = run.folder
    here, model, config = (
        shlex.quote(str(path))
        for path in (folder.path, folder.model, folder.config)
    )
    return [
        (
            'Classify new images (a file, a folder or a list)',
            f'mmclip predict {here} new/ --csv out.csv',
        ),
        (
            'The same in Python',
            'import mmclip\n\n'
            f'model = mmclip.load({str(folder.path)!r})\n'
            "model.predict('a.jpg')         # names and probabilities\n"
            "model.predict_folder('new/')   # a table; .to_csv writes it\n"
            "model.features(['a.jpg'])      # what the classifier sees",
        ),
        (
            "Test it with OpenMMLab's runner (the second line in a clone)",
            f'mmclip test {config} {model}\n'
            f'python tools/test.py {config} {model}',
        ),
        (
            'Export it to timm',
            f'mmclip export {model} classifier.safetensors --to timm',
        )
        if run.numbers['chosen'] == LinearProbe.name
        else (
            'Export the image encoder to Hugging Face (transformers)',
            f'mmclip export {model} tower --to hf',
        ),
        (
            'Make this page again, with pictures of the images in a folder',
            f'mmclip report {here} --root DIR',
        ),
    ]
