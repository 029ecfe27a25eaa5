"""LP++: a linear probe that blends image prototypes and class embeddings.

Source: arXiv 2404.02285; github.com/FereshteShakeri/FewShot-CLIP-Strong-
Baseline, ``methods/linear_probe_p2.py`` and ``methods/utils.py``. Images are
encoded once, without random crops, and the number of steps is chosen by
cross-validation, where the authors use validation images.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmclip.few_shot.method import Classifier, Encoded, Method
from mmclip.few_shot.zero_shot import cosine_classifier

STEPS = (300, 100, 30, 10, 0)
ALPHA_SCALE = 250.0
ALPHA_EVERY = 10  # steps of the weights between two of the blend


class LPPlusPlus(Method):
    """Logits ``f . (w_k + alpha_k t_k) + b_k``, trained from a good start.

    f is the feature and t_k the class embedding, both of length one. w starts
    as the sum of a class's features, alpha as 250 times the mean cosine of
    images and their classes, and the step sizes come from the data.
    """

    name = 'lp_plus_plus'
    title = 'LP++'
    source = 'arXiv 2404.02285'
    needs_text = True

    def grid(self, train: Encoded) -> Sequence[dict[str, Any]]:
        """Return numbers of steps."""
        return [dict(steps=steps) for steps in STEPS]

    def fit(self, train: Encoded, **settings: Any) -> Classifier:
        """Run full-batch gradient descent in two blocks."""
        return next(_descend(train, [settings['steps']]))

    def try_all(self, train: Encoded, images: Encoded) -> Iterator[Tensor]:
        """Look at the classifier along one descent."""
        found = {
            steps: classifier.logits(images.pooled)
            for steps, classifier in zip(
                sorted(STEPS), _descend(train, sorted(STEPS)), strict=True
            )
        }
        yield from (found[steps] for steps in STEPS)


def _descend(train: Encoded, stops: Sequence[int]) -> Iterator[Classifier]:
    """Yield the classifier after each of some numbers of steps."""
    assert train.text is not None
    f, t = train.embedded(), train.text.embeddings
    number = len(train)
    one_hot = F.one_hot(train.labels, train.num_classes).to(f)
    cosines = f @ t.T  # (N, K)
    weight = (one_hot.T @ f).requires_grad_()  # sums, not means
    bias = torch.zeros(train.num_classes, requires_grad=True)
    of_class = (one_hot * cosines).sum(0) / one_hot.sum(0)
    alpha = torch.full(
        (train.num_classes,), ALPHA_SCALE * of_class.mean().item()
    ).requires_grad_()
    largest = torch.linalg.eigvalsh(f.T @ f)[-1].item()
    optimizer = torch.optim.SGD(
        [weight, bias], lr=4 * number / largest, momentum=0.9
    )
    alpha_lr = number / (4 * cosines.square().sum(0).max().item())
    for step in range(stops[-1] + 1):
        if step:
            logits = f @ weight.T + alpha * cosines + bias
            optimizer.zero_grad()
            F.cross_entropy(logits, train.labels).backward()
            optimizer.step()
        if step and step % ALPHA_EVERY == 0:
            # The authors never reset alpha's gradient, so each of its steps
            # uses the sum of all gradients so far; without that it hardly
            # moves.
            with torch.no_grad():
                alpha -= alpha_lr * alpha.grad  # type: ignore[operator]
        if step in stops:
            blended = (weight + alpha[:, None] * t).detach()
            yield cosine_classifier(train, blended, bias.detach())
