"""Who may import whom: the rooms of the house, read from the sources, so that a new file is covered by being there.

A room's row names what it may import: other rooms of ours and distributions from outside. The standard library,
`errors` and `plugins` are everybody's. Imports inside functions count; imports for annotations only do not.
"""

from __future__ import annotations

import ast
import fnmatch
import functools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"landscape": "landscape", "app": "landscape.app", "jobs": "landscape.jobs"}  # folder -> installed package


def files() -> dict[str, Path]:
    """Every module of ours by its installed name."""
    found = {}
    for folder, package in PACKAGES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join([package, *parts]).removesuffix(".__init__")] = path
    return found


MODULES = files()


@functools.cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"), str(MODULES[name]))


def fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def room(*names: str) -> tuple[str, ...]:
    """Patterns of everything in rooms of the engine."""
    return tuple(pattern for name in names for pattern in (f"landscape.{name}", f"landscape.{name}.*"))


COMMON = ("landscape", "landscape.errors", "landscape.plugins")
RECORDS, STORES, READINGS, PICTURES = room("records"), room("stores"), room("readings"), room("pictures")
FOLLOWING = ("landscape.readings.following", "landscape.readings.subspaces")  # across the checkpoints of a run
KRYLOV, RANKS, OPERATORS, LOSS = room("krylov"), room("distributed"), room("operators"), room("loss")
PLANNING = ("landscape.distributed", "landscape.distributed.planning")
ENGINE = (
    *RECORDS, *READINGS, *KRYLOV, *RANKS, *OPERATORS, *LOSS, *room("engine", "geometry", "networks", "growing"),
    *room("games", "problems", "optimizers", "regularizers", "groupings"),
)  # fmt: skip
BROWSER, JOBS, LEARNING = room("app"), room("jobs"), room("learning")
EVIDENCE = ("landscape.evidence",)
COMMANDS = ("landscape.cli", "landscape.__main__", "landscape.launch", "landscape.batch_script")


@dataclass(frozen=True)
class Room:
    modules: tuple[str, ...]  # patterns of the modules that live here
    ours: tuple[str, ...]  # patterns of our modules that they may import
    outside: tuple[str, ...]  # top-level packages of other distributions
    never: tuple[str, ...] = ()  # exceptions to `outside`


