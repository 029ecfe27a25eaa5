from mmclip.commands import test, train

SHORT = ('--cfg-options', 'log_level=WARNING')
EPOCH = 'train_cfg.max_epochs=1'


def test_the_screen_is_short_and_the_log_is_not(project, call):
    trained = call(train.main, 'config.py', *SHORT, EPOCH)
    checkpoint = 'work_dirs/config/epoch_1.pth'
    # mmengine names logs by the second, in which both may be.
    named = (*SHORT, 'experiment_name=tested')
    where = ('--work-dir', 'work_dirs/tested')
    tested = call(test.main, 'config.py', checkpoint, *where, *named)
    assert trained.code == tested.code == 0
    assert 'INFO' not in trained.out + tested.out
    assert 'accuracy/top1 ' in tested.out
    logs = [path.read_text() for path in project.glob('work_dirs/*/*/*.log')]
    assert len(logs) == 2
    assert all('System environment' in log for log in logs)


def test_otherwise_the_log_is_on_the_screen(project, call):
    trained = call(train.main, 'config.py', '--cfg-options', EPOCH)
    assert 'System environment' in trained.out
