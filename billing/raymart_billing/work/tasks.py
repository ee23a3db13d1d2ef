"""What background work does for itself."""

from raymart_billing.work.prune import prune
from raymart_billing.work.task import Periodic

PERIODICS = [Periodic(name="work.prune", handle=prune, every_s=3_600.0, timeout_s=300.0)]
