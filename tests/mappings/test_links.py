"""Which foreign keys a project file can say: those by a parent's whole key, no column twice, no keys made of each other."""

from mappings.links import Link, Linked, linked
from migrate.core import Reference


def table(name: str, key: str, columns: str, *references: Reference) -> Linked:
    return Linked(name, tuple(key.split()), {c: c.lower() for c in columns.split()}, True, references)


def refers(columns: str, parent: str, to: str) -> Reference:
    return Reference(tuple(columns.split()), parent, tuple(to.split()))


def test_a_key_of_several_columns_is_referenced_column_by_column_in_the_order_of_the_key() -> None:
    found = linked(
        {
            "s.O": table("o", "No Year", "No Year"),
            "s.L": table("l", "ID", "ID Y N", refers("y n", "s.O", "YEAR no")),
        }
    )
    assert found.links == {
        ("l", "n"): Link("o", "no", ("N", "Y"), False),
        ("l", "y"): Link("o", "year", ("N", "Y"), False),
    }
    assert not found.comments


def test_a_table_may_reference_itself_and_two_each_other() -> None:
    found = linked(
        {
            "a": table("a", "id", "id up b", refers("up", "a", "id"), refers("b", "b", "id")),
            "b": table("b", "id", "id a", refers("a", "a", "id")),
        }
    )
    assert len(found.links) == 3


def test_what_cannot_be_said_is_a_comment_on_each_of_its_columns() -> None:
    found = linked(
        {
            "p": table("p", "id", "id mail"),
            "keyless": table("keyless", "", "x"),
            "c": table(
                "c",
                "t id",
                "t id up a b m g k",
                refers("m", "p", "mail"),
                refers("k", "keyless", "x"),
                refers("g", "gone", "id"),
                refers("t a", "c", "t id"),
                refers("a b", "c", "t id"),
                refers("b a", "c", "t id"),
            ),
        }
    )
    assert found.comment(("c", "m")) == "references p by mail, which is not its key (id)"
    assert found.comment(("c", "k")) == "references keyless by x, which has no key"
    assert found.comment(("c", "g")) == "references a table that is left out"
    # Its key would be made of its parent's, which is a row of the same table.
    why = "t, a together reference c by t, id; written down, these keys would be made of each other"
    assert found.comment(("c", "t")) == why
    assert found.links == {
        ("c", "a"): Link("c", "t", ("a", "b"), False),
        ("c", "b"): Link("c", "id", ("a", "b"), False),
    }
    assert "b, a together reference c by t, id; a column of it is in another reference already" in found.comment(
        ("c", "b")
    )
