"""A table's life around its chunks: prepared before them, settled and finalized after them, each in one transaction.

All of it holds the table's exclusive lock and checks the fencing epoch, so that no chunk of any run is in flight meanwhile.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from psycopg.rows import scalar_row

from mappings.compile import Mapping
from mappings.ddl import add_key, create_table, quote
from migrate import checksum, ledger, quarantine
from migrate.commit import BOUNDS, enter
from migrate.core import Chunk, Entry, Origin, Reject, TargetTable
from migrate.errors import FindingsError, GateError
from migrate.ledger import Ownership, TableState
from migrate.plan import TablePlan
from migrate.target import Connection, count_rows, explained, references_from_outside

Superseded = Iterable[tuple[int, int, int, int]]
"""(chunk, ordinal, by chunk, by ordinal) of each source row that a later one with the same upsert key overwrites."""


def prepare(
    conn: Connection,
    migration: str,
    plans: Sequence[TablePlan],
    digests: dict[str, str],
    epoch: int,
    superseded: Callable[[TablePlan], Superseded],
    *,
    may_delete: bool,
) -> None:
    """Begin the generations that the plan asks for: truncate, create, pin; all tables in one transaction.

    Raises GateError where the ledger is not what the plan was made from, or, unless `may_delete`, where a table holds
    rows that this migration did not load.
    """
    begun = [p for p in plans if p.action in ("load", "redo", "add")]
    if not begun:
        return
    emptied = [p.mapping.target for p in begun if p.truncate and p.mapping.target.exists]
    # Elected before the transaction: it reads the whole source, and locks are not held that long.
    elected = {p.name: list(superseded(p)) for p in begun if p.mapping.spec.mode == "upsert"}
    with explained("prepare the target's tables"), conn.transaction():
        for plan in sorted(begun, key=lambda p: p.name):  # always in the same order
            enter(conn, migration, plan.name, epoch, None, exclusive=True)
        states = ledger.table_states(conn, migration)
        for plan in begun:
            if states.get(plan.name) != plan.before:
                raise GateError(
                    f"{plan.name}: another command changed it since this one was planned",
                    hint="Run the same command again: it plans from what is there now.",
                )
            if not may_delete:
                refuse_to_delete(conn, migration, plan)
        refuse_outside_references(conn, emptied)
        for plan in begun:
            table = plan.mapping.target
            if not table.exists:
                conn.execute(create_table(table))
                if table.key:
                    conn.execute(add_key(table))
        if emptied:
            conn.execute("TRUNCATE " + ", ".join(quote(t.schema, t.name) for t in emptied))
        for plan in begun:
            if plan.action == "add":
                ledger.set_phase(conn, migration, plan.name, "loading")
            else:
                ledger.save_table(conn, migration, _begin(conn, plan, digests[plan.name]))
            ledger.pin(conn, migration, plan.name, plan.generation, plan.fresh)
            if plan.name in elected:
                ledger.pin_superseded(conn, migration, plan.name, plan.generation, elected[plan.name])


def _begin(conn: Connection, plan: TablePlan, digest: str) -> TableState:
    table = plan.mapping.target
    ownership: Ownership = "ours"
    rows_before = 0
    with conn.cursor(row_factory=scalar_row) as cursor:
        oid = int(cursor.execute("SELECT %s::regclass::oid::bigint", [quote(table.schema, table.name)]).fetchone() or 0)
    if not plan.truncate and table.exists:
        rows_before = count_rows(conn, table)
        ownership = "shared" if rows_before else "ours"
    return TableState(
        plan.name,
        table.qualified,
        oid,
        plan.mapping.spec.mode,
        plan.generation,
        digest,
        ownership,
        not table.exists or (plan.before is not None and plan.before.created),
        rows_before,
        plan.size.rows,
        plan.size.bytes,
        list(plan.bucket_key),
        checksum.NAME,
        "loading",
    )


def refuse_outside_references(conn: Connection, emptied: Sequence[TargetTable]) -> None:
    """TRUNCATE would refuse, or with CASCADE empty tables that nobody spoke of."""
    outside = references_from_outside(conn, emptied) if emptied else []
    if outside:
        constraint, table = outside[0]
        raise GateError(
            f"cannot replace {', '.join(t.qualified for t in emptied)}: {table} references it ({constraint})"
            + (f", and {len(outside) - 1} other foreign keys" if len(outside) > 1 else ""),
            hint="Map that table with `mode: replace` too, drop the foreign key for the migration, or use mode upsert.",
        )


def refuse_to_delete(conn: Connection, migration: str, plan: TablePlan) -> None:
    """Raise GateError if truncating would delete rows that the ledger does not know to be this migration's."""
    table = plan.mapping.target
    if not plan.truncate or not table.exists:
        return
    there = count_rows(conn, table)
    ours = sum(f.inserted for f in ledger.fates(conn, migration, plan.name)) if plan.before is not None else 0
    if there > ours:
        raise GateError(
            f"{plan.name}: to load it ({plan.why}) would delete {there - ours} rows of {table.qualified} that this "
            f"migration did not load",
            hint="If that is meant, run again with --yes.",
        )


