"""Reads a source slowly in a process of its own, and prints how much memory it took beyond that of the program itself.

Its one argument is JSON: {"url": [scheme, url, options]} or {"files": [kind, files, options, folder]}, tables, columns.
The first table is read so that all is loaded that reading needs, the second one is measured.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from contract import opened

from connectors.registry import open_source


def memory(name: str) -> int:
    """A line of what the kernel says of this process, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) << 10


def main(asked: dict[str, Any]) -> None:
    if "url" in asked:
        source: Any = opened(*asked["url"])
    else:
        kind, files, options, folder = asked["files"]
        source = open_source(kind, files, options, Path(folder))
    first, second = asked["tables"]
    for part in list(source.partitions(source.schema(first), rows=1_000_000, bytes=8 << 20)):
        list(source.read(part, asked["columns"]))
    parts = list(source.partitions(source.schema(second), rows=1_000_000, bytes=8 << 20))
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    rows = 0
    for part in parts:
        for batch in source.read(part, asked["columns"]):
            rows += batch.rows.num_rows
            time.sleep(0.01)
    print(json.dumps({"rows": rows, "parts": len(parts), "grown": memory("VmHWM") - before}))
    if hasattr(source, "close"):
        source.close()


main(json.loads(sys.argv[1]))
