import pytest

from mmclip.checkpoint import CheckpointError, convert_source, write_checkpoint
from mmclip.named_model.encoder import open_encoder
from tests.conftest import save_whole_model


@pytest.fixture
def converted(tmp_path) -> dict:
    """What is converted from a whole model in ``tmp_path``."""
    save_whole_model(tmp_path)
    config = str(tmp_path / 'open_clip_config.json')
    return convert_source(config, str(tmp_path))[0]


def test_a_folder_has_both_towers_and_a_file_one(converted, tmp_path):
    file = tmp_path / 'tower.pt'
    write_checkpoint(converted, file)
    both, one = open_encoder(str(tmp_path)), open_encoder(str(file))
    assert one.embed is None
    assert one.state_dict.keys() == both.state_dict.keys()
    width, dim = both.projection.weight.shape
    assert both.width() == one.width() == width
    text = both.embed(['cat', 'dog'], ['a {}'], print)
    assert text.embeddings.shape == (2, dim)


def test_a_tower_without_its_projection_has_that_width(converted, tmp_path):
    encoder = open_encoder(str(tmp_path))
    assert 'proj_dim' in encoder.backbone(projects=True)
    assert 'proj_dim' not in encoder.backbone(projects=False)


@pytest.mark.parametrize(
    ('part', 'said'),
    [('clip', 'was not made by mmclip'), ('preprocess', 'does not say how')],
)
def test_a_file_that_does_not_know_itself(converted, tmp_path, part, said):
    if part == 'clip':
        del converted['meta']['clip']
    else:
        converted['meta']['clip']['preprocess'] = None
    write_checkpoint(converted, tmp_path / 'tower.pt')
    with pytest.raises(CheckpointError, match=said):
        open_encoder(str(tmp_path / 'tower.pt'))


def test_a_folder_without_a_config(tmp_path):
    with pytest.raises(CheckpointError, match='has no open_clip_config'):
        open_encoder(str(tmp_path))
