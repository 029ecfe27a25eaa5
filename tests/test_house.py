"""The rooms of the package import one another in one direction."""

import ast
from pathlib import Path

import mmclip

PACKAGE = Path(mmclip.__file__).parent
# From the ground up: a room imports what stands below it, or beside it. What
# is not named is below all of them.
FLOORS = [
    {'models', 'untrusted'},  # a model from a stranger's config is checked
    {'datasets'},
    {'checkpoint'},
    {'pages', 'text'},
    {'engine', 'named_model'},
    {'analysis', 'averaging', 'evaluation', 'own_images', 'probing', 'zoo'},
    {'benchmark', 'segmentation'},
    {'few_shot', 'predicting'},
    {'adapting'},
    {'report'},
    {'api', 'from_images'},
    {'commands'},
]


def floor_of(module: str) -> int:
    room = module.split('.')[1]
    return next((i for i, rooms in enumerate(FLOORS) if room in rooms), -1)


def test_no_room_imports_what_stands_above_it():
    upwards = []
    for path in PACKAGE.rglob('*.py'):
        parts = path.relative_to(PACKAGE.parent).with_suffix('').parts
        for node in ast.walk(ast.parse(path.read_text('utf-8'))):
            names = []
            if isinstance(node, ast.ImportFrom):
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            upwards += [
                f'{path}:{node.lineno} imports {name}'
                for name in names
                if name.startswith('mmclip.')
                and len(parts) > 2
                and floor_of(name) > floor_of('.'.join(parts))
            ]
    assert not upwards
