"""Kill -9 where duplicates are published, where levels settle and where a dry run's shadow is dropped; and at random moments."""

import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from e2e import family
from e2e.rig import Rig, differences, state_of

RUN = ("run", "-j", "2", "--yes", "--log-format", "json", "--batch-bytes", "1500")
KILLED = -9


@pytest.fixture(scope="module")
def clean() -> dict[str, Any]:
    """What a run that nobody kills leaves behind; kept by the first test that needs it."""
    return {}


def undisturbed(rigs: Callable[[str], Rig], clean: dict[str, Any]) -> None:
    if not clean:
        rig = rigs("clean")
        family.make(rig, n=60)
        rig.migrate(*RUN)
        clean.update(state_of(rig.url))


@pytest.mark.parametrize(
    ("point", "first", "second"),
    [
        ("crosswalk", 1, 3),
        ("prepared", 1, None),
        ("settle", 1, 2),
        ("settling", 1, 2),
        ("settled", 1, 2),
        ("finalize", 2, 3),
    ],
)
def test_a_run_killed_twice_ends_as_a_clean_run(
    point: str, first: int, second: int | None, rigs: Callable[[str], Rig], clean: dict[str, Any]
) -> None:
    undisturbed(rigs, clean)
    rig = rigs("killed")
    family.make(rig, n=60)
    assert rig.killed_at(point, first, *RUN).code == KILLED
    if second is not None:
        assert rig.killed_at(point, second, *RUN).code == KILLED
    rig.migrate(*RUN)
    assert differences(state_of(rig.url), clean) == []
    assert family.orphans(rig) == []


def test_what_is_off_meanwhile_is_said(rig: Rig) -> None:
    family.make(rig, n=30)
    assert rig.killed_at("settle", 1, *RUN).code == KILLED
    said = rig.migrate("status").out
    assert "departments: the foreign key departments_head_fkey is off until the table is finalized" in said
    rig.migrate(*RUN)
    assert "is off" not in rig.migrate("status").out


@pytest.mark.parametrize(
    ("seed", "kills"), [(3, 25), pytest.param(4, 150, marks=pytest.mark.soak)], ids=["25 kills", "150 kills"]
)
def test_runs_killed_at_random_moments_end_as_a_clean_run(
    seed: int, kills: int, rigs: Callable[[str], Rig], clean: dict[str, Any]
) -> None:
    undisturbed(rigs, clean)
    dice = random.Random(seed)
    rig = rigs("killed")
    family.make(rig, n=60)
    killed = 0
    while killed < kills:
        rig.forget(family.TABLES)
        for _ in range(dice.randint(3, 6)):
            killed += killed_at_a_random_moment(rig, dice)
        rig.migrate(*RUN)
        assert differences(state_of(rig.url), clean) == [], f"after {killed} kills"
    rig.migrate("verify")


def killed_at_a_random_moment(rig: Rig, dice: random.Random) -> bool:
    running = rig.start(*RUN)
    wanted = dice.randint(0, 40)
    running.until(lambda lines: sum('"event":' in line for line in lines) > wanted)
    time.sleep(dice.uniform(0, 0.05))
    return running.kill().code == KILLED
