import math

import numpy as np
import pytest

from mmclip.adapting.tuning.training import has_learned


@pytest.mark.parametrize(
    ('loss', 'right', 'learned'),
    [
        (0.1, None, True),
        (math.log(10), None, False),
        (math.log(10) - 0.01, None, False),
        (0.1, (500, 1000), True),
        (0.1, (105, 1000), False),
    ],
)
def test_a_run_that_only_guesses_has_not_learned(loss, right, learned):
    noise = np.random.default_rng(0).normal(0, 0.1, 100)
    assert has_learned(loss + noise, 10, right) is learned
