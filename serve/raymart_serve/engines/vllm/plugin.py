"""What runs in every process that vLLM starts (entry-point group `vllm.general_plugins`).

vLLM's processes hear of their parent only through messages. When a replica is killed they would wait for the next one for
ever, and keep the model in the GPU's memory.
"""

import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess


def end_with_parent() -> None:
    """Make this process end when the one that started it is gone, however that went. Nothing in the replica itself."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait, args=(parent,), name="end-with-parent", daemon=True).start()


def _wait(parent: BaseProcess) -> None:
    # Its end closes a pipe that this process holds; nothing is polled.
    parent.join()
    # Nobody is left for whom to tidy up, and the main thread may be waiting where it hears nothing.
    os.kill(os.getpid(), signal.SIGKILL)
