"""Problems by name: a shipped one, `module:function`, or `path/to/file.py:function`."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import plugins
from ..errors import LandscapeError, ProblemError, UsageError
from .problem import Problem

SHIPPED = "landscape.problems"


def build_problem(name: str, settings: Mapping[str, Any] | None = None) -> Problem:
    """Build a problem from its name and settings, as a user types it.

    Raises:
        ProblemError: it cannot be found, fails while it is built, or is no `landscape.Problem`.
        UsageError: settings that its function does not take.
    """
    function = find_function(name)
    check_arguments(function, settings or {}, f"problem '{name}'", "--problem-set")
    try:
        problem = function(**(settings or {}))
    except LandscapeError:
        raise
    except Exception as error:
        raise ProblemError(f"building problem '{name}' failed{_where(error)}: {_text(error)}") from error
    if not isinstance(problem, Problem):
        raise ProblemError(
            f"'{name}' must return a landscape.Problem, got {type(problem).__name__}; "
            "end it with `return landscape.Problem(model, loss, data)`"
        )
    problem.name = problem.name or name
    return problem


def find_function(name: str) -> Callable[..., Any]:
    """The function that builds a problem.

    Raises:
        ProblemError: no such module, file, function or shipped problem.
    """
    place, colon, attribute = name.rpartition(":")
    if not colon:
        shipped = plugins.names(SHIPPED)
        if name not in shipped:
            raise ProblemError(_unknown(name, shipped))
        place, attribute = f"{SHIPPED}.{name}", "build"
    module = _import_file(place, name) if place.endswith(".py") else _import_module(place, name)
    function = getattr(module, attribute, None)
    if not callable(function):
        own = [n for n, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == module.__name__]
        has = f"it has {', '.join(own)}" if own else "it has no functions"
        raise ProblemError(f"'{place}' has no function '{attribute}'; {has}")
    found: Callable[..., Any] = function
    return found


def _unknown(name: str, shipped: list[str]) -> str:
    close = difflib.get_close_matches(name, shipped, n=1)
    guess = f" Did you mean {close[0]}?" if close else ""
    if name.endswith(".py") or Path(name).is_file():
        guess = f" For a file, name its function too: {name}:build"
    return (
        f"there is no problem '{name}'.{guess} The shipped ones are {', '.join(shipped)}; "
        "name your own as module:function or path/to/file.py:function"
    )


def _import_file(place: str, name: str) -> ModuleType:
    file = Path(place).resolve()
    if not file.is_file():
        raise ProblemError(f"cannot find the file '{place}' of problem '{name}'. Looked in: {os.getcwd()}")
    # A name of its own per path, so that two files called problem.py are two modules.
    module_name = f"landscape_user_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None  # a file that ends in .py always has a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    if str(file.parent) not in sys.path:
        sys.path.insert(1, str(file.parent))  # what lies beside the file can be imported by it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise _import_error(place, name, error) from error
    return module


def _import_module(place: str, name: str) -> ModuleType:
    if place.partition(".")[0] in sys.stdlib_module_names:
        raise ProblemError(f"'{name}' is in Python's own library, not a problem; name your own module:function")
    try:
        return importlib.import_module(place)
    except Exception as error:
        raise _import_error(place, name, error) from error


def _import_error(place: str, name: str, error: Exception) -> ProblemError:
    if isinstance(error, ModuleNotFoundError):
        missing = error.name or place
        if place == missing or place.startswith(f"{missing}."):
            return ProblemError(
                f"cannot import '{place}' of problem '{name}': no module named '{missing}'. "
                f"Looked in: {os.getcwd()} and the installed packages. Go to the directory that holds it, or name the "
                "file: path/to/file.py:function"
            )
        return ProblemError(
            f"cannot import '{place}' of problem '{name}': no module named '{missing}'{_where(error)}. "
            f"Looked in: {os.getcwd()} and the installed packages"
        )
    return ProblemError(f"importing '{place}' of problem '{name}' failed{_where(error)}: {_text(error)}")


def _where(error: Exception) -> str:
    """', FILE line N': the deepest frame of the user's own code, which is what there is to mend."""
    if isinstance(error, SyntaxError) and error.filename:
        return f", {_relative(error.filename)} line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    foreign = (sys.prefix, sys.base_prefix, "<", os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    own = [f for f in frames if not os.path.abspath(f.filename).startswith(foreign) and not f.filename.startswith("<")]
    return f", {_relative(own[-1].filename)} line {own[-1].lineno}" if own else ""


def _relative(path: str) -> str:
    file = Path(path)
    return str(file.relative_to(Path.cwd())) if file.is_relative_to(Path.cwd()) else path


def _text(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def check_arguments(
    function: Callable[..., Any], settings: Mapping[str, Any], what: str, option: str, given: tuple[str, ...] = ()
) -> None:
    """Refuse settings that a function does not take, and name those it takes; `given` arguments are no settings.

    Raises:
        UsageError: an unknown setting, or a required one is missing.
    """
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    named = [n for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and n not in given]
    unknown = [n for n in settings if n not in named]
    if unknown:
        close = difflib.get_close_matches(unknown[0], named, n=1)
        guess = f" Did you mean {close[0]}?" if close else ""
        takes = f"it takes {', '.join(named)}" if named else "it takes none"
        raise UsageError(f"{what} takes no setting '{unknown[0]}' ({option}).{guess} {takes[0].upper()}{takes[1:]}")
    missing = [n for n in named if parameters[n].default is inspect.Parameter.empty and n not in settings]
    if missing:
        raise UsageError(f"{what} needs the setting '{missing[0]}': {option} {missing[0]}=VALUE")
