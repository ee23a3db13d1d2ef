"""What a machine of a house pool joins the pool's Ray cluster with: its own certificate, the cluster's token, labels.

`PoolMembership` asks the marketplace over the link and keeps the answer; `check_head` tells before Ray is started
whether the head would have us, because Ray itself says nothing and tries for ever.
"""

from raymart_providers.pool_membership.kept import Membership
from raymart_providers.pool_membership.membership import PoolMembership
from raymart_providers.pool_membership.preflight import HeadProblem, check_head

__all__ = ["HeadProblem", "Membership", "PoolMembership", "check_head"]
