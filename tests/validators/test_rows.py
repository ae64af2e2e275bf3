"""Two sides' hashes are compared as multisets."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from validators.rows import unmatched

HASHES = st.lists(st.integers(0, 6) | st.integers(2**64 - 3, 2**64 - 1), max_size=30)


@given(HASHES, HASHES)
def test_a_hash_differs_where_one_side_has_it_more_often(a: list[int], b: list[int]) -> None:
    expected = sorted(h for h in {*a, *b} if Counter(a)[h] != Counter(b)[h])
    assert unmatched(np.array(a, np.uint64), np.array(b, np.uint64)).tolist() == expected


@pytest.mark.parametrize("sides", [([], []), ([1], [1]), ([2, 1, 1], [1, 2, 1])])
def test_equal_sides_have_no_difference(sides: tuple[list[int], list[int]]) -> None:
    assert not len(unmatched(*(np.array(side, np.uint64) for side in sides)))
