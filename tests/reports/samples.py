"""Reports as real migrations leave them, for every rendering: a company's three tables, hundreds, a failed run, a dry one."""

import hashlib
import random
from dataclasses import replace

from reports.model import (
    Cluster,
    Duplicates,
    Failure,
    Found,
    OrphanCount,
    RejectCount,
    RejectSample,
    Report,
    RunReport,
    SourceReading,
    TableReport,
    Throughput,
    VerificationResult,
)

HOSTILE = (
    "</script><script>alert(1)</script>\u202egnp.exe\x00\x1b[2J\n&\"'<img src=https://evil.test/x onerror=alert(1)>"
)
ARABIC = "شركة النور للتجارة"

VERSIONS = (
    ("aurora-migrate", "0.1.0"),
    ("Python", "3.11.2"),
    ("PostgreSQL", "15.10"),
    ("DuckDB", "2.0.0"),
    ("PyArrow", "25.0.0"),
)
RULES = (
    ("structure", None, "a quote is opened and never closed; the next 3 lines did not read as rows either", None),
    ("fields", None, "expected 9 fields, found 11", None),
    ("encoding", "Straße", "byte 0x81 at byte 91822 of the file is not valid cp1252", "Hauptstra\\x81e 7"),
    ("type", "geboren", "'31.02.1980' fits none of DD.MM.YYYY, YYYY-MM-DD", "31.02.1980"),
    ("length", "ort", "is 43 characters long and at most 30 fit", "Saint-Rémy-en-Bouzemont-Saint-Genest-et-Isson"),
    ("range", "saldo", "12345678901.00 does not fit numeric(10,2)", "12.345.678.901,00"),
    ("lookup", "land", "the code 'XX' is not in the code table country", "XX"),
    ("not_null", "name", "is NULL and must not be", None),
    ("check", "betrag", "breaks the constraint betrag_positiv", "-12,00"),
    ("unique", "email", "the server refused it: duplicate key value violates unique constraint [23505]", None),
    ("foreign_key", "kunde", "no row of public.kunden has (id=999999) (bestellungen_kunde_fkey)", "999999"),
    ("survivor", None, "a later row with the same key overwrites it, and that row was rejected: chunk 3, row 41", None),
    ("nul", "bemerkung", "holds a NUL character", "Nul␀Byte"),
)


def company() -> Report:
    """Three tables, all accounted for, verified; rejects by every rule, duplicates, orphans."""
    rejects = tuple(
        RejectCount(
            rule,
            column,
            "waived" if rule == "fields" else "open",
            rows,
            tuple(
                RejectSample(
                    f"export/kunden_2019.csv:{1043 + 977 * i + n}",
                    f"KundenNr={31000 + 7 * i + n:06}",
                    value,
                    reason,
                    100 * n + i + 1,
                )
                for i in range(min(rows, 3))
            ),
        )
        for n, (rows, (rule, column, reason, value)) in enumerate(
            zip((1, 2, 3, 41, 7, 1, 12, 5, 2, 3, 9, 4, 1), RULES, strict=True)
        )
    )
    customers = _table(
        "kunden",
        1_204_377,
        merged=1_846,
        filtered=12_040,
        rejects=rejects,
        seconds=83.4,
        target="public.kunden",
        source="crm.Kundenstamm",
        verifications=(VerificationResult("rows", "2026-11-24T22:19:07.120000Z", 0, True),),
        duplicates=Duplicates(
            1_846,
            1_502,
            (("email", 1_610), ("telefon + geboren", 236)),
            (
                Cluster("KundenNr=004711", tuple(f"KundenNr={n:06}" for n in range(9001, 9018)), "email"),
                Cluster("KundenNr=018822", ("KundenNr=018823", "KundenNr=222104"), "telefon + geboren"),
                Cluster("KundenNr=077120", ("KundenNr=077121",), "email"),
            ),
        ),
    )
    orders = _table(
        "bestellungen",
        18_730_112,
        rejects=(
            RejectCount(
                "foreign_key",
                "kunde",
                "open",
                3,
                (
                    RejectSample(
                        "export/bestellungen_2020.csv.gz:6667",
                        "BestellNr=6666",
                        "999999",
                        "no row of public.kunden has (id=999999) (bestellungen_kunde_fkey)",
                    ),
                ),
            ),
            RejectCount(
                "range",
                "datum",
                "replayed",
                1,
                (
                    RejectSample(
                        "export/bestellungen_2020.csv.gz:4445",
                        "BestellNr=4444",
                        "29.03.2020 02:30",
                        "02:30 on 29.03.2020 did not exist in Europe/Berlin",
                    ),
                ),
            ),
        ),
        seconds=1_204.9,
        target="public.bestellungen",
        source="erp.Bestellungen",
        verifications=(VerificationResult("rows", "2026-11-24T22:41:30.000000Z", 0, True),),
        orphans=(OrphanCount("vertreter_id", "set to NULL", 118),),
        notes=("column BestellNr. was renamed to BestellNr_",),
        readings=(SourceReading("erp", "asof", "in one snapshot of all connections", "gtid 0-1-40071"),),
    )
    notes = _table(
        "société_régions",
        317,
        seconds=0.2,
        mode="upsert",
        merged=14,
        rows_before=96,
        target="référence.société_régions",
        source="crm.Régions",
        verifications=(VerificationResult("rows", "2026-11-24T22:42:02.000000Z", 0, True),),
    )
    runs = (
        RunReport(3, "verify", "0.1.0", "2026-11-24T22:18:00.000000Z", "2026-11-24T22:42:02.000000Z", "ok"),
        RunReport(2, "run", "0.1.0", "2026-11-24T21:40:12.000000Z", "2026-11-24T22:03:44.000000Z", "ok"),
        RunReport(1, "run", "0.1.0", "2026-11-24T21:32:55.000000Z", None, None),
    )
    return Report(
        "nordwind",
        (customers, orders, notes),
        runs,
        (),
        (),
        "migrate rejects list",
        versions=VERSIONS,
        made="2026-11-24T22:45:10+00:00",
        throughput=(
            Throughput(2, "2026-11-24T21:40:13.000000Z", 23.4, tuple(150_000 + n * n % 97 * 2_500 for n in range(60))),
            Throughput(1, "2026-11-24T21:32:56.000000Z", 1.9, (*(40_000 + n * 900 for n in range(50)), *[0] * 10)),
        ),
    )


