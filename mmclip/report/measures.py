"""Numbers that a page computes from the answers of a run."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mmclip.report.run import Answer

Confusion = Counter[tuple[str, str]]


@dataclass(frozen=True)
class ClassResult:
    """How well a class is recognised.

    Args:
        name (str): Of the class.
        images (int): Its images.
        right (int): Those of them that were recognised.
        answers (int): How often a classifier gave this answer.
    """

    name: str
    images: int
    right: int
    answers: int

    @property
    def recall(self) -> float | None:
        """The share of its images that are recognised, in percent."""
        return 100 * self.right / self.images if self.images else None

    @property
    def precision(self) -> float | None:
        """The share of the answers that are right, in percent."""
        return 100 * self.right / self.answers if self.answers else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of the two, in percent; None without images."""
        if not self.images:
            return None
        return 200 * self.right / (self.images + self.answers)


def confusion(answers: Sequence[Answer]) -> Confusion:
    """Count the images of each pair of truth and answer."""
    return Counter((a.labels[0], a.names[0]) for a in answers if a.labels)


def class_results(
    counts: Confusion, classes: Sequence[str]
) -> list[ClassResult]:
    """Return the result of each class, in their order."""
    images: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    for (truth, answer), number in counts.items():
        images[truth] += number
        answers[answer] += number
    return [
        ClassResult(name, images[name], counts[name, name], answers[name])
        for name in classes
    ]
