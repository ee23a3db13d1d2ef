"""Roles of the embedded cluster: who migrates owns, who runs does not.

| role | is | used by |
|---|---|---|
| `raymart` | the cluster's superuser | nobody, once the cluster is made; its owner, for repairs |
| `raymart_owner` | owner of the database and all in it, exempt from row-level security so that its functions' refusals name the row | `raymart db upgrade` (`MIGRATION_DATABASE_URL`) |
| `raymart_app` | member of `raymart_runtime`, exempt from row-level security until it takes `raymart_tenant` | every other process (`DATABASE_URL`) |
| `raymart_runtime` | the rights themselves, granted by migration 0011 | nobody by itself |
| `raymart_tenant` | what a process takes for one transaction to act for a tenant, by migration 0023 | nobody by itself |
"""

OWNER = "raymart_owner"
APP = "raymart_app"
RUNTIME = "raymart_runtime"
TENANT = "raymart_tenant"
MARKER = "raymart-roles-3"
"""A file in the cluster: its roles are made. Those of before have the superuser own everything, no tenants, no exemption."""

# Each statement is one line: the single-user server reads lines.
_ROLE = (
    "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}')"
    " THEN CREATE ROLE {role}; END IF; END $$"
)
_TAKE_OVER = (
    "DO $$ DECLARE o record; BEGIN"
    " FOR o IN SELECT format('ALTER SCHEMA %I OWNER TO {owner}', nspname) AS sql FROM pg_namespace"
    " WHERE nspname <> 'public' AND nspname <> 'information_schema' AND nspname NOT LIKE 'pg\\_%'"
    " UNION ALL SELECT format('ALTER TABLE %s OWNER TO {owner}', c.oid::regclass) FROM pg_class c"
    " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm')"
    " AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'"
    " UNION ALL SELECT format('ALTER ROUTINE %s OWNER TO {owner}', p.oid::regprocedure) FROM pg_proc p"
    " JOIN pg_namespace n ON n.oid = p.pronamespace"
    " WHERE n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'"
    " LOOP EXECUTE o.sql; END LOOP; END $$"
)


def role_statements(*, database: str, owner_password: str, app_password: str) -> str:
    """Make the roles, or set their passwords anew, and give `database` to its owner. For the database `postgres`.

    The passwords are URL-safe text of our own making, so that quotes need no escape.
    """
    return "".join(
        f"{statement}\n"
        for statement in (
            *(_ROLE.format(role=role) for role in (RUNTIME, TENANT, OWNER, APP)),
            f"ALTER ROLE {RUNTIME} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE",
            f"ALTER ROLE {TENANT} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE",
            f"ALTER ROLE {OWNER} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE BYPASSRLS PASSWORD '{owner_password}'",
            f"ALTER ROLE {APP} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE BYPASSRLS PASSWORD '{app_password}'",
            f"GRANT {TENANT} TO {RUNTIME}",
            f"GRANT {RUNTIME} TO {APP}",
            f'ALTER DATABASE "{database}" OWNER TO {OWNER}',
        )
    )


def take_over_statements() -> str:
    """Give everything in a database of before to its new owner. For that database; nothing to do in a new one."""
    return _TAKE_OVER.format(owner=OWNER) + "\n"