def different() -> Report:
    """Verification found differences."""
    report = company()
    findings = (
        *(
            Found(
                "rows.differ",
                "error",
                "kunden",
                f"kunden: id={n}: ort should be 'Köln' and is 'Koeln'",
                f"id={n}",
                "'Köln'",
                "'Koeln'",
                level="rows",
            )
            for n in range(700, 700 + 620)
        ),
        Found(
            "rows.uncovered",
            "warning",
            "bestellungen",
            "bestellungen: dauer: not compared, PostgreSQL spells these types in its own way",
            level="rows",
        ),
        Found(
            "counts.target",
            "error",
            "bestellungen",
            "bestellungen: 18,730,108 rows were loaded and 18,730,107 are there",
            None,
            "18730108",
            "18730107",
            level="counts",
        ),
        Found(
            "expect_column_values_to_match_regex",
            "warning",
            "kunden",
            "kunden: 3 values of email do not match '@'",
            level="expectations",
        ),
    )
    kunden = replace(
        report.tables[0],
        verifications=(
            VerificationResult("counts", "2026-11-24T22:12:00Z", 0, True),
            VerificationResult("rows", "2026-11-24T22:19:07Z", 620, True),
        ),
    )
    return replace(
        report, tables=(kunden, *report.tables[1:]), findings=findings, next_command="migrate report --format json"
    )


def failed() -> Report:
    """A run that ended in the middle of the second table."""
    report = company()
    orders = replace(
        report.tables[1],
        phase="loading",
        chunks=412,
        chunks_done=131,
        read=5_957_000,
        loaded=5_956_997,
        verifications=(),
    )
    failure = Failure(
        "cannot copy into public.bestellungen: server closed the connection unexpectedly",
        "Is the target up and reachable? Run the same command again: it goes on where it stopped.",
        75,
    )
    runs = (
        RunReport(4, "run", "0.1.0", "2026-11-24T23:40:12.000000Z", "2026-11-24T23:44:44.000000Z", "exit 75"),
        *report.runs,
    )
    kunden = replace(report.tables[0], verifications=())
    return replace(
        report,
        tables=(kunden, orders),
        not_started=("société_régions",),
        runs=runs,
        failure=failure,
        next_command="migrate run",
    )