# The first row that fits a module is its row.
ROOMS = (
    Room(COMMON, (), ()),
    Room(RECORDS, RECORDS, ("numpy",)),
    Room(STORES, (*RECORDS, *STORES), ("numpy", "safetensors"), ("safetensors.torch",)),
    Room(FOLLOWING, (*RECORDS, *STORES, *READINGS), ("numpy", "scipy")),
    Room(READINGS, (*RECORDS, *READINGS), ("numpy",)),
    Room(PICTURES, (*RECORDS, *READINGS, *PICTURES), ("numpy", "matplotlib", "mpl_toolkits", "imageio_ffmpeg")),
    Room(KRYLOV, KRYLOV, ("torch", "numpy"), ("torch.nn",)),
    Room(PLANNING, (), ()),
    Room(("landscape.distributed.progress",), (*RANKS, *EVIDENCE), ("torch",)),
    Room(("landscape.distributed.mpi",), RANKS, ("mpi4py", "numpy", "torch"), ("torch.nn",)),
    Room(RANKS, RANKS, ("numpy", "torch"), ("torch.nn",)),
    Room(OPERATORS, OPERATORS, ("torch",)),
    Room(LOSS, LOSS, ("torch", "numpy", "safetensors")),
    Room(room("games"), (*LOSS, *RANKS, *KRYLOV, *RECORDS, *room("games")), ("torch", "numpy", "scipy")),
    Room(room("problems"), (*LOSS, *room("games", "problems")), ("torch", "numpy", "sklearn")),
    Room(room("regularizers"), room("regularizers"), ("torch",)),
    Room(room("groupings"), (*LOSS, *room("groupings", "regularizers")), ("torch",)),
    Room(room("networks"), (*LOSS, *RECORDS, *room("networks", "groupings", "problems")), ("torch", "numpy", "scipy")),
    Room(room("growing"), (*LOSS, *room("networks", "growing")), ("torch", "numpy", "scipy")),
    Room(
        room("optimizers"),
        (*LOSS, *KRYLOV, *room("optimizers", "regularizers", "groupings", "networks", "growing", "games")),
        ("torch",),
    ),
    Room(
        LEARNING,
        (*LEARNING, *LOSS, *RECORDS, *STORES, *EVIDENCE, *room("optimizers", "networks")),
        ("torch", "numpy"),
    ),
    Room(
        room("engine"),
        (*RECORDS, *READINGS, *KRYLOV, *RANKS, *OPERATORS, *LOSS, *room("engine")),
        ("torch", "numpy"),
    ),
    Room(
        room("geometry"),
        (*RECORDS, *READINGS, *RANKS, *LOSS, *room("engine", "networks", "geometry"), "landscape.learning.training"),
        ("torch", "numpy", "scipy"),
    ),
    Room(
        BROWSER,
        (*RECORDS, *STORES, *READINGS, *PICTURES, *BROWSER, "landscape.launch", "landscape.batch_script"),
        ("dash", "plotly", "flask", "werkzeug", "numpy"),
    ),
    Room(("landscape.jobs",), (), ()),
    # Other people's engines, imported only where an adapter is asked for its numbers.
    Room(
        ("landscape.jobs.benches.rivals*",),
        (*ENGINE, "landscape.jobs.benches._*"),
        ("torch", "numpy", "scipy", "pyhessian", "hessian_eigenthings", "curvlinops", "matfree", "jax"),
    ),
    # One benchmark never imports another either; it finds rivals by name.
    Room(
        ("landscape.jobs.benches*",),
        (*ENGINE, *LEARNING, *STORES, *PICTURES, *EVIDENCE, "landscape.launch", "landscape.jobs._*",
         "landscape.jobs.benches._*"),
        ("torch", "numpy", "scipy", "sklearn", "playwright"),
    ),
    # One job never imports another; files whose name starts with _ are shared by all of them.
    Room(
        ("landscape.jobs.*",),
        (*ENGINE, *LEARNING, *STORES, *PICTURES, *EVIDENCE, *COMMANDS, "landscape.jobs._*",
         "landscape.jobs.benches._*"),
        ("torch", "numpy", "safetensors"),
    ),
    Room(EVIDENCE, (), ()),
    # The command line and the launcher start before torch and MPI do; they find jobs by name.
    Room(COMMANDS, (*RECORDS, *STORES, *EVIDENCE, *COMMANDS), ()),
)


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def statements(tree: ast.AST, *, lazy: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements below a node, those inside functions only when `lazy`; annotation-only ones never."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from (found for branch in node.orelse for found in statements(ast.Module([branch], []), lazy=lazy))
        elif lazy or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from statements(node, lazy=lazy)


@functools.cache
def imports(name: str, *, lazy: bool = True) -> set[str]:
    """Dotted names that a module imports; relative ones resolved, `from package import module` as the module."""
    found = set()
    for node in statements(tree(name), lazy=lazy):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            continue
        base = node.module or ""
        if node.level:
            package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
            climbed = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*climbed, base]).rstrip(".")
        for alias in node.names:
            dotted = f"{base}.{alias.name}"
            # A name of ours is a module or something in one; a name from outside may be either, which `never` must see.
            found.add(dotted if dotted in MODULES or base.partition(".")[0] not in PACKAGES else base)
    return found - {"__future__"}


def dynamic_imports(name: str) -> set[str]:
    """Constant names given to import_module and __import__, which would slip past the import statements."""
    calls = (node for node in ast.walk(tree(name)) if isinstance(node, ast.Call) and node.args)
    names = ((ast.unparse(call.func).rpartition(".")[2], call.args[0]) for call in calls)
    return {
        argument.value
        for function, argument in names
        if function in {"import_module", "__import__"} and isinstance(argument, ast.Constant)
    }


def room_of(name: str) -> Room:
    found = [row for row in ROOMS if fits(name, row.modules)]
    assert found, f"{MODULES[name].relative_to(ROOT)} is in no room of the table in {Path(__file__).name}"
    return found[0]


def forbidden(name: str) -> set[str]:
    """Imports of a module that its room may not have."""
    row, found = room_of(name), set()
    for target in imports(name):
        top = target.partition(".")[0]
        if top in PACKAGES:
            allowed = target == name or fits(target, (*COMMON, *row.ours))
        else:
            allowed = top in sys.stdlib_module_names or (top in row.outside and not within(target, row.never))
        if not allowed:
            found.add(target)
    return found


# All modules in one test, not one test each: a thousand tests cost every worker seconds before the first one runs.


def test_every_module_is_in_a_room_and_imports_only_what_it_may() -> None:
    found = {MODULES[name].relative_to(ROOT): forbidden(name) for name in sorted(MODULES)}
    wrong = [f"{path} may not import {', '.join(sorted(names))}" for path, names in found.items() if names]
    assert not wrong, "\n".join(wrong)


def test_names_given_to_import_module_keep_to_the_table_too() -> None:
    # Three jobs end in the browser's room, and only when they get there.
    permitted = {
        "landscape.jobs.dashboard": {"landscape.app.serving.server"},
        "landscape.jobs.demo": {"landscape.app.serving.server"},
        "landscape.jobs.freeze": {"landscape.app.serving.freezing"},
    }
    wrong = []
    for name in sorted(MODULES):
        ours = {target for target in dynamic_imports(name) if target.partition(".")[0] in PACKAGES}
        others = {target for target in ours if not fits(target, (*COMMON, *room_of(name).ours))}
        if others - permitted.get(name, set()):
            wrong.append(f"{MODULES[name].relative_to(ROOT)} may not import {', '.join(sorted(others))}")
    assert not wrong, "\n".join(wrong)


