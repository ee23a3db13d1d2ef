"""A supervisor of two workers, of the application that is named or of the small one. Prints its port.

Usage: worker_supervisor.py PATIENCE_S [APPLICATION.py] ARGUMENT...
"""

import asyncio
import sys
from pathlib import Path

from raymart_graphql.operator.workers import Workers, listen_together

if __name__ == "__main__":
    listeners = listen_together("127.0.0.1", 0, count=2)
    patience_s, *arguments = sys.argv[1:]
    application = arguments.pop(0) if arguments and arguments[0].endswith(".py") else "worker_app.py"
    command = (sys.executable, str(Path(__file__).with_name(application)), *arguments)
    sys.stdout.write(f"{listeners[0].getsockname()[1]}\n")
    sys.stdout.flush()
    asyncio.run(Workers(listeners, drain_s=10, patience_s=float(patience_s), command=command).run())
