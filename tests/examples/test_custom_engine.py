"""The example of a custom engine is installed as somebody would install it, and keeps what every engine promises."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "custom_engine"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that finds the installed package, and nothing of the folder it came from."""
    source = tmp_path_factory.mktemp("source") / "custom_engine"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    target = tmp_path_factory.mktemp("installed")
    uv = shutil.which("uv") or str(ROOT / ".boot" / "bin" / "uv")
    # uv builds with a backend of its own version inside itself: nothing is downloaded.
    install = [
        uv,
        "pip",
        "install",
        "--offline",
        "--no-deps",
        "--quiet",
        "--target",
        str(target),
        str(source),
    ]
    done = subprocess.run(
        [*install, "--python", sys.executable], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert next(target.glob("*.dist-info")).name == "raymart_engine_ngram-1.0.0.dist-info"
    return os.environ | {"PYTHONPATH": str(target)}


def run(environment: dict[str, str], cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


def test_its_own_tests_pass(environment: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(EXAMPLE / "answers.txt", tmp_path)
    done = run(environment, tmp_path, "-m", "pytest", "-q", "-p", "no:asyncio", "-W", "error", "tests")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "46 passed" in done.stdout


@pytest.mark.slow
def test_the_command_of_its_readme_passes(environment: dict[str, str]) -> None:
    _, _, rest = (EXAMPLE / "README.md").read_text().partition("    python -m raymart_serve.conformance ")
    words = rest.partition("\n\n")[0].replace("\\\n", " ")
    done = run(environment, ROOT, "-m", "raymart_serve.conformance", *shlex.split(words))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "45 of 45 checks passed" in done.stdout


def test_a_broken_engine_makes_the_command_fail(environment: dict[str, str], tmp_path: Path) -> None:
    """The engine has no formats; told that it has, the command says which promises are broken."""
    weights = str(EXAMPLE / "answers.txt")
    named = (
        "--engine",
        "ngram",
        "--path",
        weights,
        "--context-length",
        "512",
        "--question",
        "What is an engine?",
    )
    done = run(
        environment, tmp_path, "-m", "raymart_serve.conformance", *named, "--story", "Tell me a story."
    )
    assert done.returncode == 1
    assert "FAIL a_response_format_is_held_or_refused" in done.stdout
    assert "43 of 45 checks passed" in done.stdout
