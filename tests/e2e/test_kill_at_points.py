"""Kill -9 at each step that a run takes, twice in a row; the same command then ends as a run that nobody killed."""

from collections.abc import Callable
from typing import Any

import pytest

from e2e import shop
from e2e.rig import Rig, differences, state_of

RUN = ("run", "-j", "2", "--yes", *shop.BATCH)
KILLED = -9

# Each point, with the passage at which the first and the second run die. None: a resumed run does not pass it again.
POINTS = {
    "prepare": (1, 1),
    "truncate": (1, 1),
    "crosswalk": (1, 2),
    "prepared": (1, None),
    "claim": (1, 4),
    "copy": (2, 5),
    "quarantine": (1, 3),
    "commit": (1, 3),
    "commit-sent": (1, 3),
    "committed": (1, 3),
    "settle": (1, 2),
    "settled": (1, 1),
    "finalize": (1, 2),
    "finalized": (1, 2),
}


@pytest.fixture(scope="module")
def clean(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What a run that nobody kills leaves behind; kept by the first test that needs it."""
    return {}


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_run_is_resumed_by_the_same_command(
    point: str, rigs: Callable[[str], Rig], clean: dict[str, Any]
) -> None:
    rig = rigs("killed")
    shop.make(rig, customers=200, orders=200, prices=150)
    if not clean:
        undisturbed = rigs("clean")
        undisturbed.forget(shop.TABLES)
        make_strangers(undisturbed)
        undisturbed.migrate(*RUN)
        clean.update(state_of(undisturbed.url))
        assert len(clean["chunks"]) > 12
        rules = {(table, rule) for table, _, _, _, rule, *_ in clean["rejects"]}
        assert {
            ("customers", "fields"),
            ("orders", "foreign_key"),
            ("orders", "check"),
            ("prices", "survivor"),
        } <= rules
    make_strangers(rig)
    first, second = POINTS[point]
    assert rig.killed_at(point, first, *RUN).code == KILLED
    if point in ("prepare", "truncate"):
        assert rig.value("SELECT count(*) FROM orders") == 10, "a replace that was not committed has deleted rows"
    if second is not None:
        assert rig.killed_at(point, second, *RUN).code == KILLED
    rig.migrate(*RUN)
    assert differences(state_of(rig.url), clean) == []
    rig.migrate("verify")


def test_a_killed_replay_is_gone_on_with(rigs: Callable[[str], Rig]) -> None:
    """Rejects are flipped in the transaction that loads them: none is lost, and none is loaded twice."""
    rig, undisturbed = rigs("killed"), rigs("clean")
    shop.make(rig, customers=200, orders=400, prices=50)
    undisturbed.forget(shop.TABLES)
    orders = (rig.folder / "orders.csv").read_text()
    rig.write("mended/orders.csv", orders.replace("forbidden", "allowed").replace(",-1,", ",1,"))
    replay = ("rejects", "replay", "-s", "orders", "--from", "mended/orders.csv")
    for each in (rig, undisturbed):
        each.migrate("run")
    read, loaded, *_ = rig.fates("orders")
    undisturbed.migrate(*replay, code=3)  # some orders belong to customers that were not loaded
    assert rig.killed_at("settle-rejects", 1, *replay).code == KILLED
    assert rig.fates("orders")[1] == loaded
    assert rig.killed_at("entry", 1, *replay).code == KILLED
    assert rig.fates("orders")[1] == loaded
    rig.migrate(*replay, code=3)
    assert rig.fates("orders")[:2] == (read, rig.value("SELECT count(*) FROM orders"))
    assert differences(state_of(rig.url), state_of(undisturbed.url)) == []
    rig.migrate("verify")


def make_strangers(rig: Rig) -> None:
    rig.sql("ALTER TABLE orders DISABLE TRIGGER ALL")
    rig.sql(shop.STRANGERS)
    rig.sql("ALTER TABLE orders ENABLE TRIGGER ALL")
