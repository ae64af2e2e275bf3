"""Kill -9 at random moments of a parallel run; the same command, however often it is killed, ends as an undisturbed run."""

import random
import time
from collections.abc import Callable

import pytest

from e2e import shop
from e2e.rig import Rig, differences, state_of

RUN = ("run", "-j", "2", "--log-format", "json", *shop.BATCH)
KILLED = -9
CHUNKS = 60


@pytest.mark.parametrize(
    ("seed", "kills"), [(1, 25), pytest.param(2, 250, marks=pytest.mark.soak)], ids=["25 kills", "250 kills"]
)
def test_runs_killed_at_random_moments_end_as_a_clean_run(seed: int, kills: int, rigs: Callable[[str], Rig]) -> None:
    dice = random.Random(seed)
    rig, undisturbed = rigs("killed"), rigs("clean")
    shop.make(undisturbed)
    undisturbed.migrate(*RUN)
    clean = state_of(undisturbed.url)
    assert len(clean["chunks"]) >= CHUNKS
    killed = 0
    while killed < kills:
        rig.forget(shop.TABLES)
        in_a_row = dice.randint(2, 5)
        for _ in range(in_a_row):
            killed += killed_at_a_random_moment(rig, dice, len(clean["chunks"]) // in_a_row)
        ended = rig.try_(*RUN)
        assert ended.code == 0, f"after {killed} kills: {ended.said}"
        assert differences(state_of(rig.url), clean) == [], f"after {killed} kills"
        if dice.random() < 0.2:
            rig.migrate("verify")


def killed_at_a_random_moment(rig: Rig, dice: random.Random, chunks: int) -> bool:
    """Start the run and kill it: some chunks into the load, or before it, while it still opens files and prepares."""
    running = rig.start(*RUN)
    if dice.random() < 0.15:
        time.sleep(dice.uniform(0.8, 2.0))
    else:
        wanted = dice.randint(0, chunks)
        running.until(
            lambda lines: sum('"event": "chunk"' in line or '"event": "table"' in line for line in lines) > wanted
        )
        time.sleep(dice.uniform(0, 0.06))
    return running.kill().code == KILLED
