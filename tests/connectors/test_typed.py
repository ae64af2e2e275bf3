"""Texts of database values become values of their type exactly, or are told."""

from decimal import Decimal

import pyarrow as pa
import pytest

from connectors import typed


@pytest.mark.parametrize(
    ("text", "kind", "fits"),
    [
        ("35", pa.decimal128(37, 37), None),
        ("-35", pa.decimal128(38, 38), None),
        ("0.5", pa.decimal128(37, 37), Decimal("0.5")),
        ("-000.50", pa.decimal128(2, 2), Decimal("-0.50")),
        ("100", pa.decimal128(4, 2), None),
        ("99.99", pa.decimal128(4, 2), Decimal("99.99")),
        ("9" * 38, pa.decimal128(38, 0), Decimal("9" * 38)),
        ("1.239", pa.decimal128(10, 2), None),
        ("NaN", pa.decimal128(10, 2), None),
        ("", pa.decimal128(10, 2), None),
    ],
)
def test_a_decimal_arrives_exactly_or_is_told(text: str, kind: pa.DataType, fits: Decimal | None) -> None:
    values, bad = typed.cast(pa.array([None, text]), kind)
    assert values.type == kind
    assert values.to_pylist() == [None, fits]
    assert (bad is not None and bad.tolist() == [False, True]) == (fits is None)
