"""The supervision of Ray, with a script in Ray's place that starts a child in a session of its own, as Ray does."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys

import pytest

from raymart_providers.link.backoff import Backoff
from raymart_providers.ray_process.command import MARK, RayCommand
from raymart_providers.ray_process.own_files import RayHome
from raymart_providers.ray_process.process import RayProcess
from raymart_providers.ray_process.sweep import marked, sweep
from support.link_market import until

RAY = """
import pathlib, signal, subprocess, sys, time
root = pathlib.Path(sys.argv[1])
with (root / 'starts').open('a') as file:
    file.write('x')
if (root / 'broken').exists():
    sys.exit('the port is taken')
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)
signal.signal(signal.SIGTERM, lambda *_: ((root / 'told').touch(), sys.exit(0)))
print('Ray runtime started.', flush=True)
time.sleep(600)
"""


@pytest.fixture
def home(tmp_path):
    home = RayHome(tmp_path / "ray")
    home.prepare()
    try:
        yield home
    finally:
        sweep(home.mark)
        home.forget()


@pytest.fixture
def command(home, tmp_path):
    environment = {**os.environ, MARK: home.mark}
    return RayCommand(argv=(sys.executable, "-c", RAY, str(tmp_path)), environment=environment)


@pytest.fixture
def starts(tmp_path):
    path = tmp_path / "starts"
    return lambda: len(path.read_text()) if path.exists() else 0


@contextlib.asynccontextmanager
async def running(home, command):
    process = RayProcess(
        lambda: command, home=home, backoff=Backoff(first_s=0.01, longest_s=0.05), ready_timeout_s=20
    )
    task = asyncio.create_task(process.run())
    try:
        yield process
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def is_up(process):
    return lambda: process.status.state == "running"


class TestRun:
    async def test_at_the_end_nothing_of_it_is_left(self, home, command, tmp_path):
        async with running(home, command) as process:
            await until(is_up(process))
            assert len(marked(home.mark)) == 2
        assert marked(home.mark) == []
        assert (tmp_path / "told").exists(), "it was killed without being told"
        assert process.status.state == "stopped"

    async def test_one_that_dies_is_started_again_without_what_it_left(self, home, command, starts):
        async with running(home, command) as process:
            await until(is_up(process))
            before = marked(home.mark)
            os.kill(process.status.pid, signal.SIGKILL)
            await until(lambda: starts() == 2 and process.status.state == "running", timeout_s=20)
            assert not {one.pid for one in before} & {one.pid for one in marked(home.mark)}

    async def test_one_that_does_not_start_says_why_and_is_tried_again(self, home, command, starts, tmp_path):
        (tmp_path / "broken").touch()
        async with running(home, command) as process:
            await until(lambda: starts() >= 2 and "the port is taken" in process.status.error, timeout_s=20)
            (tmp_path / "broken").unlink()
            await until(is_up(process), timeout_s=20)
            assert process.status.error == ""

    async def test_a_later_agent_takes_over_what_a_killed_one_left(self, home, command, starts):
        first = RayProcess(lambda: command, home=home)
        await first._try_to_start()  # As far as an agent comes that is then killed.
        async with running(home, command) as second:
            await until(is_up(second))
            assert (second.status.pid, starts()) == (first.status.pid, 1)
            os.kill(first.status.pid, signal.SIGKILL)
            await until(lambda: starts() == 2 and second.status.state == "running", timeout_s=20)

    async def test_what_another_command_left_is_not_taken_over(self, home, command, starts):
        first = RayProcess(lambda: command, home=home)
        await first._try_to_start()
        other = RayCommand(argv=(*command.argv, "--head"), environment=command.environment)
        async with running(home, other) as second:
            await until(is_up(second), timeout_s=20)
            assert second.status.pid != first.status.pid
            assert starts() == 2


class TestSweep:
    async def test_a_strangers_processes_live_on(self, home):
        """Also one that looks like Ray, has another's mark, or runs in our directory."""
        strangers = [
            subprocess.Popen(
                [sys.executable, "-c", "import time; time.sleep(600)", *names], env=environment, cwd=cwd
            )
            for names, environment, cwd in (
                (["raylet", "ray::ServeReplica"], {}, "/"),
                ([], {MARK: home.mark + "-other"}, "/"),
                ([], {}, home.root),
            )
        ]
        ours = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env={MARK: home.mark})
        try:
            await until(lambda: [one.pid for one in marked(home.mark)] == [ours.pid])
            assert await asyncio.to_thread(sweep, home.mark) == 1
            assert [stranger.poll() for stranger in strangers] == [None, None, None]
            assert ours.wait(5) == -signal.SIGKILL
        finally:
            for process in (*strangers, ours):
                process.kill()
                process.wait()
