"""Reading without executing, writing without leaving halves."""

import pytest
import torch

from mmclip.checkpoint import (
    CheckpointError,
    open_weights,
    read_checkpoint,
    read_state_dict,
    write_checkpoint,
)
from mmclip.checkpoint.files.paths import check_out, sha256
from tests.test_checkpoint.conftest import Payload

WEIGHTS = dict(weight=torch.arange(6.0).reshape(2, 3))


class TestReading:
    def test_training_checkpoints(self, tmp_path):
        path = tmp_path / 'epoch_1.pt'
        state_dict = {f'module.{key}': t for key, t in WEIGHTS.items()}
        torch.save(
            dict(epoch=1, state_dict=state_dict, optimizer=dict(state={})),
            path,
        )
        assert list(read_state_dict(path)) == ['weight']

    @pytest.mark.parametrize(
        'where',
        [
            'cpu',
            torch.device('cpu'),
            dict(cpu='cpu'),
            lambda storage, place: storage if place == 'cpu' else None,
            lambda storage, place: None,
        ],
    )
    @pytest.mark.parametrize('zipped', [True, False])
    def test_map_location_is_torchs(self, tmp_path, zipped, where):
        path = tmp_path / 'x.pth'
        torch.save(WEIGHTS, path, _use_new_zipfile_serialization=zipped)
        found = read_checkpoint(path, where)['weight']
        assert torch.equal(found, WEIGHTS['weight'])

    def test_tensors_go_where_they_are_asked_to_go(self, tmp_path):
        path = tmp_path / 'x.pth'
        torch.save(dict(a=WEIGHTS, b=WEIGHTS), path)
        with pytest.raises(CheckpointError, match='not dense'):
            read_checkpoint(path, 'meta')  # the one device that is everywhere

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r'nowhere\.pth'):
            read_checkpoint(tmp_path / 'nowhere.pth')

    @pytest.mark.parametrize(
        ('content', 'message'),
        [
            (torch.zeros(1), 'contains a Tensor'),
            (WEIGHTS | dict(lr=0.1), 'must be tensors, unlike lr'),
            (WEIGHTS | {3: torch.zeros(1)}, 'be strings; found 3'),
            (dict(model=WEIGHTS, epoch=3), 'unlike model, epoch'),
            (dict(state_dict=[torch.ones(1)]), 'no state dict, but a list'),
        ],
    )
    def test_what_is_no_state_dict_is_said(self, tmp_path, content, message):
        torch.save(content, tmp_path / 'x.pth')
        with pytest.raises(CheckpointError, match=message):
            read_state_dict(tmp_path / 'x.pth')


class TestSafety:
    @pytest.fixture(autouse=True)
    def _ask_torch_for_unsafe_loading(self, monkeypatch):
        monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')

    @pytest.mark.parametrize('zipped', [True, False])
    def test_payloads_are_refused_and_not_run(self, tmp_path, zipped):
        path, witness = tmp_path / 'evil.pth', tmp_path / 'witness'
        torch.save(
            dict(state_dict=WEIGHTS, extra=Payload(witness)),
            path,
            _use_new_zipfile_serialization=zipped,
        )
        with pytest.raises(CheckpointError, match='mkdir'):
            read_checkpoint(path)
        assert not witness.exists()
        # Unsafe on purpose: the payload of this test does work.
        torch.load(path, weights_only=False)
        assert witness.exists()

    def test_the_configs_python_is_dropped(self, tmp_path):
        path = tmp_path / 'x.pth'
        torch.save(dict(meta=dict(config='1 / 0', epoch=3)), path)
        assert read_checkpoint(path)['meta'] == dict(epoch=3)


