"""`python -m raymart_graphql.export_schema`: print the schema, `--write` it, or `--check` the committed copy."""

import argparse
import sys
from pathlib import Path

from raymart_graphql.schema import build_schema

COMMITTED = Path(__file__).parents[1] / "schema.graphql"
"""The snapshot that clients generate code from; in a checkout beside this package."""


def schema_text() -> str:
    """The schema in GraphQL's own language, as it is committed."""
    return build_schema().as_str() + "\n"


def main() -> int:
    """Exit 1 when `--check` finds that the committed copy differs from the code."""
    parser = argparse.ArgumentParser(prog="python -m raymart_graphql.export_schema", description=__doc__)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--write", action="store_true", help="write graphql/schema.graphql")
    choice.add_argument("--check", action="store_true", help="fail when graphql/schema.graphql differs")
    chosen = parser.parse_args()
    text = schema_text()
    if chosen.write:
        COMMITTED.write_text(text)
    elif chosen.check:
        if not COMMITTED.is_file() or COMMITTED.read_text() != text:
            sys.stderr.write(
                f"{COMMITTED.name} differs from the code; run `python -m raymart_graphql.export_schema --write`\n"
            )
            return 1
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
