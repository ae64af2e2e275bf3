"""From runs to figures: medians, ratios within a round, the table, and the bars that the project has set itself."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Run:
    """One run. `other_cpu_s` is what everything else on the machine used meanwhile.

    `void` says why the run does not count; `altered`: all rows are there, but some values are not those of the file.
    """

    name: str
    logged: bool
    round: int
    wall_s: float
    client_cpu_s: float
    server_cpu_s: float
    other_cpu_s: float
    peak_mb: float
    rows: int
    void: str
    altered: bool
    source_cpu_s: float = 0.0  # of the database that the rows are read from

    @property
    def cpu_s(self) -> float:
        return self.client_cpu_s + self.server_cpu_s + self.source_cpu_s

    def __str__(self) -> str:
        fate = f"VOID, {self.void}" if self.void else f"{self.rows} rows{', values ALTERED' if self.altered else ''}"
        return (
            f"round {self.round}  {self.name:9} {self.wall_s:8.2f} s  "
            f"CPU client {self.client_cpu_s:7.2f} server "
            f"{self.server_cpu_s:6.2f} source {self.source_cpu_s:6.2f} other {self.other_cpu_s:5.1f}  "
            f"peak {self.peak_mb:6.0f} MB  {fate}"
        )


Measure = Callable[[Run], float]


def _wall(one: Run) -> float:
    return one.wall_s


def _cpu(one: Run) -> float:
    return one.cpu_s


def ratio(runs: Sequence[Run], name: str, base: str, measure: Measure) -> float | None:
    """The median, over rounds, of one contestant's figure by another's of the same round; None if they never met.

    Within a round, because the machine's speed drifts between rounds and both then drift with it.
    """
    sides = ({one.round: measure(one) for one in runs if one.name == who and not one.void} for who in (name, base))
    above, below = sides
    met = [above[round_] / below[round_] for round_ in above.keys() & below.keys() if below[round_]]
    return median(met) if met else None


def table(runs: Sequence[Run]) -> str:
    """A Markdown table of medians: time, ratios to the limit and to ours, CPU, memory, voids."""
    header = [
        "",
        "wall s",
        "limit ÷ it",
        "it ÷ ours",
        "CPU client s",
        "CPU server s",
        "CPU source s",
        "CPU ÷ limit",
        "µs CPU/row",
    ]
    header += ["peak MB", "other CPU s", "rows", "runs"]
    lines = [header, ["---"] + ["--:"] * (len(header) - 1)]
    for name in dict.fromkeys(one.name for one in runs):
        mine = [one for one in runs if one.name == name]
        good = [one for one in mine if not one.void]
        if not good:
            lines.append([name, "void"] + [""] * (len(header) - 3) + [f"0 of {len(mine)}"])
            continue
        speed = ratio(runs, "limit", name, _wall)
        slower, work = ratio(runs, name, "ours", _wall), ratio(runs, name, "limit", _cpu)
        lines.append(
            [
                f"{name} (alters values)" if any(one.altered for one in good) else name,
                f"{median(one.wall_s for one in good):.2f}",
                *("–" if value is None else f"{value:.2f}" for value in (speed, slower)),
                f"{median(one.client_cpu_s for one in good):.2f}",
                f"{median(one.server_cpu_s for one in good):.2f}",
                f"{median(one.source_cpu_s for one in good):.2f}",
                "–" if work is None else f"{work:.2f}",
                f"{median(one.cpu_s / max(one.rows, 1) for one in good) * 1e6:.2f}",
                f"{median(one.peak_mb for one in good):.0f}",
                f"{median(one.other_cpu_s for one in good):.1f}",
                str(good[0].rows),
                f"{len(good)} of {len(mine)}",
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def bars(runs: Sequence[Run], *, logged: bool, source: str = "csv") -> Iterator[str]:
    """Each bar that these runs can speak to, what was measured, and whether it is met."""
    least = 0.50 if source == "mariadb" else 0.75 if logged else 0.70
    highest = 600 if source == "mariadb" else 500
    ours = [one for one in runs if one.name == "ours" and not one.void]
    peak = max((one.peak_mb for one in ours), default=None)
    speed = ratio(runs, "limit", "ours", _wall)
    work = ratio(runs, "ours", "limit", _cpu)
    dirty = ratio(runs, "ours-bad", "ours", _cpu)
    for bar, value, met in (
        (f"speed, of the limit's, at least {least}", speed, speed is not None and speed >= least),
        ("CPU, of the limit's, at most 2.5", None if source == "mariadb" else work, work is not None and work <= 2.5),
        ("CPU with bad rows, of the clean run's, at most 1.5", dirty, dirty is not None and dirty <= 1.5),
        (f"peak memory in MB, at most {highest}", peak, peak is not None and peak <= highest),
        *_faster_than(runs),
    ):
        if value is not None:
            yield f"{'met   ' if met else 'MISSED'}  {bar}: {value:.2f}"


def _faster_than(runs: Sequence[Run]) -> Iterator[tuple[str, float | None, bool]]:
    for name, least in (("dlt", 2.0), ("pgloader", 3.0), ("sling", 5.0)):
        times = ratio(runs, name, "ours", _wall)
        yield f"times as fast as {name}, at least {least:g}", times, times is not None and times >= least