def dry() -> Report:
    """What a dry run says of the same tables, one of them loaded before."""
    report = company()
    tables = tuple(replace(t, verifications=()) for t in report.tables[:2])
    runs = (RunReport(1, "run --dry-run", "0.1.0", "2026-11-24T20:00:00Z", "2026-11-24T20:21:40Z", "ok"),)
    return replace(
        report, tables=tables, runs=runs, dry_run=True, done_before=("société_régions",), next_command="migrate run"
    )


def many(number: int) -> Report:
    """As many tables as a grown system has, most of them without a fault."""
    dice = random.Random(number)
    words = ["auftrag", "kunde", "beleg", "lager", "artikel", "fournisseur", "règlement", "échéance", "dépôt"]
    tables = []
    for n in range(number):
        name = "_".join(dice.sample(words, 2)) + f"_{n:03}"
        if n == 7:
            name = "zwischenlagerbestandsveränderungsprotokollpositionen_historisch"
        read = int(10 ** dice.uniform(0, 9))
        trouble = n % 9 == 4
        rejects = (
            tuple(
                RejectCount(
                    rule,
                    column,
                    "open",
                    min(read, dice.randint(1, 400)),
                    tuple(
                        RejectSample(f"export/{name}.csv:{dice.randint(2, 10**6)}", f"nr={i}", value, reason)
                        for i in range(3)
                    ),
                )
                for rule, column, reason, value in dice.sample(RULES, 2)
            )
            if trouble and read > 1000
            else ()
        )
        tables.append(
            _table(
                name,
                read,
                filtered=read // 50 if n % 3 == 0 else 0,
                merged=read // 200 if n % 11 == 0 else 0,
                rejects=rejects,
                seconds=read / 15_000 + 0.05,
                source=f"erp.{name}",
                verifications=(VerificationResult("rows", "2026-11-24T22:19:07Z", 0, True),) if n % 2 else (),
            )
        )
    return replace(company(), migration=f"werk_{number}", tables=tuple(tables), next_command="migrate verify")


def hostile() -> Report:
    """Names and values that want to be markup, to reverse the line, or not to be seen; numbers that are huge."""
    table = _table(
        "x" * 63,
        10**15 + 1,
        filtered=10**14,
        rejects=(
            RejectCount(
                "type",
                HOSTILE[:40],
                "open",
                10**9,
                tuple(RejectSample(HOSTILE, HOSTILE, HOSTILE, HOSTILE) for _ in range(2)),
            ),
            RejectCount(
                "length",
                "名前",
                "open",
                1,
                (RejectSample("datei.csv:9", ARABIC, "ü" * 5000, f"{ARABIC} is too long \ud800"),),
            ),
        ),
        target=f"public.{HOSTILE}",
        source=HOSTILE,
        notes=(HOSTILE,),
        duplicates=Duplicates(5, 1, ((HOSTILE, 5),), (Cluster(HOSTILE, (HOSTILE,) * 20, HOSTILE),)),
        merged=5,
        orphans=(OrphanCount(HOSTILE, HOSTILE, 4),),
    )
    finding = Found(HOSTILE, "error", table.name, HOSTILE, HOSTILE, HOSTILE, HOSTILE, level=HOSTILE)
    run = RunReport(1, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    arabic = _table("العملاء", 12)
    return Report(
        "m", (table, arabic), (run,), (finding,), (HOSTILE,), HOSTILE, versions=((HOSTILE, HOSTILE),), made=HOSTILE
    )


def _table(
    name: str,
    read: int,
    *,
    merged: int = 0,
    filtered: int = 0,
    rejects: tuple[RejectCount, ...] = (),
    seconds: float = 1.0,
    mode: str = "replace",
    target: str = "",
    source: str = "crm.x",
    rows_before: int = 0,
    verifications: tuple[VerificationResult, ...] = (),
    duplicates: Duplicates | None = None,
    orphans: tuple[OrphanCount, ...] = (),
    notes: tuple[str, ...] = (),
    readings: tuple[SourceReading, ...] = (),
) -> TableReport:
    rejected = sum(r.rows for r in rejects if r.state != "replayed")
    chunks = max(1, read // 200_000)
    return TableReport(
        name,
        target or f"public.{name}",
        mode,
        1,
        "finalized",
        chunks,
        chunks,
        read,
        read - merged - filtered - rejected,
        merged,
        filtered,
        rejected,
        rows_before,
        seconds,
        rejects,
        verifications,
        duplicates,
        orphans,
        source,
        notes,
        hashlib.sha256(name.encode()).hexdigest(),
        "xxh3-64/1",
        hashlib.sha256(target.encode()).hexdigest(),
        readings,
    )
