"""A process that vLLM starts goes with the replica that started it."""

import os
import signal
import subprocess
import sys

import psutil

from raymart_serve.engines.vllm.plugin import end_with_parent

GONE_WITHIN_S = 20
PARENT = """
import multiprocessing, time
from raymart_serve.engines.vllm.plugin import end_with_parent

def child(pipe):
    end_with_parent()
    pipe.send("ready")
    time.sleep(600)

if __name__ == "__main__":
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=child, args=(theirs,))
    process.start()
    ours.recv()
    print(process.pid, flush=True)
    time.sleep(600)
"""


class TestEndWithParent:
    def test_child_of_a_killed_parent_ends(self, tmp_path) -> None:
        script = tmp_path / "parent.py"
        script.write_text(PARENT)
        with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            child = psutil.Process(int(parent.stdout.readline()))
            os.kill(parent.pid, signal.SIGKILL)
        _, left = psutil.wait_procs([child], timeout=GONE_WITHIN_S)
        for process in left:
            process.kill()
        assert left == []

    def test_it_leaves_a_process_alone_that_was_not_started_so(self) -> None:
        end_with_parent()
