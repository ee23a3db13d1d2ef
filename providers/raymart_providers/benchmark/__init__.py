"""Measures this machine when the marketplace orders it, in a process of its own."""

from raymart_providers.benchmark.desk import BenchmarkDesk
from raymart_providers.benchmark.process import WORKER_COMMAND, WorkerProcess

__all__ = ["WORKER_COMMAND", "BenchmarkDesk", "WorkerProcess"]
