from dataclasses import replace
from uuid import UUID

import pytest

from raymart_marketplace.supply.directory import Directory
from raymart_marketplace.supply.enrolment import NodeIdentity
from raymart_marketplace.supply.models import NodeRole
from raymart_marketplace.supply.siblings.claims import Claims

NODE = NodeIdentity(
    node_id=UUID(int=1),
    pool_id=UUID(int=2),
    pool_slug="pool",
    region="local",
    name="node",
    role=NodeRole.NODE,
    provider_id=UUID(int=3),
    provider_slug="provider",
    public_key=bytes(32),
)
HERE, THERE, ELSEWHERE = "here", "there", "elsewhere"


class Link:
    """Stands for a link; never used."""

    def upstream(self, replica_id):
        raise AssertionError("nothing is sent")


class Watched(Directory):
    """A directory that shows which link it uses, and what was announced there."""

    def link_of(self, node_id):
        node = self._nodes.get(node_id)
        return None if node is None else node.link


@pytest.fixture
def directory(sessions):
    return Watched(sessions)


@pytest.fixture
def claims(directory):
    return Claims(directory)


@pytest.fixture
def up(claims):
    def up(owner, *, is_new=True):
        link = Link()
        claims.up(owner, NODE, link, is_new=is_new)
        return link

    return up


class TestWhichLinkIsUsed:
    def test_the_one_that_came_last(self, directory, up):
        up(HERE)
        newer = up(THERE)
        assert directory.link_of(NODE.node_id) is newer

    def test_the_one_before_when_the_last_ends(self, directory, claims, up):
        older = up(HERE)
        up(THERE)
        assert claims.down(THERE, NODE.node_id)
        assert directory.link_of(NODE.node_id) is older

    def test_the_last_stays_when_the_one_before_ends(self, directory, claims, up):
        up(HERE)
        newer = up(THERE)
        assert not claims.down(HERE, NODE.node_id)
        assert directory.link_of(NODE.node_id) is newer

    def test_one_that_is_only_told_of_never_replaces_one_that_is_known(self, directory, claims, up):
        known = up(HERE)
        told = up(THERE, is_new=False)
        assert directory.link_of(NODE.node_id) is known
        claims.down(HERE, NODE.node_id)
        assert directory.link_of(NODE.node_id) is told

    def test_none_when_all_have_ended(self, directory, claims, up):
        for owner in (HERE, THERE, ELSEWHERE):
            up(owner)
        for owner in (THERE, HERE, ELSEWHERE):
            claims.down(owner, NODE.node_id)
        assert not directory.is_linked(NODE.node_id)
        assert list(claims.by(HERE)) == []

    def test_an_owner_has_one(self, directory, claims, up):
        up(HERE)
        newest = up(HERE)
        assert directory.link_of(NODE.node_id) is newest
        claims.down(HERE, NODE.node_id)
        assert not directory.is_linked(NODE.node_id)


class TestOtherNodes:
    def test_they_are_not_touched(self, directory, claims, up):
        up(HERE)
        other = replace(NODE, node_id=UUID(int=9))
        claims.up(THERE, other, Link(), is_new=True)
        claims.down(THERE, other.node_id)
        claims.down(THERE, UUID(int=10))
        assert directory.is_linked(NODE.node_id)
