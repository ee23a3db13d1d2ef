"""The process that outlives the supervisor by a moment: when the supervisor is gone, it stops what is left.

The supervisor holds the other end of this process's standard input and never writes to it. The kernel closes that
end whatever ends the supervisor, SIGKILL included; the end of the file is the signal.

    python -m raymart_local.guardian <stack record> <stack id>
"""

import os
import signal
import sys
from pathlib import Path

import structlog

from raymart_core.logs import configure_logs
from raymart_local.leftovers import stop_all
from raymart_local.stack_record import StackRecord

log = structlog.get_logger(__name__)


def main(record_path: Path, *, stack_id: str) -> None:
    """Wait for the end of standard input, then stop every process of the stack `stack_id` recorded at `record_path`."""
    configure_logs(process="guardian")
    # Whoever stops "everything of ours" means the parts; this process goes last, by itself.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(sys.stdin.fileno(), 1):
        pass
    record = StackRecord.load(record_path)
    if record is None or record.stack_id != stack_id:
        # The data directory was deleted, or the next stack has begun on it: its processes are not ours to stop.
        record = StackRecord.new(stack_id=stack_id)
    stopped = stop_all(record)
    log.info("guardian.done", stack_id=record.stack_id, processes_stopped=stopped)


if __name__ == "__main__":
    main(Path(sys.argv[1]), stack_id=sys.argv[2])
