"""What a database's schema is, as text that two databases can be compared by."""

import psycopg

_COLUMNS = """
    select table_name, column_name, data_type, character_maximum_length, is_nullable, column_default
    from information_schema.columns where table_schema = 'public' and table_name <> 'alembic_version'
    order by table_name, column_name
"""
_CONSTRAINTS = """
    select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint
    -- A constraint trigger is among the triggers.
    where connamespace = 'public'::regnamespace and conrelid <> 0 and contype <> 't'
      and conrelid::regclass::text <> 'alembic_version' order by 1, 2
"""
_INDEXES = """
    select tablename, indexname, indexdef from pg_indexes
    where schemaname = 'public' and tablename <> 'alembic_version' order by 1, 2
"""
_ROUTINES = """
    select proname, pg_get_functiondef(oid) from pg_proc where pronamespace = 'public'::regnamespace
      and prokind in ('f', 'p') order by 1, 2
"""
_TRIGGERS = """
    select tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) from pg_trigger where not tgisinternal
    order by 1, 2
"""
_POLICIES = """
    select c.oid::regclass::text, c.relrowsecurity, c.relforcerowsecurity, p.polname, p.polcmd::text,
           pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
    from pg_class c left join pg_policy p on p.polrelid = c.oid
    where c.relkind in ('r', 'p') and c.relnamespace::regnamespace::text in ('public', 'usage_month')
      and c.relname <> 'alembic_version' order by 1, 4
"""


def schema_of(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Columns, constraints, indexes, functions, triggers and row-level security."""
    statements = {
        "columns": _COLUMNS,
        "constraints": _CONSTRAINTS,
        "indexes": _INDEXES,
        "routines": _ROUTINES,
        "triggers": _TRIGGERS,
        "policies": _POLICIES,
    }
    with psycopg.connect(url) as connection:
        return {name: connection.execute(statement).fetchall() for name, statement in statements.items()}


def only_tables(schema: dict[str, list[tuple[object, ...]]]) -> dict[str, list[tuple[object, ...]]]:
    """The part of a schema that the models describe."""
    return {name: schema[name] for name in ("columns", "constraints", "indexes")}
