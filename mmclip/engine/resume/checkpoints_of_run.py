"""The checkpoints that a run has written, and whether it trained at all."""

from pathlib import Path

from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner

LAST = 'the last'


class WatchHook(Hook):
    """A hook that remembers where a run, perhaps a resumed one, began."""

    began: int | None = None  # the iteration; None before training

    def before_train(self, runner: Runner) -> None:
        """Note the iteration."""
        self.began = runner.iter


def checkpoints_of(runner: Runner) -> dict[str, str]:
    """Return the best checkpoints and then the last, and what each is."""
    best, last = {}, {}
    for hook in runner.hooks:
        if not isinstance(hook, CheckpointHook):
            continue
        paths = dict(getattr(hook, 'best_ckpt_path_dict', {}))
        if path := getattr(hook, 'best_ckpt_path', None):
            paths[hook.key_indicators[0]] = path
        for key, path in paths.items():
            if path:
                best[displayed(path)] = f'the best by {key}'
        if hook.last_ckpt:
            last[displayed(hook.last_ckpt)] = LAST
    return best | last


def displayed(path: str) -> str:
    """Return a path relative to the current folder, if it is below."""
    here = Path.cwd()
    if Path(path).is_relative_to(here):
        return str(Path(path).relative_to(here))
    return path
