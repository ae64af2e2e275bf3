"""`migrate demo`: everything on made-up legacy data, as a newcomer sees it first."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from e2e.rig import Rig
from migrate import demofiles, embedded


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the embedded server's own user may enter; pytest's may not."""
    made = Path(tempfile.mkdtemp(prefix="migrate-demo-"))
    made.chmod(0o755)
    yield made
    if (made / "postgres").exists():
        embedded.stop(made.resolve() / "postgres")
    shutil.rmtree(made, ignore_errors=True)


def test_the_demo_accounts_for_every_row_and_leaves_a_line_to_type(folder: Path) -> None:
    ended = Rig(folder, "postgresql://nowhere").migrate("demo", "--dir", str(folder))
    fates = {
        name: tuple(int(n.replace(",", "")) for n in numbers)
        for name, *numbers in re.findall(r"^(\w+)" + r" +([\d,]+)" * 5 + " +finalized", ended.out, re.MULTILINE)
    }
    names = {"customers", "orders", "notes", "employees", "articles", "deliveries", "delivery_items"}
    assert fates.keys() == names
    for name, (read, loaded, merged, filtered, rejected) in fates.items():
        assert read == loaded + merged + filtered + rejected, name
    assert fates["customers"] == (2000, 1964, 10, 16, 10)
    # a skipped hour, a negative total, orphans of an unknown and of rejected customers
    assert fates["orders"] == (12000, 11994, 0, 0, 6)
    assert fates["notes"] == (300, 300, 0, 0, 0)
    assert fates["articles"] == (300, 297, 0, 0, 3)
    assert fates["employees"] == (6, 6, 0, 0, 0)
    assert fates["deliveries"][4] == 3
    assert fates["delivery_items"][4] == 5
    dry, real = (ended.out.partition("$ migrate run --yes")[i] for i in (0, 2))
    for name in fates:
        assert f"{name}: equal" in ended.out
        [would], *_ = [re.findall(rf"^{name} .* finalized$", part, re.MULTILINE) for part in (dry, real)]
        assert would in real
    for reason in (
        "DRY RUN",
        "10 rows would be merged into 10 others",
        "stamm.xlsx[Artikel!C21]: #N/A in Preis Netto",
        "lieferungen.xml:910: line 910: the element <lieferung> is not closed",
        "KundenNr=000063 ← KundenNr=000023",
        "(personal; `migrate rejects show",
        "XX",
        "viel",
        "is not closed",
        "0x81",
        "no row of public.customers",
        "02:30",
    ):
        assert reason in ended.out, reason
    assert {"rehearsal.html", "migrate-report.html"} <= {file.name for file in folder.iterdir()}

    # What it says to type next works as it stands.
    [look] = re.findall(r"^  (\S+psql '\S+' -c '.*')$", ended.out, re.MULTILINE)
    shown = subprocess.run(look, shell=True, capture_output=True, text=True, check=True)
    assert "legacy_no" in shown.stdout
    [url] = re.findall(r"TARGET_URL='(\S+)'", ended.out)
    again = Rig(folder, url).migrate("run")
    assert "All 16,401 source rows are accounted for" in again.out
    with psycopg.connect(url) as conn:
        assert conn.execute("SELECT max(length(body)) > 4000000 FROM notes").fetchone() == (True,)
        names = {name for (name,) in conn.execute("SELECT name FROM customers")}
    assert any(name.endswith("Weiß") for name in names)
    assert not [name for name in names if "Ã¼" in name or "ÃŸ" in name or "Ã¶" in name], "mojibake that was not mended"


def test_the_demos_files_are_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        demofiles.write(tmp_path / name)
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_a_server_that_does_not_start_says_where_its_log_is(tmp_path: Path) -> None:
    (tmp_path / "postgres").write_text("a file stands where the server's folder should be")
    environment = {**os.environ, "COLUMNS": "200"}
    ended = subprocess.run(
        [sys.executable, "-m", "migrate", "demo", "--dir", str(tmp_path)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    assert "The embedded PostgreSQL does not start" in ended.stderr
    assert "Traceback" not in ended.stderr