def refuse_missing_rows(conn: Connection, migration: str, plan: TablePlan) -> None:
    """Raise FindingsError where a table holds fewer rows than were loaded: somebody emptied it meanwhile."""
    table = plan.mapping.target
    state = ledger.table_states(conn, migration)[plan.name]
    there = count_rows(conn, table)
    expected = state.rows_before + ledger.fates(conn, migration, plan.name)[0].inserted
    if there < expected:
        raise FindingsError(
            f"{table.qualified} holds {there} rows, and {expected} should be there: rows were deleted by others",
            hint=f"`migrate verify -s {plan.name}` names them; `migrate run --restart -s {plan.name}` loads it again.",
        )


OriginsOf = Callable[[int, Sequence[int]], Iterator[Origin]]
"""(chunk, ordinals) → where those source rows stand; reads the partition again."""


def settle(conn: Connection, migration: str, plan: TablePlan, epoch: int, origins: OriginsOf) -> int:
    """Reject what was merged into a row that was rejected itself; the number of rows that this turned.

    Then the table is `loaded`. Doing it again changes nothing.
    """
    with explained(f"settle {plan.name}"), conn.transaction():
        enter(conn, migration, plan.name, epoch, plan.generation, exclusive=True)
        missing = ledger.unbalanced_chunks(conn, migration, plan.name, plan.generation)
        if missing:
            raise GateError(
                f"{plan.name}: {len(missing)} chunks are not committed, chunk {missing[0]} among them",
                hint="Run the same command again.",
            )
        began = datetime.now(UTC)
        turned = 0
        # Each pass turns the rows whose survivor the pass before has turned.
        while lost := ledger.orphaned_superseded(conn, migration, plan.name, plan.generation):
            for number in sorted({row[0] for row in lost}):
                chunk = Chunk(migration, plan.name, plan.generation, number)
                rows = [row for row in lost if row[0] == number]
                rejects = [
                    Reject(
                        ordinal,
                        "survivor",
                        f"a later row with the same key overwrites it, and that row was rejected: chunk {by_chunk}, "
                        f"row {by_ordinal}",
                        origin,
                        None,
                        None,
                    )
                    for (_, ordinal, by_chunk, by_ordinal), origin in zip(
                        rows, origins(number, [r[1] for r in rows]), strict=True
                    )
                ]
                quarantine.write(conn, chunk, rejects)
                entry = Entry(
                    "settle", chunk, merged=-len(rejects), rejected=len(rejects), sums=checksum.pack(checksum.zero())
                )
                ledger.write_entry(conn, entry, epoch, began, 0)
                turned += len(rejects)
        ledger.set_phase(conn, migration, plan.name, "loaded")
    return turned


def finalize(conn: Connection, migration: str, plan: TablePlan, epoch: int, connect: Callable[[], Connection]) -> None:
    """Move sequences past what was loaded, ANALYZE, and call the table finalized. Doing it again changes nothing."""
    table = plan.mapping.target
    with explained(f"finalize {plan.name}"), conn.transaction():
        enter(conn, migration, plan.name, epoch, plan.generation, exclusive=True)
        with ThreadPoolExecutor(1) as beside:  # both read the table: at once, on a connection each
            analyzed = beside.submit(_analyze, connect, quote(table.schema, table.name))
            refuse_missing_rows(conn, migration, plan)
            advance_sequences(conn, plan.mapping)
        analyzed.result()
        ledger.set_phase(conn, migration, plan.name, "finalized")


def _analyze(connect: Callable[[], Connection], relation: str) -> None:
    with connect() as conn, conn.transaction():
        conn.execute(BOUNDS)
        conn.execute(f"ANALYZE {relation}")


def advance_sequences(conn: Connection, mapping: Mapping) -> None:
    """Move the sequences of a table's mapped columns past what stands in it: never backwards, and not for an empty table.

    A sequence that was never used stands before its START, not at 0.
    """
    table = mapping.target
    for column in table.columns:
        if column.sequence is not None and column.name in mapping.columns:
            # psycopg takes a % for the beginning of a placeholder.
            name, relation = (n.replace("%", "%%") for n in (quote(column.name), quote(table.schema, table.name)))
            conn.execute(
                f"SELECT setval(%(seq)s, m) FROM (SELECT max({name}) AS m FROM {relation}) x, pg_sequence s "
                f"WHERE s.seqrelid = %(seq)s::regclass AND m >= coalesce(pg_sequence_last_value(s.seqrelid) + 1, s.seqstart)",
                {"seq": column.sequence},
            )
