"""A stack of tiny programs under the real supervisor, as a process that tests may kill: `tiny_stack.py <data dir>`.

Parts: `store` <- `service` <- `front`; `task` runs to its end; `daemons` leaves a double-forked daemon in a session of
its own and an orphan that hides its environment. Each program appends "<name> started|stopped" to `<data dir>/events`.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from raymart_local.errors import LocalError
from raymart_local.logs import Console
from raymart_local.part import Part, file_exists
from raymart_local.program import Program
from raymart_local.supervisor import supervised

SERVICE = """
import pathlib, signal, sys, time
name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
def note(what):
    with open(folder / "events", "a") as events: events.write(f"{name} {what}\\n")
def stop(*_):
    note("stopped")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
note("started")
(folder / f"{name}.ready").touch()
while True: signal.pause()
"""

STUBBORN = SERVICE.replace("sys.exit(0)", "return")

TASK = """
import pathlib, sys
with open(pathlib.Path(sys.argv[2]) / "events", "a") as events: events.write(f"{sys.argv[1]} done\\n")
"""

DAEMONS = """
import os, pathlib, subprocess, sys
folder = pathlib.Path(sys.argv[2])
# Like Ray's agents: in our session, without its environment, and its parent dies before it.
subprocess.run(["sh", "-c", f"env -i sleep 1000 & echo $! > {folder}/hidden.pid"])
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        (folder / "daemon.pid").write_text(str(os.getpid()))
        os.execvp("sleep", ["sleep", "1000"])
    os._exit(0)
os.wait()
while not ((folder / "daemon.pid").exists() and (folder / "daemon.pid").read_text()): pass
(folder / f"{sys.argv[1]}.ready").touch()
while True: subprocess.run(["sleep", "1000"])
"""


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def part(data_dir: Path, name: str, code: str, **more: object) -> Part:
    ready = data_dir / f"{name}.ready"

    def program() -> Program:
        ready.unlink(missing_ok=True)
        return Program(
            argv=(sys.executable, "-c", code, name, str(data_dir)), env={"PATH": os.environ["PATH"]}
        )

    more.setdefault("is_ready", file_exists(ready))
    return Part(name=name, program=program, **more)  # type: ignore[arg-type] # names checked by the dataclass


def parts(data_dir: Path) -> list[Part]:
    return [
        part(data_dir, "store", SERVICE),
        part(data_dir, "task", TASK, kind="task", needs=("store",)),
        part(data_dir, "service", SERVICE, needs=("store", "task")),
        part(data_dir, "front", SERVICE, needs=("service",)),
        part(data_dir, "daemons", DAEMONS, needs=("store",)),
    ]


async def main(data_dir: Path) -> None:
    me = asyncio.current_task()
    assert me is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, me.cancel)
    async with supervised(lambda: parts(data_dir), data_dir=data_dir, console=Console()) as running:
        say("READY", *running.pids.values())
        await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(main(Path(sys.argv[1])))
    except asyncio.CancelledError:
        say("STOPPED")
    except LocalError as error:
        say("FAILED", error)
        sys.exit(1)
