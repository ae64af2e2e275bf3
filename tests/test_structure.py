"""Imports are star-shaped, and what is installed is what was built."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("connectors", "mappings", "validators", "reports")
SHARED = {"migrate.core", "migrate.errors", "migrate.checksum", "migrate.prepared"}


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of each import, wherever in the file it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            module = node.module or ""
            # `from migrate import core` imports the module migrate.core
            names = [f"{module}.{alias.name}" for alias in node.names] if module in ("migrate", *ROOMS) else [module]
            yield from ((node.lineno, name) for name in names)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_know_only_the_core(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    strays = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in files
        for line, module in imported(path)
        if (top := module.partition(".")[0]) in (*ROOMS, "migrate", "tests", "benchmarks")
        and top != room
        and module not in SHARED
    ]
    assert strays == []


def test_the_core_knows_nobody() -> None:
    for name in ("core", "errors", "prepared"):
        for line, module in imported(ROOT / "migrate" / f"{name}.py"):
            assert module.partition(".")[0] not in (*ROOMS, "migrate"), f"{name}.py:{line}: {module}"
    allowed = SHARED - {"migrate.checksum"}
    for line, module in imported(ROOT / "migrate" / "checksum.py"):
        assert module.partition(".")[0] not in (*ROOMS, "migrate") or module in allowed, f"checksum.py:{line}: {module}"


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    named = [p for room in (*ROOMS, "migrate") for p in (ROOT / room).rglob("*.py")]
    assert not [p.name for p in named if p.stem in ("utils", "helpers", "common", "misc")]


UV = Path(sys.executable).with_name("uv")


@pytest.mark.skipif(not UV.exists(), reason="the environment has no uv")
def test_the_installed_wheel_is_what_runs(tmp_path: Path) -> None:
    """`migrate` and `validators` are names that other distributions use too: see where each is imported from."""

    def uv(*arguments: str) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
        subprocess.run([UV, *arguments], check=True, cwd=ROOT, env=environment, capture_output=True, text=True)

    uv("build", "--wheel", "--quiet", "--out-dir", str(tmp_path))
    (wheel,) = tmp_path.glob("*.whl")
    venv = tmp_path / "venv"
    uv("venv", "--quiet", "--python", sys.executable, str(venv))
    requirements = tmp_path / "locked.txt"
    uv("export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "--no-hashes", "-o", str(requirements))
    uv("pip", "install", "--quiet", "--python", str(venv / "bin/python"), "--constraint", str(requirements), str(wheel))

    rooms = ", ".join(("migrate", *ROOMS))
    program = f"import {rooms}\nprint({rooms})"
    run = {"cwd": tmp_path, "check": True, "capture_output": True, "text": True}
    where = subprocess.run([venv / "bin/python", "-c", program], **run).stdout  # type: ignore[call-overload]
    assert where.count(str(venv)) == 5, where
    for arguments in (["--version"], ["--help"], ["schema"]):
        said = subprocess.run([venv / "bin/migrate", *arguments], **run)  # type: ignore[call-overload]
        assert said.stdout
        assert not said.stderr
    files = subprocess.run([sys.executable, "-m", "zipfile", "-l", wheel], **run).stdout  # type: ignore[call-overload]
    for name in ("migrate/cli.py", "reports/page.css", "reports/page.js"):
        assert name in files
    assert "tests/" not in files
    assert "benchmarks/" not in files
