"""Train a tiny CLIP on glyphs with open_clip's own model and loss."""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from glyphs import make_glyph_pairs
from torch import Tensor, nn
from tqdm import tqdm

EXAMPLES = """examples:
  python %(prog)s
  python %(prog)s --work-dir work_dirs/longer --steps 3000
"""
# In open_clip's format. Captions have up to nine tokens, from the vocabulary
# of open_clip's tokenizer.
MODEL_CFG = dict(
    embed_dim=64,
    quick_gelu=True,
    vision_cfg=dict(
        image_size=32, patch_size=8, width=128, layers=4, head_width=32
    ),
    text_cfg=dict(
        context_length=12, vocab_size=49408, width=64, heads=2, layers=1
    ),
)
PREPROCESS_CFG = dict(
    mean=[0.5] * 3,
    std=[0.5] * 3,
    interpolation='bicubic',
    resize_mode='shortest',
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        '--work-dir',
        type=Path,
        default='work_dirs/demo',
        help='folder for open_clip/ and pretrain.json (default: %(default)s)',
    )
    add('--steps', type=int, default=1000, help='default: %(default)s')
    add('--batch-size', type=int, default=128, help='default: %(default)s')
    add('--lr', type=float, default=1.5e-3, help='default: %(default)s')
    add('--seed', type=int, default=0, help='default: %(default)s')
    return parser.parse_args()


def main() -> None:
    import open_clip

    args = parse_args()
    images, captions = make_glyph_pairs(
        args.steps * args.batch_size, args.seed
    )
    tokenizer = open_clip.SimpleTokenizer(
        context_length=MODEL_CFG['text_cfg']['context_length']
    )
    torch.manual_seed(args.seed)
    model = open_clip.CLIP(**MODEL_CFG)
    optimizer = make_optimizer(model, args.lr)
    tokens = {text: tokenizer(text) for text in set(captions)}
    losses = train(
        model,
        optimizer,
        images,
        torch.cat([tokens[text] for text in captions]),
        args.batch_size,
    )
    folder = args.work_dir / 'open_clip'
    save(model, optimizer, folder)
    curve = args.work_dir / 'pretrain.json'
    curve.write_text(json.dumps(dict(loss=losses)) + '\n')
    print(
        f'wrote {folder} and {curve} (the loss, {losses[-1]:.3f} at the end)'
    )


def make_optimizer(model: nn.Module, lr: float) -> torch.optim.AdamW:
    """Make AdamW with open_clip's settings: no decay of norms and biases."""
    parameters = list(model.parameters())
    return torch.optim.AdamW(
        [
            dict(params=[p for p in parameters if p.ndim >= 2]),
            dict(params=[p for p in parameters if p.ndim < 2], weight_decay=0),
        ],
        lr=lr,
        betas=(0.9, 0.98),
        eps=1e-6,
        weight_decay=0.1,
        fused=True,  # a step of the token embeddings in a fifth of the time
    )


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    tokens: Tensor,
    batch_size: int,
) -> list[float]:
    """Train for one epoch with a rising and falling learning rate.

    Args:
        model (nn.Module): An open_clip model.
        optimizer (torch.optim.Optimizer): Its learning rate is the peak.
        images (Tensor): ``(N, H, W)`` uint8.
        tokens (Tensor): ``(N, L)``.
        batch_size (int): Pairs per step.

    Returns:
        list[float]: The loss of each step.
    """
    import open_clip

    loss_of = open_clip.ClipLoss()
    batches = list(
        zip(images.split(batch_size), tokens.split(batch_size), strict=True)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: lr_factor(step, len(batches))
    )
    losses = []
    progress = tqdm(
        batches, desc='pre-training', unit='step', leave=False, disable=None
    )
    # Such small products of matrices gain little from torch's own threads:
    # on two cores, half a batch per thread takes two thirds of their time.
    num_threads = torch.get_num_threads()
    shares = min(num_threads, 4)
    torch.set_num_threads(1)
    with ThreadPoolExecutor(shares) as threads:
        for some_images, some_tokens in progress:
            optimizer.zero_grad()
            loss = backward(
                model,
                loss_of,
                normalize(some_images).chunk(shares),
                some_tokens.chunk(shares),
                threads,
            )
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            # As in open_clip and CLIP (https://arxiv.org/abs/2103.00020)
            model.logit_scale.data.clamp_(0, math.log(100))
            losses.append(loss)
            progress.set_postfix(loss=f'{loss:.3f}')
    torch.set_num_threads(num_threads)
    return losses


def backward(
    model: nn.Module,
    loss_of: Callable[..., Tensor],
    images: Sequence[Tensor],
    tokens: Sequence[Tensor],
    threads: ThreadPoolExecutor,
) -> float:
    """Add the gradients of a batch's loss, with a share of it per thread.

    The loss compares all pairs of the batch, so it is computed from the
    features of all shares, and its gradients with respect to them are handed
    back to each share: https://arxiv.org/abs/2101.06983, section 3.2.

    Args:
        model (nn.Module): An open_clip model.
        loss_of (Callable): open_clip's loss.
        images (Sequence[Tensor]): One ``(B, 3, H, W)`` per share.
        tokens (Sequence[Tensor]): One ``(B, L)`` per share.
        threads (ThreadPoolExecutor): The threads.

    Returns:
        float: The loss.
    """
    shares = [share[:2] for share in threads.map(model, images, tokens)]
    leaves = [[x.detach().requires_grad_() for x in share] for share in shares]
    features = map(torch.cat, zip(*leaves, strict=True))
    loss = loss_of(*features, model.logit_scale.exp())
    loss.backward()
    gradients = [[leaf.grad for leaf in pair] for pair in leaves]
    list(threads.map(torch.autograd.backward, shares, gradients))
    return loss.item()


def lr_factor(step: int, num_steps: int) -> float:
    """Warm up linearly over a tenth of the steps, then follow a cosine."""
    warmup = max(1, num_steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    share = (step - warmup) / max(1, num_steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * share))


def normalize(images: Tensor) -> Tensor:
    """Turn grey levels (B, H, W) uint8 into model input (B, 3, H, W)."""
    x = images[:, None].expand(-1, 3, -1, -1) / 255
    mean = torch.tensor(PREPROCESS_CFG['mean']).view(3, 1, 1)
    std = torch.tensor(PREPROCESS_CFG['std']).view(3, 1, 1)
    return (x - mean) / std


def save(
    model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path
) -> None:
    """Write a checkpoint as open_clip's training does, and the config.

    ``open_clip.create_model('local-dir:FOLDER')`` looks for these names; it
    does not look for ``.pt``.

    Args:
        model (nn.Module): An open_clip model.
        optimizer (torch.optim.Optimizer): Its optimizer.
        folder (Path): The folder to write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = dict(
        epoch=1,
        name='tiny-clip-on-glyphs',
        state_dict=model.state_dict(),
        optimizer=optimizer.state_dict(),
    )
    torch.save(checkpoint, folder / 'open_clip_pytorch_model.bin')
    config = dict(model_cfg=MODEL_CFG, preprocess_cfg=PREPROCESS_CFG)
    text = json.dumps(config, indent=2) + '\n'
    (folder / 'open_clip_config.json').write_text(text)


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
