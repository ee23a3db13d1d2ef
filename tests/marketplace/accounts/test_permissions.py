"""The table of roles and permissions: what must hold of it whatever it says."""

import pytest

from raymart_marketplace.accounts.models import OrganizationKind, Role
from raymart_marketplace.accounts.permissions import (
    KEY_PERMISSIONS,
    PLATFORM_PERMISSIONS,
    PRIVATE_READS,
    REACH,
    TABLE,
    TENANT_READS,
    Permission,
    grantable_roles,
    permissions_of,
    reach_of,
    roles_with,
)

KINDS = tuple(OrganizationKind)


class TestTable:
    @pytest.mark.parametrize("kind", KINDS)
    def test_owner_may_do_what_every_other_role_may(self, kind):
        assert all(granted <= TABLE[kind][Role.OWNER] for granted in TABLE[kind].values())

    @pytest.mark.parametrize("kind", KINDS)
    def test_only_owners_hand_an_organization_over(self, kind):
        holders = {role for role, granted in TABLE[kind].items() if Permission.ORGANIZATION_OWN in granted}
        assert holders == {Role.OWNER}

    def test_only_the_platforms_people_have_its_permissions(self):
        for kind in (OrganizationKind.CUSTOMER, OrganizationKind.PROVIDER):
            assert not any(granted & PLATFORM_PERMISSIONS for granted in TABLE[kind].values())

    def test_every_permission_is_somebodys(self):
        assert {item for roles in TABLE.values() for granted in roles.values() for item in granted} == set(
            Permission
        )

    def test_every_role_is_offered_somewhere(self):
        assert {role for roles in TABLE.values() for role in roles} == set(Role)

    def test_support_reads_the_market_and_changes_nothing(self):
        granted = TABLE[OrganizationKind.PLATFORM][Role.SUPPORT]
        assert {item for item in granted if not item.value.endswith(".read")} == {Permission.PLATFORM_SUPPORT}

    def test_a_pair_that_is_not_offered_may_nothing(self):
        assert permissions_of(OrganizationKind.CUSTOMER, Role.SUPPORT) == frozenset()
        assert permissions_of(OrganizationKind.PLATFORM, Role.VIEWER) == frozenset()

    def test_a_key_may_do_nothing_that_a_developer_may_not(self):
        assert TABLE[OrganizationKind.CUSTOMER][Role.DEVELOPER] >= KEY_PERMISSIONS


class TestReach:
    def test_nobody_acts_in_anothers_organization(self):
        assert all(item.value.endswith(".read") for item in TENANT_READS | PRIVATE_READS)
        assert all(granted <= TENANT_READS for granted in REACH.values())

    def test_what_is_private_nobody_reaches(self):
        assert not PRIVATE_READS & TENANT_READS

    def test_support_sees_no_tenant_without_a_grant(self):
        assert reach_of(OrganizationKind.PLATFORM, Role.SUPPORT) == frozenset()

    def test_only_the_platforms_people_reach(self):
        for kind in (OrganizationKind.CUSTOMER, OrganizationKind.PROVIDER):
            assert all(reach_of(kind, role) == frozenset() for role in Role)

    def test_it_is_said_of_every_role_of_the_platform(self):
        assert set(REACH) == set(TABLE[OrganizationKind.PLATFORM])


class TestGrantableRoles:
    def test_nobody_gives_more_than_they_have(self):
        for kind in KINDS:
            for role, own in TABLE[kind].items():
                assert all(TABLE[kind][given] <= own for given in grantable_roles(kind, role))

    def test_owner_gives_every_role_and_admin_every_one_but_owners(self):
        for kind in (OrganizationKind.CUSTOMER, OrganizationKind.PLATFORM):
            assert grantable_roles(kind, Role.OWNER) == set(TABLE[kind])
            assert grantable_roles(kind, Role.ADMIN) == set(TABLE[kind]) - {Role.OWNER}

    @pytest.mark.parametrize("role", [Role.DEVELOPER, Role.BILLING, Role.VIEWER, Role.SUPPORT])
    def test_who_does_not_manage_members_gives_none(self, role):
        assert grantable_roles(OrganizationKind.CUSTOMER, role) == frozenset()


class TestRolesWith:
    def test_names_the_pairs_of_the_table(self):
        assert roles_with(Permission.PAYOUTS_MANAGE) == {(OrganizationKind.PROVIDER, Role.OWNER)}
