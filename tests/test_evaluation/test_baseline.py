"""The line through standard models that effective robustness is above."""

from pathlib import Path

import numpy as np
import pytest

from mmclip.evaluation.baseline import TABLES, Baseline, fit_baseline

# A few rows of timm's own files, see the README there.
TIMM = Path(__file__).parent / 'timm_results'

# Rows of timm's results-imagenet-r-clean.csv, shortened.
HEADER = 'model,top1,top1_err,top5,top5_err,param_count,img_size'
STANDARD = ['resnet50.a1_in1k', 'resnet50.tv_in1k', 'maxvit_tiny_tf_512.in1k']
OTHERS = [
    'vit_large_patch14_clip_336.openai_ft_in12k_in1k',
    'tf_efficientnet_l2.ns_jft_in1k_475',
    'beitv2_large_patch16_224.in1k_ft_in1k',
    'regnety_320.swag_lc_in1k',
    'tf_efficientnet_b8.ap_in1k',
    'resnet50.ram_in1k',
    'convnext_tiny.dist_in1k',
    'hgnet_small.ssld_in1k',
    'resnet50',
]


def write(path: Path, top1: dict[str, float]) -> Path:
    rows = [f'{m},{v!r},0,0,0,"1,014.45",224' for m, v in top1.items()]
    path.write_text('\n'.join([HEADER, *rows]) + '\n')
    return path


def percent(logits: np.ndarray) -> list[float]:
    return (100 / (1 + np.exp(-logits))).tolist()


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    """Standard models on logit(shift) = 0.8 logit(ImageNet) - 1."""
    x = np.array([-1.0, 0.5, 2.0])
    wild = dict.fromkeys(OTHERS, 98.16)
    return (
        write(
            tmp_path / 'imagenet.csv',
            wild | dict(zip(STANDARD, percent(x), strict=True)),
        ),
        write(
            tmp_path / 'shifted.csv',
            wild | dict(zip(STANDARD, percent(0.8 * x - 1), strict=True)),
        ),
    )


def test_only_standard_models_make_the_line(tables):
    baseline = fit_baseline(*tables)
    assert baseline.models == 3
    assert baseline.slope == pytest.approx(0.8)
    assert baseline.intercept == pytest.approx(-1)
    assert baseline.correlation == pytest.approx(1)


def test_a_model_on_the_line_has_what_is_predicted(tables):
    baseline = fit_baseline(*tables)
    (x,), (y,) = percent(np.array([1.3])), percent(np.array([0.04]))
    assert baseline.predict(x) == pytest.approx(y)


def test_nothing_and_everything_right_stay_so():
    baseline = Baseline(slope=0.8, intercept=-1, correlation=1, models=3)
    assert baseline.predict(0) == 0
    assert baseline.predict(100) == 100


def test_models_without_a_logit_are_left_out(tables):
    imagenet, shifted = tables
    text = shifted.read_text().replace('resnet50.tv_in1k,', 'x.in1k,')
    shifted.write_text(f'{text}resnet50.tv_in1k,0,0,0,0,25,224\n')
    with pytest.raises(ValueError, match='share 2 models'):
        fit_baseline(imagenet, shifted)


def test_a_falling_line_is_refused(tables, tmp_path):
    falling = dict(zip(STANDARD, [30.0, 20.0, 10.0], strict=True))
    shifted = write(tmp_path / 'falling.csv', falling)
    with pytest.raises(ValueError, match='falls as that of imagenet'):
        fit_baseline(tables[0], shifted)


def test_a_missing_table_is_named(tables, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r'none.csv is missing; .*timm'
    ):
        fit_baseline(tables[0], tmp_path / 'none.csv')


def test_another_file_is_refused(tables, tmp_path):
    other = tmp_path / 'other.csv'
    other.write_text('a,b\n1,2\n')
    with pytest.raises(ValueError, match='must have columns model and top1'):
        fit_baseline(tables[0], other)


@pytest.mark.parametrize(
    ('shift', 'models'),
    [
        ('imagenetv2-matched-frequency', 8),
        ('imagenet-sketch', 5),
        ('imagenet-r', 5),
        ('imagenet-a', 5),
    ],
)
def test_timms_own_tables_are_read(shift, models):
    baseline = fit_baseline(*(TIMM / name for name in TABLES[shift]))
    assert baseline.models == models
    assert baseline.correlation > 0.9


def test_timms_models_are_where_the_literature_has_them():
    """Standard models on the line, those that CLIP pre-trained above it."""
    tables = [TIMM / name for name in TABLES['imagenetv2-matched-frequency']]
    baseline = fit_baseline(*tables)
    for imagenet, shifted in (  # maxvit_base, vgg19, mobilenetv3_small
        (86.602, 77.44),
        (72.378, 59.71),
        (57.910, 44.85),
    ):
        assert baseline.predict(imagenet) == pytest.approx(shifted, abs=0.3)
    # eva_giant_patch14_224.clip, vit_large_patch14_clip_336.openai
    for imagenet, shifted in ((88.880, 81.75), (88.268, 80.53)):
        assert shifted - baseline.predict(imagenet) > 0.5