class TestWriting:
    def test_the_name_does_not_change_the_bytes(self, tmp_path):
        for name in ('a.pth', 'b.pth'):
            write_checkpoint(WEIGHTS, tmp_path / name)
        assert sha256(tmp_path / 'a.pth') == sha256(tmp_path / 'b.pth')

    def test_a_failure_leaves_the_old_file_and_nothing_else(self, tmp_path):
        path = tmp_path / 'x.pth'
        write_checkpoint(WEIGHTS, path)
        before = path.read_bytes()
        with pytest.raises(AttributeError):
            write_checkpoint(dict(unpicklable=lambda: None), path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize(
        ('name', 'message'),
        [
            ('x.ckpt', 'must end in one of'),
            ('x', 'must end in one of'),
            ('folder.pth', 'is a folder'),
            ('old.pth', 'pass --force'),
        ],
    )
    def test_outputs_are_refused_before_the_work(
        self, tmp_path, name, message
    ):
        (tmp_path / 'folder.pth').mkdir()
        (tmp_path / 'old.pth').touch()
        with pytest.raises(CheckpointError, match=message):
            check_out(tmp_path / name, force=False)
        check_out(tmp_path / 'old.pth', force=True)

    @pytest.mark.parametrize('name', ['x.pth', 'x.safetensors'])
    def test_tensors_that_share_memory(self, tmp_path, name):
        values = torch.arange(6.0)
        weights = dict(a=values, b=values, c=values[:4], d=values[4:])
        write_checkpoint(dict(state_dict=weights), tmp_path / name)
        found = read_state_dict(tmp_path / name)
        assert all(torch.equal(found[key], weights[key]) for key in weights)

    def test_folders_are_made(self, tmp_path):
        write_checkpoint(WEIGHTS, tmp_path / 'new' / 'x.pth')
        assert (tmp_path / 'new' / 'x.pth').is_file()


@pytest.mark.parametrize('name', ['x.pt', 'x.safetensors'])
@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'is empty'),
        (b'\n<!DOCTYPE html><html>', 'is a web page'),
        (b'version https://git-lfs.github.com/spec/v1\n', 'Git LFS'),
        (b'# Gr\xc3\xbc\xc3\x9fe\nlr = 1\n', 'is a text file .a config'),
        (b'PK\x03\x04' + bytes(99), 'not a readable checkpoint'),
        (bytes(8) + b'{}', 'not a readable checkpoint'),
        (b'\xff' * 99, 'not a readable checkpoint'),
    ],
)
def test_what_is_no_checkpoint_gets_one_sentence(
    tmp_path, name, content, message
):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_state_dict(tmp_path / name)


@pytest.mark.parametrize(
    ('score', 'is_kept'),
    [(torch.tensor(0.5), True), (torch.ones(2), False), ('high', False)],
)
def test_scores_are_numbers_or_left_out(tmp_path, score, is_kept):
    hub = dict(runtime_info=dict(best_score=score))
    torch.save(dict(WEIGHTS, message_hub=hub), tmp_path / 'x.pth')
    found = read_checkpoint(tmp_path / 'x.pth')['message_hub']['runtime_info']
    assert found == (dict(best_score=score) if is_kept else {})


@pytest.mark.parametrize(
    ('wrap', 'name'),
    [
        (lambda w: dict(a=w), 'a'),
        (lambda w: dict(state_dict={}, ema_state_dict=dict(a=w)), 'ema_.*a'),
        (
            lambda w: dict(
                state_dict={}, optimizer=dict(state={3: dict(exp_avg=w)})
            ),
            r'optimizer\.state\.3\.exp_avg',
        ),
        (lambda w: dict(state_dict={}, schedulers=[dict(x=(w,))]), r'0\.x\.0'),
        # Each below the limit.
        (lambda w: dict(state_dict={}, a=[w[: 2**17]] * 4), r'a\.2'),
    ],
)
def test_inflated_tensors_are_refused_wherever_they_are(tmp_path, wrap, name):
    """Views of a terabyte, in a file of a kilobyte."""
    path = tmp_path / 'x.pth'
    torch.save(wrap(torch.zeros(1).expand(2**40)), path)
    for read in (read_checkpoint, open_weights):
        with pytest.raises(
            CheckpointError, match=rf'{name} claims [\d,]{{7}}'
        ):
            read(path)


def test_small_views_and_shared_storages_are_read(tmp_path):
    path, storage = tmp_path / 'x.pth', torch.randn(2**20)
    views = {str(i): storage[i:] for i in range(8)}
    torch.save(dict(state_dict=views, mean=torch.ones(1).expand(3)), path)
    checkpoint = read_checkpoint(path)
    assert torch.equal(checkpoint['mean'], torch.ones(3))
    torch.testing.assert_close(checkpoint['state_dict'], views, rtol=0, atol=0)


def test_a_flipped_bit_is_seen(tmp_path):
    """torch.load itself gives other weights, without a word."""
    path, weights = tmp_path / 'x.pth', torch.arange(1000.0)
    write_checkpoint(dict(state_dict=dict(a=weights)), path)
    content = bytearray(path.read_bytes())
    content[content.index(weights[500:504].numpy().tobytes())] ^= 1
    path.write_bytes(content)
    assert not torch.equal(torch.load(path)['state_dict']['a'], weights)
    for read in (read_checkpoint, read_state_dict):
        with pytest.raises(CheckpointError, match='the wrong checksum'):
            read(path)
