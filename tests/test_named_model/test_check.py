import pytest

from mmclip.errors import CheckpointError
from mmclip.named_model.check import check_model


@pytest.mark.parametrize('scheme', ['', 'open_clip://'])
def test_models_have_a_name_and_a_tag(scheme):
    check_model(f'{scheme}ViT-B-32/openai', None)
    with pytest.raises(CheckpointError, match="no model 'ViT-B-33'"):
        check_model(f'{scheme}ViT-B-33/openai', None)
    with pytest.raises(CheckpointError, match='give NAME/TAG'):
        check_model(f'{scheme}ViT-B-32', None)
