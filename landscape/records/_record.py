"""The base of all records: frozen, arrays with named axes and units, JSON values beside them."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import ProblemError

Array = NDArray[np.float64]
Meta = dict[str, Any]
Axes = dict[str, tuple[tuple[str, ...], str]]  # field -> (names of its axes, unit)

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\Z")


class Record:
    """Array fields are those of `axes`, all others are JSON values.

    Axes of equal name have equal length within one record: it checks its shapes when it is made.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]  # every kind of record is a dataclass
    kind: ClassVar[str]
    made_by: ClassVar[str] = ""  # what `landscape` is told to make one
    axes: ClassVar[Axes] = {}
    large: ClassVar[tuple[str, ...]] = ()  # fields of weight dimension: kept apart on disk, read only on demand
    nested: ClassVar[dict[str, type[Record]]] = {}  # fields that are lists of records
    meta: Meta

    def __post_init__(self) -> None:
        lengths: dict[str, int] = {}
        for name, (axes, _unit) in self.axes.items():
            array = getattr(self, name)
            if array is None:
                continue
            if array.ndim != len(axes):
                raise ValueError(f"{self.kind}.{name} must have axes {axes}, got an array of shape {array.shape}")
            for axis, length in zip(axes, array.shape, strict=True):
                known = lengths.setdefault(axis, length)
                if known != length:
                    lacks = f"axis '{axis}' has length {length}, other arrays have {known}"
                    raise ValueError(f"{self.kind}.{name}: {lacks}")

    @property
    def key(self) -> str:
        """The name under which it is stored: `kind-...`, unique within a run."""
        raise NotImplementedError

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The array fields that are present, by name."""
        found = {name: getattr(self, name) for name in self.axes}
        return {name: array for name, array in found.items() if array is not None}

    def values_dict(self) -> dict[str, Any]:
        """The fields that are neither arrays nor records: JSON values."""
        names = [f.name for f in dataclasses.fields(self)]
        return {name: getattr(self, name) for name in names if name not in self.axes and name not in self.nested}

    @classmethod
    def build(cls, arrays: dict[str, NDArray[Any]], values: dict[str, Any]) -> Self:
        """Inverse of `arrays()` and `values_dict()`; unknown entries of newer formats are ignored."""
        given: dict[str, Any] = {**values, **arrays}
        known = {f.name: str(f.type) for f in dataclasses.fields(cls)}
        numbers = {k: np.nan for k, v in given.items() if v is None and known.get(k) == "float"}  # NaN is null in JSON
        fields = {k: v for k, v in {**given, **numbers}.items() if k in known}
        for name, value in fields.items():
            if not fits(value, known[name]):
                raise ValueError(f"{cls.kind}.{name} must be {known[name]}, got {type(value).__name__}")
        return cls(**fields)


# What a field's annotation admits when it is read; annotations with other names in them are not checked.
_ADMITTED: dict[str, tuple[type, ...]] = {
    "str": (str,), "int": (int,), "float": (int, float), "bool": (bool,), "None": (type(None),), "Meta": (dict,),
    "dict": (dict,), "list": (list,), "Array": (np.ndarray,), "NDArray": (np.ndarray,),
}  # fmt: skip


def fits(value: Any, annotation: str) -> bool:
    """Whether a value is of its field's type, such as 'int | None' or 'list[str]'; arrays must hold numbers."""
    numbers = "biuf" if annotation.startswith("Array") else "biufc"
    if isinstance(value, np.ndarray) and value.dtype.kind not in numbers:
        return False
    if isinstance(value, int) and abs(value) >= 1 << 53:  # no step, size or seed, and no float either
        return False
    names = [name.strip() for name in re.sub(r"\[.*\]", "", annotation).split("|")]
    if any(name not in _ADMITTED for name in names):
        return True
    return isinstance(value, tuple(kind for name in names for kind in _ADMITTED[name]))


def check_key(key: str) -> str:
    """A key names one directory: letters, digits and ._+- only, so that no key leaves the store.

    Raises:
        ProblemError: anything else.
    """
    if not _KEY.match(key) or ".." in key:
        raise ProblemError(f"'{key}' is no record key: letters, digits, '.', '_', '+' and '-' only")
    return key


def operator_key(operator: str) -> str:
    """An operator's name as part of a key: itself, or for one such as 'hessian[0.*]' its letters and a digest."""
    if re.fullmatch(r"[A-Za-z0-9_.]+", operator) and ".." not in operator:
        return operator
    letters = re.sub(r"[^A-Za-z0-9]+", "_", operator).strip("_")
    return f"{letters[:60]}.{hashlib.sha256(operator.encode()).hexdigest()[:8]}"


def file_name(name: str) -> str:
    """A run's name as part of a key."""
    return re.sub(r"[^A-Za-z0-9._+-]", "_", name)
