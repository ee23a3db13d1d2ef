"""Benchmarks: what a machine must show before it gets requests, and what was found. Start reading in `rules`."""

from raymart_marketplace.supply.benchmarks.desk import BenchmarkDesk
from raymart_marketplace.supply.benchmarks.examination import Effort

__all__ = ["BenchmarkDesk", "Effort"]
