"""Mutation testing of the commit protocol, in a copy of the checkout: prints the mutants that no test noticed.

`python tests/mutants.py` takes about half an hour; exit status 1 if a mutant survived.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
SKIPPED = (".venv", ".git", "benchmarks", "demo", "__pycache__")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*SKIPPED))
        bin_path = str(Path(sys.executable).parent)
        # The copy's packages must be found before the installed ones.
        environment = {**os.environ, "PATH": f"{bin_path}:{os.environ['PATH']}", "PYTHONPATH": str(copy)}

        def cosmic_ray(*arguments: str) -> str:
            command = [f"{bin_path}/{arguments[0]}", *arguments[1:]]
            return subprocess.run(
                command, cwd=copy, env=environment, check=True, stdout=subprocess.PIPE, text=True
            ).stdout

        cosmic_ray("cosmic-ray", "init", "tests/mutants.toml", "session.sqlite")
        cosmic_ray("cosmic-ray", "baseline", "tests/mutants.toml")
        cosmic_ray("cosmic-ray", "exec", "tests/mutants.toml", "session.sqlite")
        report = cosmic_ray("cr-report", "--surviving-only", "--show-diff", "session.sqlite")
    print(report)
    return int("survived" in report.lower().split("total jobs")[0])


if __name__ == "__main__":
    raise SystemExit(main())
