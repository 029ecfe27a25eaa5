"""The demo's pre-training writes what open_clip reads."""

import json
import math
import runpy
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import glyphs
import open_clip
import pytest
import torch

from tests.conftest import REPOSITORY
from tests.processes import finish, start

STEPS, BATCH_SIZE = 4, 16


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work_dir = tmp_path_factory.mktemp('demo')
    pretrain(work_dir)
    return work_dir


def pretrain(work_dir: Path) -> None:
    finish(
        start(
            REPOSITORY / 'tools' / 'demo' / 'pretrain.py',
            f'--work-dir={work_dir}',
            f'--steps={STEPS}',
            f'--batch-size={BATCH_SIZE}',
            cwd=REPOSITORY,
        )
    )


def load_file(work_dir: Path) -> dict:
    path = work_dir / 'open_clip' / 'open_clip_pytorch_model.bin'
    return torch.load(path, weights_only=True)


def test_open_clip_loads_the_folder_with_its_weights(work_dir: Path):
    model = open_clip.create_model(f'local-dir:{work_dir / "open_clip"}')
    saved = load_file(work_dir)['state_dict']
    loaded = model.state_dict()
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[key], saved[key]) for key in saved)


def test_the_checkpoint_looks_like_one_of_open_clips_training(work_dir: Path):
    checkpoint = load_file(work_dir)
    assert checkpoint.keys() == {'epoch', 'name', 'state_dict', 'optimizer'}


def test_the_loaded_model_has_the_quick_gelu_that_it_trained_with(
    work_dir: Path,
):
    model = open_clip.create_model(f'local-dir:{work_dir / "open_clip"}')
    acts = {
        type(block.mlp.gelu) for block in model.visual.transformer.resblocks
    }
    assert acts == {open_clip.transformer.QuickGELU}


def test_preprocessing_comes_from_the_folder(work_dir: Path):
    model = open_clip.create_model(f'local-dir:{work_dir / "open_clip"}')
    preprocess = open_clip.get_model_preprocess_cfg(model)
    assert preprocess['size'] == (32, 32)
    assert tuple(preprocess['mean']) == (0.5, 0.5, 0.5)


def test_the_tokenizer_has_the_context_of_the_text_tower(work_dir: Path):
    name = f'local-dir:{work_dir / "open_clip"}'
    model, tokenizer = (
        open_clip.create_model(name),
        open_clip.get_tokenizer(name),
    )
    tokens = tokenizer(['the digit three', 'a handwritten 7'])
    assert tokens.shape == (2, 12)
    assert model.encode_text(tokens).shape == (2, 64)
    assert model.encode_image(torch.zeros(2, 3, 32, 32)).shape == (2, 64)


def test_the_curve_has_a_loss_per_step(work_dir: Path):
    losses = json.loads((work_dir / 'pretrain.json').read_text())['loss']
    assert len(losses) == STEPS
    # An untrained CLIP is about as good as guessing among the batch.
    assert abs(losses[0] - math.log(BATCH_SIZE)) < 1


def test_training_changes_both_towers(work_dir: Path):
    from tools.demo.pretrain import MODEL_CFG

    torch.manual_seed(0)
    initial = open_clip.CLIP(**MODEL_CFG).state_dict()
    trained = load_file(work_dir)['state_dict']
    for key in ('visual.conv1.weight', 'text_projection', 'logit_scale'):
        assert not torch.equal(trained[key], initial[key])


def test_the_same_seed_trains_the_same_model(work_dir: Path, tmp_path: Path):
    pretrain(tmp_path)
    again, first = load_file(tmp_path), load_file(work_dir)
    for key, tensor in first['state_dict'].items():
        torch.testing.assert_close(again['state_dict'][key], tensor)


def test_a_batch_in_shares_has_the_gradients_of_the_whole():
    from tools.demo.pretrain import MODEL_CFG, backward

    torch.manual_seed(0)
    model = open_clip.CLIP(**MODEL_CFG)
    batch = torch.rand(10, 3, 32, 32), torch.randint(1, 49408, (10, 12))
    shares = [x.chunk(4) for x in batch]  # the last is smaller
    loss_of = open_clip.ClipLoss()

    def gradients() -> list[torch.Tensor]:
        found = [p.grad for p in model.parameters()]
        model.zero_grad()
        return found

    loss_of(*model(*batch)).backward()
    whole = gradients()
    with ThreadPoolExecutor(4) as threads:
        backward(model, loss_of, *shares, threads)
    torch.testing.assert_close(gradients(), whole)
    for share in zip(*shares, strict=True):  # compared within a share only
        loss_of(*model(*share)).backward()
    with pytest.raises(AssertionError):
        torch.testing.assert_close(gradients(), whole)


def test_ctrl_c_ends_it_without_a_traceback(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(glyphs, 'make_glyph_pairs', interrupt)
    monkeypatch.setattr(sys, 'argv', ['pretrain.py'])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(
            str(REPOSITORY / 'tools' / 'demo' / 'pretrain.py'),
            run_name='__main__',
        )
    assert end.value.code == 130
