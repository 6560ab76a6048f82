"""Real images: scikit-learn's digits, Fashion-MNIST files in the idx format, CIFAR-10 files in its binary format."""

from __future__ import annotations

import gzip
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ProblemError, UsageError
from ..loss.subsets import balanced_indices

FASHION_MNIST = "/usr/share/datasets/fashion-mnist"  # where Debian's package puts it
Pair = tuple[Tensor, Tensor]
Bytes = NDArray[np.uint8]


def digits(test_share: float, split_seed: int) -> tuple[Pair, Pair | None]:
    """1,797 handwritten digits of 8 x 8 pixels in [0, 1], (samples, 64), split with equal shares of every class.

    Raises:
        ProblemError: a share outside [0, 1).
    """
    if not 0 <= test_share < 1:
        raise ProblemError(f"test_share must lie in [0, 1), got {test_share}")
    pixels, labels = _digits()
    inputs = torch.from_numpy((pixels / 16).astype(np.float32))  # (1797, 64)
    targets = torch.from_numpy(labels.astype(np.int64))
    if not test_share:
        return (inputs, targets), None
    held_out = balanced_indices(targets, round(test_share * len(targets)), split_seed)
    keep = torch.ones(len(targets), dtype=torch.bool)
    keep[held_out] = False
    return (inputs[keep], targets[keep]), (inputs[held_out], targets[held_out])


def _digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Pixels (samples, 64) in [0, 16] and labels (samples,), as scikit-learn's `load_digits` gives them.

    Its table is read without importing it, which costs more than many a job on this problem.
    """
    package = find_spec("sklearn")
    table = Path(package.origin).parent / "datasets/data/digits.csv.gz" if package and package.origin else None
    if table is None or not table.is_file():  # kept elsewhere by another version
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        return pixels, labels
    rows = np.loadtxt(table, delimiter=",")
    return rows[:, :-1], rows[:, -1].astype(np.int64)


def images(
    data: str, choices: tuple[str, ...], pixels: int, samples: int | None, test_samples: int, data_root: str
) -> tuple[Pair, Pair | None]:
    """Training and test images (samples, channels, pixels, pixels) in [0, 1] with their labels (samples,).

    Nothing is interpolated: smaller images are enlarged by whole factors and framed with zeros.

    Args:
        samples: None for 2,000, or all where there are fewer.

    Raises:
        UsageError: data that is no choice.
        ProblemError: the files are missing or damaged, or hold fewer samples than asked for.
    """
    if data not in choices:
        raise UsageError(f"unknown data '{data}'; the choices are {', '.join(choices)}")
    if data == "digits":
        train, test = digits(0.2, 0)
        train = _balanced(train, min(2000, len(train[1])) if samples is None else samples)
        test = _balanced(test, min(test_samples, len(test[1]))) if test and test_samples else None
    else:
        read = fashion_mnist if data == "fashion_mnist" else cifar10
        train, test = read(data_root, 2000 if samples is None else samples, test_samples)
    return _framed(train, pixels), _framed(test, pixels) if test else None


def _framed(pair: Pair, pixels: int) -> Pair:
    """Images enlarged by the largest whole factor that fits, in a frame of zeros."""
    small = pair[0] if pair[0].ndim == 4 else pair[0].view(-1, 1, 8, 8)  # the digits come flat
    factor, margin = divmod(pixels, small.shape[-1])
    large = small.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
    before, after = margin // 2, margin - margin // 2
    return torch.nn.functional.pad(large, (before, after, before, after)), pair[1]


def fashion_mnist(root: str, samples: int, test_samples: int) -> tuple[Pair, Pair | None]:
    """The first class-balanced samples of a folder of idx files: images (samples, 1, 28, 28) in [0, 1] and labels.

    Raises:
        ProblemError: the files are missing or are no idx files.
    """

    def part(name: str, count: int) -> Pair:
        pixels = read_idx(Path(root), f"{name}-images-idx3-ubyte")
        labels = read_idx(Path(root), f"{name}-labels-idx1-ubyte")
        return _chosen(pixels[:, None], labels, count)

    return part("train", samples), part("t10k", test_samples) if test_samples else None


def cifar10(root: str, samples: int, test_samples: int) -> tuple[Pair, Pair | None]:
    """The first class-balanced samples of CIFAR-10's binary version: images (samples, 3, 32, 32) in [0, 1] and labels.

    A file is a row of records of 3,073 bytes: the label, then 32 x 32 pixels of red, of green and of blue.

    Raises:
        ProblemError: the files are missing or have another length.
    """

    def part(names: list[str], count: int) -> Pair:
        records = np.concatenate([_cifar_records(Path(root), name) for name in names])
        return _chosen(records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0], count)

    train = part([f"data_batch_{i}.bin" for i in range(1, 6)], samples)
    return train, part(["test_batch.bin"], test_samples) if test_samples else None


def _cifar_records(root: Path, name: str) -> Bytes:
    file = next((f for f in (root / name, root / "cifar-10-batches-bin" / name) if f.is_file()), None)
    if file is None:
        raise ProblemError(
            f"there is no '{name}' in {root}; give the folder of CIFAR-10's binary version: "
            "--problem-set data_root=FOLDER"
        )
    content = np.frombuffer(file.read_bytes(), dtype=np.uint8)
    if not len(content) or len(content) % 3073:
        raise ProblemError(f"'{file}' is no file of CIFAR-10's binary version: its length is no multiple of 3,073")
    return content.reshape(-1, 3073)


def _chosen(pixels: Bytes, labels: Bytes, samples: int) -> Pair:
    """A class-balanced part of images of bytes, as numbers in [0, 1]; the others are never converted."""
    places, targets = _balanced((torch.arange(len(labels)), torch.from_numpy(labels.astype(np.int64))), samples)
    return torch.from_numpy(pixels[places.numpy()].astype(np.float32) / 255), targets


def _balanced(pair: Pair, samples: int) -> Pair:
    if not 1 <= samples <= len(pair[1]):
        raise ProblemError(f"samples must lie between 1 and {len(pair[1])}, got {samples}")
    chosen = balanced_indices(pair[1], samples, 0)
    return pair[0][chosen], pair[1][chosen]


def read_idx(root: Path, name: str) -> Bytes:
    """An idx file of unsigned bytes, gzipped or not: two zero bytes, type 8, number of axes, their lengths, the data.

    Raises:
        ProblemError: it is missing or damaged.
    """
    file = next((f for f in (root / f"{name}.gz", root / name) if f.is_file()), None)
    if file is None:
        raise ProblemError(
            f"there is no '{name}.gz' in {root}. On Debian: apt-get install dataset-fashion-mnist; "
            "else give the folder that holds the four idx files, --problem-set data_root=FOLDER, "
            "or take scikit-learn's digits: --problem-set data=digits"
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
