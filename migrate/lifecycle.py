"""A table's life around its chunks: prepared before them and finalized after them, each in one transaction.

All of it holds the table's exclusive lock and checks the fencing epoch, so that no chunk of any run is in flight meanwhile.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from psycopg.rows import scalar_row

from mappings.compile import Mapping
from mappings.ddl import add_foreign_key, add_key, create_table, quote
from mappings.dedupe import Ballot
from migrate import checksum, crosswalk, drift, ledger
from migrate.commit import BOUNDS, enter
from migrate.core import Chunk, TargetTable
from migrate.errors import FindingsError, GateError
from migrate.ledger import Ownership, TableState
from migrate.plan import TablePlan, reference_key
from migrate.target import LEDGER, Connection, catalogue, count_rows, explained, references_from_outside
from validators.constraints import sequence


@dataclass(frozen=True, slots=True)
class Elected:
    """An election, and the columns by which its table is referenced."""

    ballot: Ballot
    referenced: tuple[tuple[str, ...], ...]


def prepare(
    conn: Connection,
    migration: str,
    plans: Sequence[TablePlan],
    digests: dict[str, str],
    epoch: int,
    elected: dict[str, Elected],
    *,
    may_delete: bool,
) -> None:
    """Begin the generations that the plan asks for: truncate, create, pin, publish crosswalks; all in one transaction.

    Raises GateError where the ledger is not what the plan was made from, or, unless `may_delete`, where a table holds
    rows that this migration did not load.
    """
    begun = [p for p in plans if p.action in ("load", "redo", "add")]
    if not begun:
        return
    emptied = [p.mapping.target for p in begun if p.truncate and p.mapping.target.exists]
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
                conn.execute(create_table(table, unlogged=conn.ledger != LEDGER))
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
                _publish(conn, migration, plan, elected[plan.name])
            _suspend(conn, migration, plan)
            made = catalogue(conn, plan.mapping.target.schema, plan.mapping.target.name)
            assert made is not None
            made = with_suspended(conn, migration, plan.name, made)
            drift.save(conn, migration, plan.mapping, plan.generation, plan.seen.rows, made)


def _publish(conn: Connection, migration: str, plan: TablePlan, elected: Elected) -> None:
    """Write an election's results; where the source has grown, those of its new partitions."""
    ballot, schema = elected.ballot, plan.mapping.schema
    first = plan.fresh[0].ordinal if plan.fresh else 0
    keys = [(columns, ballot.keys(columns, schema)) for columns in elected.referenced]
    crosswalk.publish(conn, Chunk(migration, plan.name, plan.generation, first), ballot, keys, schema)


def _suspend(conn: Connection, migration: str, plan: TablePlan) -> None:
    """Take off the foreign keys within the table's knot: a parent may be loaded after its child."""
    off = {key.name for key, _ in ledger.suspended(conn, migration, plan.name)}
    table = plan.mapping.target
    relation = quote(table.schema, table.name)
    for key in plan.inner:
        if key.name in off or key not in table.foreign_keys:
            continue
        row = conn.execute(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass AND conname = %s",
            [relation, key.name],
        ).fetchone()
        if row is not None:
            ledger.suspend(conn, migration, plan.name, key, row[0])
            conn.execute(f"ALTER TABLE {relation} DROP CONSTRAINT {quote(key.name)}")


def with_suspended(conn: Connection, migration: str, name: str, target: TargetTable) -> TargetTable:
    """A target table with the foreign keys that are off while it is being loaded."""
    off = [key for key, _ in ledger.suspended(conn, migration, name)]
    return replace(target, foreign_keys=(*target.foreign_keys, *(k for k in off if k not in target.foreign_keys)))


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
        list(plan.parents),
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


def finalize(conn: Connection, migration: str, plan: TablePlan, epoch: int, connect: Callable[[], Connection]) -> None:
    """Put foreign keys on, move sequences past what was loaded, ANALYZE, and call the table finalized.

    Doing it again changes nothing.
    """
    table = plan.mapping.target
    with explained(f"finalize {plan.name}"), conn.transaction():
        enter(conn, migration, plan.name, epoch, plan.generation, exclusive=True)
        _constrain(conn, migration, plan)
    # A transaction of its own: the ANALYZE beside it would wait for ever for the constraint's lock.
    with explained(f"finalize {plan.name}"), conn.transaction():
        enter(conn, migration, plan.name, epoch, plan.generation, exclusive=True)
        with ThreadPoolExecutor(1) as beside:  # both read the table: at once, on a connection each
            analyzed = beside.submit(_analyze, connect, quote(table.schema, table.name))
            refuse_missing_rows(conn, migration, plan)
            advance_sequences(conn, plan.mapping)
        analyzed.result()
        ledger.set_phase(conn, migration, plan.name, "finalized")


def _constrain(conn: Connection, migration: str, plan: TablePlan) -> None:
    """Put on again what was taken off; a table that was made from the mapping gets the foreign keys that it says."""
    table = plan.mapping.target
    relation = quote(table.schema, table.name)
    for key, definition in ledger.suspended(conn, migration, plan.name):
        conn.execute(f"ALTER TABLE {relation} ADD CONSTRAINT {quote(key.name)} {definition}")
    ledger.resumed(conn, migration, plan.name)
    if not ledger.table_states(conn, migration)[plan.name].created:
        return
    for reference in plan.mapping.references:
        there = catalogue(conn, *reference.address)
        unique = there is not None and set(reference.parent_columns) in [set(u) for u in (there.key, *there.uniques)]
        if reference.enforced and reference.orphans != "keep" and reference.foreign_key is None and unique:
            conn.execute(add_foreign_key(table, reference_key(reference)))


def _analyze(connect: Callable[[], Connection], relation: str) -> None:
    with connect() as conn, conn.transaction():
        conn.execute(BOUNDS)
        conn.execute(f"ANALYZE {relation}")


def advance_sequences(conn: Connection, mapping: Mapping) -> None:
    """Move the sequences of a table's mapped columns past what stands in it: never backwards, and not for an empty table."""
    table = mapping.target
    for column in table.columns:
        if column.sequence is not None and column.name in mapping.columns:
            behind = conn.execute(sequence(table.schema, table.name, column.name, column.sequence)).fetchone()
            if behind is not None:
                conn.execute("SELECT setval(%s, %s)", [column.sequence, int(behind[1])])
