"""`python -m raymart_graphql.export_schema`: print the schema, `--write` it, `--check` it, or `--release` it.

`--check` is the gate of `make check`: the committed copy is the code's, the conventions are kept, and nothing that a
client of the last release relies on is gone.
"""

import argparse
import sys
from pathlib import Path

from graphql import GraphQLSchema, build_schema
from graphql.utilities import find_breaking_changes

from raymart_graphql import conventions, schema

COMMITTED = Path(__file__).parents[1] / "schema.graphql"
"""The snapshot that clients generate code from; in a checkout beside this package."""
BASELINE = COMMITTED.with_name("schema.baseline.graphql")
"""The snapshot as it was last released; `--release` moves it, on purpose and in a commit of its own."""


def schema_text() -> str:
    """The schema in GraphQL's own language, as it is committed."""
    return schema.build_schema().as_str() + "\n"


def breaking_changes(released: str, now: str) -> list[str]:
    """What a client of `released` could ask for, and no longer can."""
    changes = find_breaking_changes(_read(released), _read(now))
    return [f"{change.type.name}: {change.description}" for change in changes]


def complaints(text: str) -> list[str]:
    """Everything that keeps `text` from passing the gate."""
    found = []
    if not COMMITTED.is_file() or COMMITTED.read_text() != text:
        found.append(
            f"{COMMITTED.name} differs from the code; run `python -m raymart_graphql.export_schema --write`"
        )
    found += conventions.broken(_read(text))
    changes = breaking_changes(BASELINE.read_text(), text)
    if changes:
        found += [f"breaks clients of {BASELINE.name}: {change}" for change in changes]
        found.append("deprecate instead; what must go is released on purpose with `make schema-release`")
    return found


def main() -> int:
    """Exit 1 when `--check` finds something."""
    parser = argparse.ArgumentParser(prog="python -m raymart_graphql.export_schema", description=__doc__)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--write", action="store_true", help="write graphql/schema.graphql")
    choice.add_argument("--check", action="store_true", help="fail on a stale copy or a breaking change")
    choice.add_argument("--release", action="store_true", help="make this schema the one that must not break")
    chosen = parser.parse_args()
    text = schema_text()
    if chosen.write:
        COMMITTED.write_text(text)
    elif chosen.release:
        COMMITTED.write_text(text)
        BASELINE.write_text(text)
    elif chosen.check:
        found = complaints(text)
        sys.stderr.writelines(f"{line}\n" for line in found)
        return 1 if found else 0
    else:
        sys.stdout.write(text)
    return 0


def _read(text: str) -> GraphQLSchema:
    return build_schema(text, no_location=True)


if __name__ == "__main__":
    raise SystemExit(main())
