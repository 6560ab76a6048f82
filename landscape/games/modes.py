"""Which modes a generator covers: of a mixture of Gaussians, or the classes of a labelled set of images.

A sample is of high quality within three standard deviations of the nearest mode, as in VEEGAN and PacGAN
(Srivastava et al. 2017; Lin et al. 2018). Every judge here makes its samples from noise of its own, always the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from .game import Judged

SIGMAS = 3.0
CONFIDENT = 0.9  # the classifier's probability from which a made image counts as one of its class


def fixed_noise(samples: int, width: int, seed: int) -> Tensor:
    """Standard normal noise (samples, width), whatever was drawn before."""
    return torch.randn(samples, width, generator=torch.Generator().manual_seed(seed))


def coverage(counts: Tensor, total: int) -> dict[str, float]:
    """Of the good samples of each mode (mode,) among `total`: modes seen, modes with a tenth of their share, evenness.

    `mode_kl` is the Kullback-Leibler divergence of the good samples' modes from uniform; infinite without any.
    """
    modes, good = len(counts), int(counts.sum())
    share = counts.double() / max(good, 1)
    kl = float(torch.xlogy(share, share * modes).sum()) if good else math.inf
    return {
        "modes": float((counts > 0).sum()), "modes_tenth": float((counts >= 0.1 * total / modes).sum()),
        "hq_share": good / total, "mode_kl": kl,
    }  # fmt: skip


class MixtureJudge:
    """Coverage of a mixture of Gaussians with centres (mode, coordinate) and one standard deviation."""

    def __init__(self, centres: Tensor, deviation: float, noise: Tensor) -> None:
        self.centres, self.deviation, self.noise = centres, deviation, noise

    def __call__(self, model: nn.Module) -> Judged:
        samples = _make(model, self.noise)
        distance, nearest = torch.cdist(samples, self.centres.to(samples)).min(dim=1)
        good = nearest[distance <= SIGMAS * self.deviation]
        counts = torch.bincount(good, minlength=len(self.centres)).cpu()
        return Judged(coverage(counts, len(samples)), samples.cpu(), counts.double() / len(samples))


class ClassJudge:
    """Coverage of the classes of labelled images (n, pixels), inception score, and Frechet distance of the pixels.

    Args:
        images, labels: what the classifier is trained on, once and only when it is asked.
        noise: the generator's, (samples, width).
        shape: of an image.

    A class is a mode where at least a hundredth of the samples are confident ones of it.
    """

    def __init__(self, images: Tensor, labels: Tensor, noise: Tensor, shape: tuple[int, ...]) -> None:
        self.images, self.labels, self.noise, self.shape = images, labels, noise, shape
        self.least = max(1, len(noise) // 100)

    @cached_property
    def classifier(self) -> Callable[[Tensor], Tensor]:
        return train_classifier(self.images, self.labels)

    def __call__(self, model: nn.Module) -> Judged:
        samples = _make(model, self.noise).float().cpu()
        with torch.no_grad():
            p = self.classifier(samples).double().softmax(dim=1)
        sure, label = p.max(dim=1)
        counts = torch.bincount(label[sure >= CONFIDENT], minlength=p.shape[1])
        found = coverage(counts, len(samples)) | {"modes": float((counts >= self.least).sum())}
        scores = {"inception_score": inception_score(p), "pixel_fid": frechet_distance(samples, self.images)}
        return Judged(found | scores, samples, counts.double() / len(samples), self.shape)


def _make(model: Any, noise: Tensor) -> Tensor:
    weight = next(model.parameters())
    samples: Tensor = model.generator(noise.to(weight))
    return samples.detach()


def train_classifier(images: Tensor, labels: Tensor, steps: int = 150) -> nn.Module:
    """A small network trained by Adam on all images at once; the same at every call."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        classes = int(labels.max()) + 1
        net = nn.Sequential(nn.Linear(images.shape[1], 64), nn.ReLU(), nn.Linear(64, classes))
        optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
        for _ in range(steps):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(net(images), labels))
            optimizer.step()
    return net.requires_grad_(False).eval()


def inception_score(p: Tensor) -> float:
    """exp of the mean divergence of every sample's classes p (n, classes) from their mean (Salimans et al. 2016)."""
    mean = p.mean(dim=0)
    return math.exp(float((torch.xlogy(p, p) - torch.xlogy(p, mean)).sum(dim=1).mean()))


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2) of two sets of vectors (n, d), as of two Gaussians."""
    (m1, c1), (m2, c2) = _moments(one), _moments(other)
    root = _root(c1)
    cross = torch.linalg.eigvalsh(root @ c2 @ root).clamp(min=0).sqrt().sum()
    return float((m1 - m2).square().sum() + c1.trace() + c2.trace() - 2 * cross)


def _moments(samples: Tensor) -> tuple[Tensor, Tensor]:
    samples = samples.double()
    return samples.mean(dim=0), torch.cov(samples.T, correction=0)


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