def test_rooms_visit_each_other_in_one_direction_only() -> None:
    folders = {name for name in MODULES if MODULES[name].name == "__init__.py"}
    deep = {name: 3 if name.startswith("landscape.app.") else 2 for name in MODULES}
    rooms = {name: ".".join(name.split(".")[: deep[name]]) for name in MODULES}
    rooms = {name: here if here in folders else here.rpartition(".")[0] for name, here in rooms.items()}
    graph: dict[str, set[str]] = {here: set() for here in rooms.values()}
    for name, here in rooms.items():
        graph[here] |= {rooms[target] for target in imports(name) & set(MODULES)} - {here}
    while graph:
        leaves = {here for here, targets in graph.items() if not targets & graph.keys()}
        assert leaves, f"rooms visit each other in a circle: {', '.join(sorted(graph))}"
        graph = {here: targets for here, targets in graph.items() if here not in leaves}


def test_relative_and_lazy_imports_are_seen() -> None:
    assert "landscape.errors" in imports("landscape.plugins")
    assert "mpi4py.MPI" in imports("landscape.distributed.mpi")
    assert "mpi4py.MPI" not in imports("landscape.distributed.mpi", lazy=False)


def test_mpi_is_imported_in_one_file_only() -> None:
    users = {name for name in MODULES if any(within(target, ("mpi4py",)) for target in imports(name))}
    assert users == {"landscape.distributed.mpi"}


def test_modules_import_each_other_without_cycles() -> None:
    graph = {name: imports(name, lazy=False) & set(MODULES) - {name} for name in MODULES}
    while graph:
        leaves = {name for name, targets in graph.items() if not targets & graph.keys()}
        assert leaves, f"import cycle among {', '.join(sorted(graph))}"
        graph = {name: targets for name, targets in graph.items() if name not in leaves}


# ---------------------------------------------------------------- what starts without torch and without MPI

LIGHT = (
    *COMMON, *RECORDS, *STORES, *READINGS, *PICTURES, *BROWSER, *EVIDENCE, *PLANNING, *COMMANDS,
)  # fmt: skip


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=800, check=False)


def test_light_modules_leave_torch_and_mpi_unimported() -> None:
    light = sorted(name for name in MODULES if fits(name, LIGHT))
    script = (
        f"import importlib, sys\nfor name in {light}:\n    importlib.import_module(name)\n"
        "    for heavy in {'torch', 'mpi4py'} & set(sys.modules):\n        sys.exit(f'{name} imports {heavy}')"
    )
    result = python("-c", script)
    assert result.returncode == 0, result.stderr


def test_help_leaves_torch_and_mpi_unimported() -> None:
    result = python("-X", "importtime", "-m", "landscape", "--help")
    assert result.returncode == 0, result.stderr.splitlines()[-1]
    assert "usage" in result.stdout.lower()
    loaded = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines() if line.startswith("import time:")}
    assert not {module for module in loaded if within(module, ("torch", "mpi4py"))}


# ---------------------------------------------------------------- what no source does

PICKLES = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
UNSAFE_CALLS = {"eval", "exec", "os.system", "os.popen"}
UNSAFE_ARGUMENTS = {("allow_pickle", True), ("weights_only", False), ("shell", True)}
SCRIPTS = {str(path.relative_to(ROOT)): path for path in sorted((ROOT / "tests").rglob("*.py"))}


def unsafe(node: ast.AST) -> Iterator[str]:
    """What a node does that a file or a text from elsewhere could turn into running code."""
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) in PICKLES and not node.attr.endswith("Error"):
        yield ast.unparse(node)  # naming pickle's errors, to catch them, is harmless
    elif isinstance(node, ast.ImportFrom) and within(node.module or "", PICKLES):
        yield f"from {node.module} import ..."
    elif isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        given = {
            (keyword.arg, keyword.value.value) for keyword in node.keywords if isinstance(keyword.value, ast.Constant)
        }
        if called in UNSAFE_CALLS or (called == "torch.load" and ("weights_only", True) not in given):
            yield f"{called}(...)"
        yield from (f"{called}(..., {name}={value})" for name, value in given & UNSAFE_ARGUMENTS)


def test_no_source_unpickles_evaluates_text_or_starts_a_shell() -> None:
    sources = {str(MODULES[name].relative_to(ROOT)): tree(name) for name in sorted(MODULES)}
    sources |= {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SCRIPTS.items()}
    found = [
        f"{name}, line {getattr(node, 'lineno', '?')}: {what}"
        for name, source in sources.items() for node in ast.walk(source) for what in unsafe(node)
    ]  # fmt: skip
    assert not found, "; ".join(found)
