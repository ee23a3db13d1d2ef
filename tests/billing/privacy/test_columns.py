"""Every column has a class, and every table with an organization in it is exported or withheld on purpose."""

import psycopg

from raymart_billing.privacy.columns import _WRITTEN, COLUMNS, ColumnClass, columns_shown
from raymart_billing.privacy.dispositions import DELETED, DELETED_WITH, KEPT, REPLACED
from raymart_billing.privacy.export import ROWS, WITHHELD

CATALOG = """
select c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
 where n.nspname = 'public' and c.relkind in ('r', 'p') and not c.relispartition
"""


def catalog(owner_url: str) -> dict[str, dict[str, str]]:
    tables: dict[str, dict[str, str]] = {}
    with psycopg.connect(owner_url) as connection:
        for table, column, kind in connection.execute(CATALOG).fetchall():
            tables.setdefault(table, {})[column] = kind
    return tables


class TestColumns:
    def test_every_column_of_the_database_has_a_class(self, owner_url: str) -> None:
        there = {(table, name) for table, names in catalog(owner_url).items() for name in names}
        classed = {(table, name) for table, names in COLUMNS.items() for name in names}
        assert there == classed, "say in privacy/columns.py what the column holds of whom"

    def test_no_column_has_two(self) -> None:
        for table, classes in _WRITTEN.items():
            names = " ".join(classes.values()).split()
            assert len(names) == len(set(names)), table

    def test_what_looks_like_a_secret_is_one(self) -> None:
        for table, names in COLUMNS.items():
            for name, kind in names.items():
                if name.endswith("_hash") or "sealed" in name.split("_") or "secret" in name:
                    assert kind is ColumnClass.SECRET, f"{table}.{name}"


class TestRows:
    def test_every_table_of_an_organizations_is_exported_or_withheld(self, owner_url: str) -> None:
        own = {table for table, names in catalog(owner_url).items() if "organization_id" in names}
        assert own <= set(ROWS) | WITHHELD
        assert not set(ROWS) & WITHHELD

    def test_no_secret_is_shown(self) -> None:
        assert columns_shown("api_key")
        for table in ROWS:
            assert not {name for name in columns_shown(table) if COLUMNS[table][name] is ColumnClass.SECRET}


class TestDispositions:
    def test_every_column_that_may_tell_who_is_deleted_replaced_or_kept_for_a_reason(self) -> None:
        telling = {
            f"{table}.{name}"
            for table, names in COLUMNS.items()
            if table not in DELETED.keys() | DELETED_WITH.keys()
            for name, kind in names.items()
            if kind in {ColumnClass.PERSONAL, ColumnClass.TEXT, ColumnClass.SECRET}
        }
        replaced = {
            f"{table}.{name}"
            for table, (_, values) in REPLACED.items()
            for name in values
            if COLUMNS[table][name] in {ColumnClass.PERSONAL, ColumnClass.TEXT, ColumnClass.SECRET}
        }
        assert telling == replaced | set(KEPT), "say in privacy/dispositions.py what becomes of it"
        assert not replaced & set(KEPT)

    def test_nothing_of_the_books_is_touched(self) -> None:
        books = {
            "transfer",
            "ledger_account",
            "usage_record",
            "invoice",
            "invoice_line",
            "credit_note",
            "refund",
        }
        assert not books & (REPLACED.keys() | DELETED.keys())
