"""Runs one client program and measures it: wall time, CPU seconds and peak memory of its whole process tree."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PAUSE = 0.05  # seconds between two looks at memory: one process costs 30 µs a look
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a program took. Times in seconds; `peak` in bytes, its processes' resident memory added up."""

    exit_code: int
    wall: float
    cpu: float
    peak: int


def children(pid: int) -> tuple[int, ...]:
    """The processes that this one's threads have started and not yet reaped."""
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:
        return tuple(found)  # it ended while we looked
    return tuple(found)


def cpu_seconds(pid: int, *, reaped: bool = False) -> float:
    """User and system time of a process, with that of its reaped children if asked; 0 once it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    times = stat.rpartition(")")[2].split()[11:15]  # utime, stime, cutime, cstime
    return sum(map(int, times if reaped else times[:2])) / TICKS


def machine_cpu_seconds() -> float:
    """Time that all processors together have spent working since the machine started."""
    user, nice, system, _idle, _iowait, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / TICKS


def run(command: Sequence[str], *, env: Mapping[str, str], folder: Path, log: Path, timeout: float) -> Usage:
    """Run a program in a folder, its output going to `log`; past `timeout` seconds it is killed (exit code -9)."""
    with log.open("wb") as output:
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            env=dict(env),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        ended = threading.Event()
        memory = _Memory(process.pid, ended, began + timeout)
        memory.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.monotonic() - began
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            ended.set()
            memory.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    return Usage(process.returncode, wall, usage.ru_utime + usage.ru_stime, memory.peak)


class _Memory(threading.Thread):
    """Watches a process tree's memory, and kills it at the deadline.

    Not `ru_maxrss`: it takes the largest process instead of their sum, and counts this interpreter, from which the
    program was forked. The high-water mark of each process is read too, so a peak between two looks is not missed.
    """

    def __init__(self, pid: int, ended: threading.Event, deadline: float) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._pid, self._ended, self._deadline = pid, ended, deadline

    def run(self) -> None:
        while not self._ended.wait(PAUSE):
            now, marks = zip(*map(_resident, _tree(self._pid)), strict=True)
            self.peak = max(self.peak, sum(now), *marks)
            if time.monotonic() > self._deadline:
                os.killpg(self._pid, signal.SIGKILL)
                return


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for child in children(pid):
        yield from _tree(child)


def _resident(pid: int) -> tuple[int, int]:
    """A process's resident memory and its high-water mark in bytes; zeros once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    fields = {name: value for name, _, value in (line.partition(":") for line in lines) if name in ("VmRSS", "VmHWM")}
    size = {name: int(value.split()[0]) * 1024 for name, value in fields.items()}
    return size.get("VmRSS", 0), size.get("VmHWM", 0)
