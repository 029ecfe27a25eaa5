"""Lines to copy: what can be done with a run."""

import shlex

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
            'Export the image encoder (open_clip, timm or Hugging Face)',
            f'mmclip export {model} tower.safetensors --to timm',
        ),
        (
            'Make this page again, with pictures of the images in a folder',
            f'mmclip report {here} --root DIR',
        ),
    ]
