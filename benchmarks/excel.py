"""How fast a sheet is read to Arrow batches with locators, beside bare fastexcel reading it to Arrow and nothing else.

    .venv/bin/python benchmarks/excel.py --rows 200000 --rounds 5

Each round runs both, one after the other, each in a process of its own; the ratio is that of the medians. Wall time tells
on a quiet machine, processor time on any.
"""

import argparse
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
HEADER = ("id", "name", "city", "born", "seen", "amount", "rate", "active", "note", "double")


def write(path: Path, rows: int) -> None:
    """A workbook as Excel writes it: shared strings, 17 digits, formulas with their values, some blank cells."""
    random_ = random.Random(1)
    texts = [f"Straße {i} &amp; Söhne" if i % 7 == 0 else f"Kunde Nummer {i}" for i in range(rows // 3 + 1000)]
    relation = '<Relationship Id="rId{0}" Type="' + RELATIONS + '/{1}" Target="{2}"/>'
    package = '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{0}</Relationships>'
    parts = [("worksheet", "worksheets/sheet1.xml"), ("styles", "styles.xml"), ("sharedStrings", "sharedStrings.xml")]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as book:
        book.writestr("[Content_Types].xml", "<Types/>")
        book.writestr("_rels/.rels", package.format(relation.format(1, "officeDocument", "xl/workbook.xml")))
        book.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{MAIN}" xmlns:r="{RELATIONS}"><sheets><sheet name="Kunden" sheetId="1" r:id="rId1"/></sheets>'
            "</workbook>",
        )
        related = "".join(relation.format(i, kind, target) for i, (kind, target) in enumerate(parts, 1))
        book.writestr("xl/_rels/workbook.xml.rels", package.format(related))
        book.writestr(
            "xl/styles.xml",
            f'<styleSheet xmlns="{MAIN}"><numFmts><numFmt numFmtId="164" formatCode="yyyy\\-mm\\-dd\\ hh:mm:ss"/></numFmts>'
            '<cellXfs><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="164"/></cellXfs></styleSheet>',
        )
        with book.open("xl/sharedStrings.xml", "w") as part:
            part.write(f'<sst xmlns="{MAIN}">'.encode())
            part.write("".join(f"<si><t>{text}</t></si>" for text in [*HEADER, *texts]).encode())
            part.write(b"</sst>")
        with book.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as part:
            part.write(f'<worksheet xmlns="{MAIN}"><sheetData><row r="1">'.encode())
            part.write("".join(f'<c r="{"ABCDEFGHIJ"[i]}1" t="s"><v>{i}</v></c>' for i in range(10)).encode())
            part.write(b"</row>")
            for i in range(2, rows + 2):
                note = "" if i % 5 else f'<c r="I{i}" t="s"><v>{10 + i % 77}</v></c>'
                part.write(
                    f'<row r="{i}" spans="1:10"><c r="A{i}"><v>{i}</v></c><c r="B{i}" t="s"><v>{10 + i // 3}</v></c>'
                    f'<c r="C{i}" t="s"><v>{10 + i % 1000}</v></c><c r="D{i}" s="1"><v>{30000 + i % 15000}</v></c>'
                    f'<c r="E{i}" s="2"><v>{40000 + i % 5000 + random_.random():.17g}</v></c>'
                    f'<c r="F{i}"><v>{random_.randrange(10**7) / 100:.17g}</v></c><c r="G{i}"><v>{random_.random():.17g}</v></c>'
                    f'<c r="H{i}" t="b"><v>{i % 2}</v></c>{note}<c r="J{i}"><f>A{i}*2</f><v>{i * 2}</v></c></row>'.encode()
                )
            part.write(b"</sheetData></worksheet>")


def ours(path: Path) -> int:
    from connectors.excel import open_files

    source = open_files({"": [path.name]}, {}, path.parent)
    table = source.schema(source.tables()[0])
    rows = 0
    for partition in source.partitions(table, rows=200_000, bytes=8 << 20):
        for batch in source.read(partition, table.schema.names):
            rows += batch.rows.num_rows
            batch.locate([0])
    return rows


def bare(path: Path) -> int:
    import fastexcel

    return int(fastexcel.read_excel(path).load_sheet(0).to_arrow().num_rows)


def measure(name: str, path: Path) -> None:
    """One reading, after its imports: rows, wall and processor seconds, peak memory in MB."""
    read = {"ours": ours, "fastexcel": bare}[name]
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.xlsx"
        write(small, 100)
        read(small)
    wall, cpu = time.perf_counter(), time.process_time()
    rows = read(path)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(rows, wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=200_000)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--measure", choices=["ours", "fastexcel"])
    arguments.add_argument("--file", type=Path)
    given = arguments.parse_args()
    if given.measure:
        measure(given.measure, given.file)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "book.xlsx"
        write(path, given.rows)
        found: dict[str, list[list[float]]] = {"ours": [], "fastexcel": []}
        for _ in range(given.rounds):
            for name, figures in found.items():
                command = [sys.executable, __file__, "--measure", name, "--file", str(path)]
                said = subprocess.run(
                    command, check=True, capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": "."}
                )
                figures.append([float(part) for part in said.stdout.split()])
    medians = {
        name: [statistics.median(column) for column in zip(*figures, strict=True)] for name, figures in found.items()
    }
    for name, (rows, wall, cpu, peak) in medians.items():
        print(f"{name:10} {rows / wall:10,.0f} rows/s   wall {wall:6.2f} s   cpu {cpu:6.2f} s   peak {peak:6,.0f} MB")
    ratios = [medians["fastexcel"][i] / medians["ours"][i] for i in (1, 2)]
    print(f"ours is {ratios[0]:.2f} of fastexcel's speed by wall time, {ratios[1]:.2f} by processor time")


if __name__ == "__main__":
    main()
