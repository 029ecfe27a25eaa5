"""Small images of random pixels."""

import numpy as np

HEIGHT, WIDTH = 6, 9


def random_pixels(channels=3, dtype=np.uint8, seed=0):
    shape = (HEIGHT, WIDTH, channels)[: 3 if channels > 1 else 2]
    high = np.iinfo(dtype).max
    random = np.random.default_rng(seed)
    return random.integers(0, high, shape, dtype, endpoint=True)
