"""What fine-tuning writes into its folder, and removes in the end."""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, fields
from typing import Any

from mmengine.config import Config

from mmclip.adapting.run_files.config_file import write_config
from mmclip.adapting.run_files.model_file import write_model
from mmclip.adapting.run_files.run_folder import RunFolder, write_text
from mmclip.adapting.tuning.plan import Plan
from mmclip.checkpoint.meta import TRAINING
from mmclip.engine.config.load import load_config
from mmclip.few_shot.method import Classifier, Encoded
from mmclip.named_model.encoder import Encoder
from mmclip.own_images.images import Images

# mmengine's name for the folder of a run's logs, such as 20261130_034500.
TIMESTAMP = '[0-9]' * 8 + '_' + '[0-9]' * 6 + '/'


@dataclass(frozen=True)
class Task:
    """What is fine-tuned, from which start, on what, and where.

    Args:
        images (Images): The training images; some may be held out, as
            ``val``.
        encoder (Encoder): The tower.
        start (Classifier): The linear classifier on its features.
        folder (RunFolder): The folder of the training.
        seed (int): Of the training.
    """

    images: Images
    encoder: Encoder
    start: Classifier
    folder: RunFolder
    seed: int

    def write_start(self) -> None:
        """Write the images, their classes and the weights to start from."""
        self.images.write(self.folder.split)
        write_text(self.folder.classes, '\n'.join(self.images.classes) + '\n')
        write_model(
            self.folder.model, self.encoder, self.start, self.images.classes
        )

    def write_plan(self, plan: Plan) -> Config:
        """Write the config of a plan, and load it."""
        write_config(
            self.images,
            self.encoder,
            self.start,
            self.folder,
            plan=plan,
            seed=self.seed,
        )
        return load_config(self.folder.config)

    def write_recipe(self, path: str, plan: Plan) -> Config:
        """Write a user's config, with images and start of this training.

        Args:
            path (str): The config, which is based on ``config.py`` of a run.
            plan (Plan): How it would be trained otherwise.
        """
        cfg = _with_data(load_config(path), self.write_plan(plan))
        write_text(self.folder.config, cfg.pretty_text + '\n')
        return cfg


@dataclass(frozen=True)
class Begun:
    """A training that has begun, as its folder says.

    Args:
        made_of (dict): What it is for; another one does not go on from it.
        plan (dict): How it is done, for ``metrics.json``.
        estimated (float): Seconds that it should take.
        fitted (str): As in :class:`.schedule.Schedule`.
    """

    made_of: dict[str, Any]
    plan: dict[str, Any]
    estimated: float
    fitted: str

    @classmethod
    def read(
        cls, folder: RunFolder, made_of: dict[str, Any]
    ) -> 'Begun | None':
        """Return the training that has begun for the same, if any."""
        path = folder.path / 'state.json'
        if not path.is_file():
            return None
        found = json.loads(path.read_text('utf-8'))
        is_same = found.keys() == {field.name for field in fields(cls)}
        if not is_same or found['made_of'] != made_of:
            return None
        return cls(**found)

    def write(self, folder: RunFolder) -> None:
        """Say in the folder that it has begun."""
        write_text(folder.path / 'state.json', json.dumps(asdict(self)))


def digest(value: Any) -> str:
    """Return a short text that differs where plain values differ."""
    text = json.dumps(value, ensure_ascii=False)
    return hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()


def digest_of_seen(images: Encoded) -> str:
    """Do the same for what the towers say of images and classes."""
    found = hashlib.sha256(images.pooled.numpy().tobytes())
    if images.text is not None:
        found.update(images.text.embeddings.numpy().tobytes())
    return found.hexdigest()


def keep_curves(folder: RunFolder, run: RunFolder) -> None:
    """Move what TensorBoard shows of a training into the run."""
    for file in (folder.path / 'training').glob('*/vis_data/*'):
        if file.name.startswith(('events.', 'scalars.')):
            (run.path / 'events').mkdir(exist_ok=True)
            shutil.move(file, run.path / 'events' / file.name)


def remove(folder: RunFolder) -> None:
    """Remove what fine-tuning wrote, and nothing else."""
    training = folder.path / 'training'
    for pattern in ('*.pth', 'last_checkpoint', '*.py'):
        for file in training.glob(pattern):
            file.unlink()
    for logs in training.glob(TIMESTAMP):
        shutil.rmtree(logs)
    if folder.features.is_dir():
        shutil.rmtree(folder.features)
    for file in (
        folder.model,
        folder.config,
        folder.split,
        folder.classes,
        folder.path / 'state.json',
    ):
        file.unlink(missing_ok=True)
    for emptied in (training, folder.path):
        if emptied.is_dir() and not any(emptied.iterdir()):
            emptied.rmdir()


def _with_data(cfg: Config, ours: Config) -> Config:
    """Let a user's config train on the images of a run, from its start."""
    mine = cfg.model
    cfg.model = ours.model
    for key in TRAINING:
        if key in mine.backbone:
            cfg.model.backbone[key] = mine.backbone[key]
    if 'train_cfg' in mine:
        cfg.model.train_cfg = mine.train_cfg
    if 'loss' in mine.head:
        cfg.model.head.loss = mine.head.loss
    for key in ('train_dataloader', 'val_dataloader'):
        if key not in ours:
            cfg[key] = None
            continue
        pipeline = cfg[key].dataset.pipeline
        cfg[key].dataset = ours[key].dataset
        cfg[key].dataset.pipeline = pipeline
    for key in ('val_cfg', 'val_evaluator', 'custom_hooks'):
        if cfg.val_dataloader is None:
            cfg[key] = [] if key == 'custom_hooks' else None
    if cfg.val_dataloader is None:
        cfg.default_hooks.checkpoint.save_best = None
    cfg.load_from, cfg.work_dir = ours.load_from, ours.work_dir
    return cfg
