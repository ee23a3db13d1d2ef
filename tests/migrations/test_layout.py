"""The repository keeps the shape that ADR 0001 and 0002 promise."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = [
    "core",
    "marketplace",
    "billing",
    "graphql",
    "serve",
    "providers",
    "local",
    "alembic",
    "tests",
    "k8s",
    "docs",
]
EDGES = {
    # The only files that may end a transaction: the session scope itself.
    "marketplace/raymart_marketplace/db/session.py",
}


def tracked(pattern: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", pattern], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return listed.stdout.split()


class TestLayout:
    @pytest.mark.parametrize("folder", FOLDERS)
    def test_no_top_level_folder_is_a_package(self, folder):
        """A top-level `graphql` package would shadow graphql-core, `alembic` the migration tool."""
        assert not (ROOT / folder / "__init__.py").exists()

    def test_the_libraries_are_not_shadowed_from_the_root(self):
        code = "import alembic.command, graphql; assert graphql.version and alembic.__file__"
        subprocess.run([ROOT / ".venv/bin/python", "-c", code], cwd=ROOT, check=True, timeout=60)

    @pytest.mark.parametrize("folder", [f for f in FOLDERS if f not in {"docs", "k8s"}])
    def test_each_folder_says_what_it_owns(self, folder):
        assert (ROOT / folder / "README.md").stat().st_size > 500

    def test_services_never_commit(self):
        """One request or task is one transaction, committed at the edge (ADR 0002)."""
        offenders = [
            name
            for name in tracked("marketplace/*.py") + tracked("billing/*.py") + tracked("graphql/*.py")
            if name not in EDGES and re.search(r"session\.commit\(", (ROOT / name).read_text())
        ]
        assert offenders == []
