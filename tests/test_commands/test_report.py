import pytest

from mmclip.commands.report import main
from tests.test_report.runs import write_run


def test_it_writes_the_page_into_the_folder_of_the_run(tmp_path, capsys):
    run = write_run(tmp_path / 'photos')
    images = ['--root', str(tmp_path / 'images')]
    pages = set()
    for _ in range(2):  # a page of ours may be replaced
        assert main([str(run.path), *images]) == 0
        pages.add(run.report.read_bytes())
    assert len(pages) == 1
    said = capsys.readouterr().out
    assert f'wrote {run.report} (open it in a browser)' in said
    assert 'without pictures' not in said
    assert b'data:image/jpeg' in pages.pop()


def test_pictures_are_only_those_of_a_folder_that_is_named(tmp_path, capsys):
    run = write_run(tmp_path / 'photos')
    assert main([str(run.path)]) == 0
    assert 'data:image/jpeg' not in run.report.read_text()
    said = capsys.readouterr().out
    assert 'without pictures: --root DIR adds' in said
    assert f'(the run had them in {tmp_path / "images"})' in said
    assert main([str(run.path), '--root', str(tmp_path / 'nothing')]) == 2
    assert 'nothing is not a folder' in capsys.readouterr().err


def test_another_file_is_not_overwritten(tmp_path, capsys):
    run, other = (write_run(tmp_path / name) for name in 'ab')
    out = tmp_path / 'pages' / 'both.html'
    line = [str(run.path), str(other.path), '--out', str(out)]
    assert main(line) == 0
    assert 'a <span class="soft">and</span> b' in out.read_text()
    out.write_text('mine')
    assert main(line) == 1
    assert 'pass --force to overwrite it' in capsys.readouterr().err
    assert out.read_text() == 'mine'
    assert main([*line, '--force']) == 0
    assert out.read_text() != 'mine'


@pytest.mark.parametrize('content', [None, '{}', '{'])
def test_what_is_not_a_run_gives_a_sentence(tmp_path, capsys, content):
    if content:
        (tmp_path / 'metrics.json').write_text(content)
    assert main([str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith('error: ') and said.count('\n') == 1
    assert str(tmp_path) in said
