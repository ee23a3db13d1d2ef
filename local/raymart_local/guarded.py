"""The supervisor's side of its guardian: start it, keep it alive, let it have the last look."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

LAST_LOOK_S = 40.0
"""Longer than all of the guardian's own patience with processes that do not stop."""
_RESTART_DELAY_S = 0.5


@asynccontextmanager
async def guarded(record_path: Path, *, stack_id: str, log_path: Path) -> AsyncGenerator[None, None]:
    """Run a guardian of the stack `stack_id` recorded at `record_path`; at the end wait until it found nothing left."""
    log_path.parent.mkdir(parents=True, exist_ok=True)
    guardian = [await _started(record_path, stack_id, log_path)]

    async def keep() -> None:
        while True:
            await guardian[0].wait()
            await asyncio.sleep(_RESTART_DELAY_S)
            guardian[0] = await _started(record_path, stack_id, log_path)

    keeper = asyncio.create_task(keep(), name="guardian")
    try:
        yield
    finally:
        keeper.cancel()
        stdin = guardian[0].stdin
        assert stdin is not None
        stdin.close()
        async with asyncio.timeout(LAST_LOOK_S):
            await guardian[0].wait()


async def _started(record_path: Path, stack_id: str, log_path: Path) -> Process:
    with log_path.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "raymart_local.guardian", str(record_path), stack_id,
            stdin=PIPE, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
