"""Real data that installed packages ship: sklearn's digits, and Fashion-MNIST files in the idx format."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import ProblemError
from ..subsets import balanced_indices

FASHION_MNIST = "/usr/share/datasets/fashion-mnist"  # where Debian's package puts it
Pair = tuple[Tensor, Tensor]


def digits(test_share: float, split_seed: int) -> tuple[Pair, Pair | None]:
    """1,797 handwritten digits of 8 x 8 pixels in [0, 1], (samples, 64), split with equal shares of every class.

    Raises:
        ProblemError: a share outside [0, 1).
    """
    from sklearn.datasets import load_digits

    if not 0 <= test_share < 1:
        raise ProblemError(f"test_share must lie in [0, 1), got {test_share}")
    pixels, labels = load_digits(return_X_y=True)
    inputs = torch.from_numpy((pixels / 16).astype(np.float32))  # (1797, 64)
    targets = torch.from_numpy(labels.astype(np.int64))
    if not test_share:
        return (inputs, targets), None
    held_out = balanced_indices(targets, round(test_share * len(targets)), split_seed)
    keep = torch.ones(len(targets), dtype=torch.bool)
    keep[held_out] = False
    return (inputs[keep], targets[keep]), (inputs[held_out], targets[held_out])


def fashion_mnist(root: str, samples: int, test_samples: int) -> tuple[Pair, Pair | None]:
    """The first class-balanced samples of a folder of idx files: images (samples, 1, 28, 28) in [0, 1] and labels.

    Raises:
        ProblemError: the files are missing or are no idx files.
    """
    train = _balanced(_images_and_labels(Path(root), "train"), samples)
    return train, _balanced(_images_and_labels(Path(root), "t10k"), test_samples) if test_samples else None


def _balanced(pair: Pair, samples: int) -> Pair:
    if not 1 <= samples <= len(pair[1]):
        raise ProblemError(f"samples must lie between 1 and {len(pair[1])}, got {samples}")
    chosen = balanced_indices(pair[1], samples, 0)
    return pair[0][chosen], pair[1][chosen]


def _images_and_labels(root: Path, part: str) -> Pair:
    images = read_idx(root, f"{part}-images-idx3-ubyte")
    labels = read_idx(root, f"{part}-labels-idx1-ubyte")
    inputs = torch.from_numpy(images.astype(np.float32) / 255)[:, None]  # (samples, 1, 28, 28)
    return inputs, torch.from_numpy(labels.astype(np.int64))


def read_idx(root: Path, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """An idx file of unsigned bytes, gzipped or not: two zero bytes, type 8, number of axes, their lengths, the data.

    Raises:
        ProblemError: it is missing or damaged.
    """
    file = next((f for f in (root / f"{name}.gz", root / name) if f.is_file()), None)
    if file is None:
        raise ProblemError(
            f"there is no '{name}.gz' in {root}. On Debian: apt-get install dataset-fashion-mnist; "
            "else give the folder that holds the four idx files: --problem-set data_root=FOLDER"
        )
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        axes = content[3]
        shape = tuple(int(n) for n in np.frombuffer(content, dtype=">u4", count=axes, offset=4))
        if content[:3] != b"\0\0\x08":
            raise ValueError("it does not start as an idx file of bytes does")
        return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * axes).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise ProblemError(f"'{file}' is no readable idx file: {error}") from error
