from pathlib import Path

import pytest

from mmclip.adapting.run_files.run_folder import RunFolder
from mmclip.errors import CheckpointError


@pytest.mark.parametrize(('size', 'stays'), [(90, True), (110, False)])
def test_features_stay_if_they_take_less_than_the_model(tmp_path, size, stays):
    run = RunFolder(tmp_path)
    run.model.write_bytes(bytes(100))
    (run.features / 'a').mkdir(parents=True)
    (run.features / 'a' / 'features.npy').write_bytes(bytes(size))
    run.end()
    assert run.features.exists() is stays


@pytest.mark.parametrize('name', ['features', 'replaced', 'tuning'])
def test_a_users_folder_that_would_be_removed_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(CheckpointError, match=f'not of a run, such as {name}'):
        RunFolder(tmp_path).check_free([tmp_path / name], [], force=False)


def test_only_the_replaced_run_is_removed(tmp_path):
    run = RunFolder(tmp_path)
    for path in run.results:
        path.touch()
    run.begin()
    notes = run.replaced / 'notes.txt'
    notes.touch()
    run.model.touch()
    run.end()
    assert list(run.replaced.iterdir()) == [notes]


@pytest.mark.parametrize('moved', range(8))
def test_a_finished_run_is_set_aside_whole(tmp_path, monkeypatch, moved):
    run = RunFolder(tmp_path)
    for path in run.results:
        path.touch()
    rename = Path.replace

    def stop(path, target):
        if len(list(run.replaced.iterdir())) == moved:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, 'replace', stop)
        with pytest.raises(KeyboardInterrupt):
            run.begin()
    run.begin()
    names = {path.name for path in run.results}
    assert {path.name for path in run.replaced.iterdir()} == names
