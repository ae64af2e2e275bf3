"""Where the benchmarks keep what they install and generate; all of it is ignored by git and may be deleted."""

import shutil
import subprocess
import sys
from pathlib import Path

WORK = Path(__file__).resolve().parent / ".work"
DATA = WORK / "data"
RUNS = WORK / "runs"


def environment(name: str) -> Path:
    return WORK / "env" / name


def install(name: str, *requirements: str) -> None:
    """Give a tool a Python environment of its own, unless it has exactly these requirements already."""
    folder, done = environment(name), environment(name) / "requirements.txt"
    if done.exists() and done.read_text() == "\n".join(requirements):
        return
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        raise SystemExit("benchmarks need uv to install the tools they compare: pip install uv")
    print(f"installing {' '.join(requirements)}", flush=True)
    subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, folder], check=True)
    subprocess.run([uv, "pip", "install", "-q", "--python", folder / "bin" / "python", *requirements], check=True)
    done.write_text("\n".join(requirements))
