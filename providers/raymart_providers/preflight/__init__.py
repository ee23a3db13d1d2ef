"""Whether this machine can be a node: checks with a name, a result, what was found and what to do about it.

`raymart-provider join` makes them before it enrols, `doctor` at any time. What a check means is a pure rule (`rules`);
`machine` and `marketplace` look.
"""

from raymart_providers.preflight.check import Check
from raymart_providers.preflight.machine import machine_checks
from raymart_providers.preflight.marketplace import marketplace_checks

__all__ = ["Check", "machine_checks", "marketplace_checks"]
