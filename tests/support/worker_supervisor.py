"""A supervisor of two such workers. Prints its port."""

import asyncio
import sys
from pathlib import Path

from raymart_graphql.operator.workers import Workers, listen_together

if __name__ == "__main__":
    listeners = listen_together("127.0.0.1", 0, count=2)
    command = (sys.executable, str(Path(__file__).with_name("worker_app.py")), *sys.argv[1:])
    sys.stdout.write(f"{listeners[0].getsockname()[1]}\n")
    sys.stdout.flush()
    asyncio.run(Workers(listeners, drain_s=10, command=command).run())
