r"""CLIP ViT-L/14 at 336 px, fine-tuned from a linear probe (LP-FT).

Source: arXiv 2202.10054 and its code AnanyaKumar/transfer_learning (K:
scripts/run_adaptation_experiments.py). Published result (abstract): on ten
distribution shifts, four of them from ImageNet (V2, R, A and Sketch), 1 %
better than plain fine-tuning in distribution and 10 % better out of it. None
of this is for this model, which K's script does not have. For CLIP's ViT-B/16,
as quoted by later work: 81.7 % top-1 on ImageNet and 58.7 % on average on V2,
R, A, Sketch and ObjectNet, against 81.3 and 53.7 for fine-tuning
(SoongE/ReCalCon, README.md). K uses one GPU per run. Not trained by this
project.

    python tools/linear_probe.py configs/clip/clip-l-336_linear-probe_in1k.py \
        open_clip://ViT-L-14-336/openai --amp
    bash tools/dist_train.sh configs/clip/clip-l-336_lp-ft_in1k.py 8

Data, augmentation, batch (8 GPUs x 16 images) and schedule are those of the
probe's config. K tries the learning rates 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2
and keeps the best on the validation set; this config has the lowest.
"""

_base_ = ['./clip-l-336_linear-probe_in1k.py']

load_from = 'work_dirs/clip-l-336_linear-probe_in1k/linear_probe.pth'
model = dict(
    backbone=dict(
        frozen_stages=-1,
        init_cfg=None,  # load_from has all weights
    ),
)
optim_wrapper = dict(optimizer=dict(lr=3e-5))  # K: the lowest of the sweep
