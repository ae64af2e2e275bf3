"""Reads a source slowly in a process of its own, and prints how much memory it took beyond that of the program itself.

Its one argument is JSON: {"read": [a small table, the one that is measured], "columns": [...]}, a table being {"table": name} and
{"url": [scheme, url, options]} or {"files": [kind, files, options, folder]}. The small one loads what reading needs.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from contract import opened

from connectors.registry import open_source
from migrate.core import Partition


def memory(name: str) -> int:
    """A line of what the kernel says of this process, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) << 10


def partitions(asked: dict[str, Any]) -> tuple[Any, list[Partition]]:
    if "url" in asked:
        source: Any = opened(*asked["url"])
    else:
        kind, files, options, folder = asked["files"]
        source = open_source(kind, files, options, Path(folder))
    return source, list(source.partitions(source.schema(asked["table"]), rows=1_000_000, bytes=8 << 20))


def main(asked: dict[str, Any]) -> None:
    for at, each in enumerate(asked["read"]):
        before, rows = memory("VmRSS"), 0
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        source, parts = partitions(each)
        for part in parts:
            for batch in source.read(part, asked["columns"]):
                rows += batch.rows.num_rows
                time.sleep(0.01 * at)
        grown = memory("VmHWM") - before
        if hasattr(source, "close"):
            source.close()
    print(json.dumps({"rows": rows, "parts": len(parts), "grown": grown}))


main(json.loads(sys.argv[1]))
