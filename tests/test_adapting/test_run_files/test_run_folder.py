import pytest

from mmclip.adapting.run_files.run_folder import RunFolder


@pytest.mark.parametrize(('size', 'stays'), [(90, True), (110, False)])
def test_features_stay_if_they_take_less_than_the_model(tmp_path, size, stays):
    run = RunFolder(tmp_path)
    run.model.write_bytes(bytes(100))
    (run.features / 'a').mkdir(parents=True)
    (run.features / 'a' / 'features.npy').write_bytes(bytes(size))
    run.end()
    assert run.features.exists() is stays
