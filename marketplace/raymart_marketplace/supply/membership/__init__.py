"""Who is a member of a house pool's Ray cluster: one authority per pool, and what it signs for whom."""

from raymart_marketplace.supply.membership.desk import MembershipRefused, PoolDesk

__all__ = ["MembershipRefused", "PoolDesk"]
