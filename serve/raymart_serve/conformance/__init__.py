"""Checks that any engine must pass: run them from tests (see README.md here) or by `python -m raymart_serve.conformance`.

with Rig(Subject(factory=MyEngine, spec=EngineSpec(...))) as rig:
    for check in checks_for(Generates):
        rig.run(check)
"""

from raymart_serve.conformance.checks import Check, Nonconformance
from raymart_serve.conformance.kit import checks_for
from raymart_serve.conformance.rig import Rig, Subject

__all__ = ["Check", "Nonconformance", "Rig", "Subject", "checks_for"]
