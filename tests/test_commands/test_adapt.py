"""The command ends well, or with one sentence and nothing half-done."""

import errno
import json
import os
import re
import shutil
import signal

import pytest
from mmengine.config import Config

import mmclip
from mmclip.adapting import adapt as way
from mmclip.adapting import one_label
from mmclip.adapting.run_files.run_folder import RunFolder
from mmclip.commands import export as export_command
from mmclip.commands import predict
from mmclip.commands import report as report_command
from mmclip.commands import test as test_command
from mmclip.commands.adapt import main
from mmclip.few_shot.nearest_neighbours import NearestNeighbours
from mmclip.few_shot.zero_shot import ZeroShot
from mmclip.probing import features
from mmclip.text.zero_shot_head import ZeroShotClsHead
from tests.conftest import save_whole_model, use_hub_cache
from tests.test_adapting.conftest import save_photos


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A folder with ``photos`` of three classes and a tiny CLIP."""
    folder = tmp_path_factory.mktemp('source')
    (folder / 'clip').mkdir()
    save_whole_model(folder / 'clip')
    save_photos(folder / 'photos', number=5)
    return folder


@pytest.fixture
def project(source, tmp_path, monkeypatch):
    """A copy of it as the working directory, and only quick methods."""
    shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    use_hub_cache(monkeypatch, tmp_path / 'hub')
    methods = [ZeroShot(), NearestNeighbours()]
    monkeypatch.setattr('mmclip.adapting.competition.METHODS', methods)
    return tmp_path


def adapt(*arguments):
    return main(
        ['photos', '--model=clip', '--templates=t.txt', *map(str, arguments)]
    )


@pytest.fixture(autouse=True)
def templates(project):
    (project / 't.txt').write_text('a photo of {}\n')


def remove_all_but(number):
    def change(project):
        for folder in (project / 'photos').iterdir():
            for file in sorted(folder.iterdir())[number:]:
                file.unlink()

    return change


def remove_classes(project):
    shutil.rmtree(project / 'photos' / 'red')
    shutil.rmtree(project / 'photos' / 'blue')


def damage_all(project):
    for file in (project / 'photos' / 'red').iterdir():
        file.write_bytes(file.read_bytes()[:200])


def write_names(project):
    (project / 'names.txt').write_text('ink\ngrass\n')


@pytest.mark.parametrize(
    ('change', 'arguments', 'said'),
    [
        (remove_all_but(0), [], 'photos has no images'),
        (remove_all_but(1), [], 'has one image per class'),
        (remove_classes, [], 'one class only'),
        (damage_all, [], 'photos/red/4.png'),
        (write_names, ['--names=names.txt'], '2 names are given for 3 cl'),
        (None, ['--model=ViT-B-23/openai'], "did you mean 'ViT-B-32'"),
        (None, ['--model=ViT-B-32'], 'NAME/TAG'),
        (
            None,
            ['--model=ViT-B-16/openai'],
            'into this folder, and add to the command: --weights open_clip_mo',
        ),
        (None, ['--out=photos/run'], 'add --out'),
        (None, ['--weights=clip'], '--weights is for a NAME/TAG'),
        (None, ['--templates=nothere'], 'no text file nothere'),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    project, capsys, change, arguments, said
):
    if change:
        change(project)
    before = sorted(project.rglob('*'))
    code = adapt(*arguments)
    assert code in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith('error: ')
    assert said in error
    assert sorted(project.rglob('*')) == before


def test_the_screen_is_short_and_the_log_has_all_of_it(project, capsys):
    assert adapt() == 0
    printed = capsys.readouterr()
    assert printed.err == ''
    lines = printed.out.splitlines()
    assert 5 < len(lines) < 20
    log = (project / 'runs/photos/train.log').read_text()
    assert [line for line in lines[:-4] if line not in log] == []
    assert 'remain to be computed' in log
    assert (
        'data:image/jpeg' in (project / 'runs/photos/report.html').read_text()
    )


def test_a_run_of_relative_paths_works_from_anywhere(
    project, capsys, monkeypatch
):
    assert adapt() == 0
    run = RunFolder(project / 'runs' / 'photos')
    accuracy = max(m['val']['accuracy'] for m in run.read_metrics()['methods'])
    (project / 'elsewhere').mkdir()
    monkeypatch.chdir(project / 'elsewhere')
    assert test_command.main([str(run.config), str(run.model)]) == 0
    assert f'accuracy/top1: {accuracy:.4f}' in capsys.readouterr().out
    config = Config.fromfile(run.config)
    assert config.load_from == str(run.model)
    assert config.work_dir == str(run.path / 'training')
    root = run.read_metrics()['data']['root']
    assert root == str(project / 'photos')
    assert report_command.main([str(run.path), '--root', root]) == 0
    assert 'data:image/jpeg' in run.report.read_text()


def test_a_method_can_be_asked_for(project, capsys):
    assert adapt('--method=zero_shot') == 0
    said = capsys.readouterr().out
    assert 'as asked: zero-shot' in said
    assert 'slightly too good' not in said
    run = RunFolder(project / 'runs' / 'photos')
    numbers = run.read_metrics()
    accuracy = {m['name']: m['val']['accuracy'] for m in numbers['methods']}
    assert accuracy['zero_shot'] < accuracy['nearest_neighbours']
    assert numbers['chosen'] == 'zero_shot'
    head = mmclip.load(run.path).model.head
    assert isinstance(head, ZeroShotClsHead)
    assert 'asked for with <code>--method</code>' in run.report.read_text()
    assert 'slightly too good' not in run.card.read_text()


def test_what_timm_cannot_hold_is_told_with_a_way_out(project, capsys):
    assert adapt() == 0
    model = 'runs/photos/model.safetensors'
    assert export_command.main([model, 'x.pt', '--to', 'timm']) == 1
    assert 'adapt IMAGES --method linear_probe' in capsys.readouterr().err
    page = (project / 'runs/photos/report.html').read_text()
    (line,) = re.findall('mmclip (export [^<\n]*)', page)
    assert line == f'export {model} tower --to hf'
    assert export_command.main(line.split()[1:]) == 0
    assert 'left out: head.keys, head.labels' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--method=linear_prob'], 'must be one of zero_shot, nearest'),
        (['--method=prolip'], 'made no classifier of these images'),
        (['--method=fine_tuned', '--recipe=light'], 'needs another --recipe'),
    ],
)
def test_a_method_that_there_is_not(project, capsys, arguments, said):
    assert adapt(*arguments) in (1, 2)
    assert said in capsys.readouterr().err
    assert not (project / 'runs' / 'photos' / 'metrics.json').exists()


def test_all_damaged_images_are_named(project, capsys):
    """Damage inside a file shows only when it is decoded."""
    damaged = [f'photos/{name}/2.png' for name in ('blue', 'red')]
    for path in damaged:
        content = bytearray((project / path).read_bytes())
        content[200:240] = bytes(40)
        (project / path).write_bytes(content)
    assert adapt() == 1
    error = capsys.readouterr().err
    assert error.startswith('error: 2 images cannot be loaded:')
    assert [path for path in damaged if path not in error] == []


def test_a_tower_of_other_blocks_takes_part(project, capsys):
    (project / 'convnext').mkdir()
    tower = dict(
        timm_model_name='convnext_atto',
        timm_pool='',
        timm_proj='linear',
        timm_model_pretrained=False,
        image_size=32,
    )
    save_whole_model(project / 'convnext', vision_cfg=tower, custom_text=True)
    assert adapt('--model=convnext', '--recipe=full') == 0
    assert 'not fine-tuned: the tower' in capsys.readouterr().out


def interrupt(*_):
    raise KeyboardInterrupt


def terminate(*_):
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ('stop', 'code'), [(interrupt, 130), (terminate, 143)]
)
def test_a_stopped_run_says_how_to_go_on(
    project, capsys, monkeypatch, stop, code
):
    with monkeypatch.context() as patch:
        patch.setattr(one_label, 'compete', stop)
        assert adapt('--seed=1') == code
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith('stopped. ')
    assert last.endswith(
        'mmclip adapt photos --model=clip --templates=t.txt --seed=1'
    )
    assert not RunFolder(project / 'runs/photos').metrics.exists()
    assert adapt('--seed=1') == 0
    log = (project / 'runs/photos/train.log').read_text()
    assert '15 of 15 features are in' in log


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    'place', ['report.page.write_report', 'adapting.adapt.write_card']
)
def test_a_run_that_failed_does_not_look_finished(
    project, capsys, monkeypatch, place
):
    assert adapt() == 0
    with monkeypatch.context() as patch:
        patch.setattr(f'mmclip.{place}', full)
        assert adapt('--force') == 1
    assert 'No space left' in capsys.readouterr().err.splitlines()[-1]
    folder = RunFolder(project / 'runs/photos')
    assert not folder.metrics.exists()
    assert not folder.report.exists()
    before = RunFolder(folder.replaced)
    assert predict.main([str(folder.path), 'photos']) == 1
    said = capsys.readouterr().err
    assert f'The run before it is in {before.path}' in said
    assert all(path.is_file() for path in before.results)
    assert predict.main([str(before.path), 'photos']) == 0
    assert adapt() == 0
    assert not before.path.exists()
    assert all(path.is_file() for path in folder.results)


def test_a_bug_leaves_its_traceback_in_the_log(project, monkeypatch):
    monkeypatch.setattr(way, 'look', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        adapt()
    log = (project / 'runs/photos/train.log').read_text()
    assert log.endswith('ZeroDivisionError: division by zero\n')


def test_files_of_others_stay(project, capsys):
    (project / 'mine').mkdir()
    (project / 'mine' / 'README.md').write_text('mine')
    assert adapt('--out=mine', '--force') == 1
    assert 'README.md' in capsys.readouterr().err
    assert (project / 'mine' / 'README.md').read_text() == 'mine'
    (project / 'mine' / 'train.log').write_text('epoch 1: mine')
    assert adapt('--out=mine', '--force') == 1
    (project / 'mine' / 'README.md').unlink()
    assert adapt('--out=mine') == 1
    assert (project / 'mine' / 'train.log').read_text() == 'epoch 1: mine'


def test_a_file_of_the_run_is_not_its_input(project, capsys):
    assert adapt() == 0
    model = 'runs/photos/model.safetensors'
    assert adapt('--force', f'--model={model}') == 1
    assert f'{model} would be overwritten' in capsys.readouterr().err
    assert (project / model).is_file()


def test_the_same_command_gives_the_same_numbers(project):
    found = []
    for out in ('one', 'other'):
        assert adapt(f'--out={out}') == 0
        numbers = json.loads((project / out / 'metrics.json').read_text())
        for key in ('command', 'date', 'seconds'):
            del numbers[key]
        for method in numbers['methods']:
            del method['seconds']
        found.append(numbers)
    assert found[0] == found[1]


def test_how_long_features_take_is_said_with_the_device(
    project, capsys, monkeypatch
):
    monkeypatch.setattr(features, 'LEAST_SECONDS', 0.0)
    save_photos(project / 'more', number=30)
    assert main(['more', '--model=clip', '--templates=t.txt']) == 0
    assert 'features of 90 images on cpu: about ' in capsys.readouterr().out


def test_features_of_a_changed_image_are_computed_again(project):
    assert adapt() == 0
    (project / 'photos/red/0.png').write_bytes(
        (project / 'photos/red/1.png').read_bytes()
    )
    assert adapt('--force') == 0
    log = (project / 'runs/photos/train.log').read_text()
    assert log.count(' 0 of 15 features are in') == 2


def test_a_config_that_is_damaged_is_refused_first(project, capsys):
    (project / 'recipe.py').write_text('model = dict(')
    assert adapt('--recipe=recipe.py') == 1
    said = capsys.readouterr()
    assert 'recipe.py' in said.err and 'images of' not in said.out


def test_a_recipe_beside_a_method_that_does_not_train(project, capsys):
    asked = '--method=nearest_neighbours'
    assert adapt(asked, '--recipe=full') == 2
    assert 'leave one of them out' in capsys.readouterr().err
    assert adapt(asked) == 0
    assert 'not fine-tuned, since --method is' in capsys.readouterr().out


def test_a_run_is_not_put_among_the_images(project, capsys):
    (project / 'photos').rename(project / 'my photos')
    assert main(['my photos', '--model=clip', '--out=my photos']) == 1
    said = capsys.readouterr().err
    assert 'would be among the images in my photos' in said
    assert f"--out '{project}/runs/my photos'" in said
