"""mmpretrain's augmentation in less time."""

from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from mmpretrain.datasets import transforms
from mmpretrain.datasets.transforms import auto_augment

from mmclip.registry import TRANSFORMS

# An image with every level, (1, 256, 3).
LEVELS = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)


@TRANSFORMS.register_module()
class RandAugment(transforms.RandAugment):
    """mmpretrain's ``RandAugment``: the same pixels for the same seed.

    Takes the arguments of mmpretrain's. What an operation makes of a value is
    computed once for the 256 levels of a channel, and looked up for pixels.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        operations = list(zip(self, self.policies, strict=True))
        self.transforms: list[Any] = [
            FASTER.get(type(operation), type(operation))(
                **{k: v for k, v in policy.items() if k != 'type'}
            )
            for operation, policy in operations
        ]


class ByLevel(auto_augment.BaseAugTransform):
    """A mixin for operations on each value by itself."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change ``results['img']``, BGR ``(H, W, 3)`` uint8."""
        levels = self.levels_of(results['img'])
        changed = super().transform(dict(img=levels))['img']
        if changed is not levels:  # as often as drawn
            results['img'] = cv2.LUT(results['img'], changed)
        return results

    def levels_of(self, pixels: np.ndarray) -> np.ndarray:
        """Return every level that the pixels may have, ``(1, 256, 3)``."""
        return LEVELS


class Invert(ByLevel, auto_augment.Invert):
    """mmpretrain's ``Invert``."""


class Posterize(ByLevel, auto_augment.Posterize):
    """mmpretrain's ``Posterize``."""


class Solarize(ByLevel, auto_augment.Solarize):
    """mmpretrain's ``Solarize``."""


class SolarizeAdd(ByLevel, auto_augment.SolarizeAdd):
    """mmpretrain's ``SolarizeAdd``."""


class Brightness(ByLevel, auto_augment.Brightness):
    """mmpretrain's ``Brightness``."""


class AutoContrast(ByLevel, auto_augment.AutoContrast):
    """mmpretrain's ``AutoContrast``, which looks at the extremes."""

    def levels_of(self, pixels: np.ndarray) -> np.ndarray:
        """Return the levels between the extremes of each channel."""
        extremes = [cv2.minMaxLoc(c)[:2] for c in cv2.split(pixels)]
        lowest, highest = np.array(extremes, np.uint8).T
        return LEVELS.clip(lowest, highest)


class Contrast(auto_augment.Contrast):
    """mmpretrain's ``Contrast``, around the mean of the greys."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change ``results['img']``, BGR ``(H, W, 3)`` uint8."""
        if self.random_disable():
            return results
        magnitude = self.magnitude
        if magnitude is None:
            magnitude = self.random_magnitude()
        factor = 1 + self.random_negative(magnitude)
        pixels = results['img']
        greys = mmcv.bgr2gray(pixels)
        mean = round(greys.sum() / greys.size)
        levels = LEVELS.astype(np.float32)
        changed = cv2.addWeighted(
            levels, factor, np.full_like(levels, mean), 1 - factor, 0
        )
        table = changed.clip(0, 255).astype(np.uint8)
        results['img'] = cv2.LUT(pixels, table)
        return results


class Equalize(auto_augment.Equalize):
    """mmpretrain's ``Equalize``, by the histogram of each channel."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change ``results['img']``, BGR ``(H, W, 3)`` uint8."""
        if self.random_disable():
            return results
        pixels = results['img']
        table = LEVELS.copy()
        for channel in range(3):
            counts = cv2.calcHist([pixels], [channel], None, [256], [0, 256])
            counts = counts.ravel().astype(np.int64)
            step = (counts.sum() - counts[counts > 0][-1]) // 255
            if step:
                below = counts.cumsum() - counts
                table[0, :, channel] = np.minimum(
                    (below + step // 2) // step, 255
                )
        results['img'] = cv2.LUT(pixels, table)
        return results


FASTER: dict[type, type] = {
    auto_augment.AutoContrast: AutoContrast,
    auto_augment.Brightness: Brightness,
    auto_augment.Contrast: Contrast,
    auto_augment.Equalize: Equalize,
    auto_augment.Invert: Invert,
    auto_augment.Posterize: Posterize,
    auto_augment.Solarize: Solarize,
    auto_augment.SolarizeAdd: SolarizeAdd,
}


@TRANSFORMS.register_module()
class RandomErasing(transforms.RandomErasing):
    """mmpretrain's ``RandomErasing``, with noise of torch's generator.

    Takes the arguments of mmpretrain's, and fills with the same colours or
    the same distribution.
    """

    def _fill_pixels(
        self, img: np.ndarray, top: int, left: int, h: int, w: int
    ) -> np.ndarray:
        if self.mode == 'const' or self.fill_std is None:
            return super()._fill_pixels(img, top, left, h, w)
        noise = torch.randn(h, w, 3)
        noise *= torch.tensor(self.fill_std)
        noise += torch.tensor(self.fill_color)
        img[top : top + h, left : left + w] = noise.clamp_(0, 255).byte()
        return img
