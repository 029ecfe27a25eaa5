import pytest

from mmclip.adapting.run_files.run_folder import RunFolder
from tests.test_report.runs import write_run


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return write_run(tmp_path / 'runs' / 'photos')
