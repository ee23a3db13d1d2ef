from uuid import UUID

import pytest

from raymart_marketplace.supply.siblings.loads import SharedLoads

NODE, OTHER = UUID(int=1), UUID(int=2)


class Directory:
    """Stands for the real one: what is leased is what the test says, what it is told is kept."""

    def __init__(self):
        self.now = {}
        self.elsewhere = {}

    def leased(self):
        return self.now

    def leased_elsewhere(self, node_id, leased):
        self.elsewhere[node_id] = dict(leased)


@pytest.fixture
def directory():
    return Directory()


@pytest.fixture
def loads(directory):
    return SharedLoads(directory)


class TestTelling:
    def test_only_what_has_changed(self, directory, loads):
        directory.now = {NODE: {"a": 2, "b": 1}}
        assert loads.news().leased == {NODE: {"a": 2, "b": 1}}
        directory.now = {NODE: {"a": 3, "b": 1}}
        assert loads.news().leased == {NODE: {"a": 3}}
        assert loads.news() is None

    def test_an_end_is_told_as_none(self, directory, loads):
        directory.now = {NODE: {"a": 2}}
        loads.news()
        directory.now = {}
        assert loads.news().leased == {NODE: {"a": 0}}

    def test_a_newcomer_is_told_what_the_others_know(self, directory, loads):
        directory.now = {NODE: {"a": 2}}
        loads.news()
        directory.now = {NODE: {"a": 5}}
        assert loads.everything().leased == {NODE: {"a": 2}}
        assert loads.news().leased == {NODE: {"a": 5}}

    def test_an_idle_nodes_heartbeat_is_told_once(self, loads):
        told = []
        for running in ({}, {"a": 1}, {}, {}):
            loads.reported(NODE, running)
            news = loads.news()
            told.append(None if news is None else news.running)
        assert told == [None, {NODE: {"a": 1}}, {NODE: {}}, None]

    def test_a_node_that_has_left_is_not_told_of(self, loads):
        loads.reported(NODE, {"a": 1})
        loads.gone(NODE)
        assert loads.news() is None


class TestHearing:
    def test_siblings_add_up(self, directory, loads):
        loads.hear("one", {NODE: {"a": 2}})
        loads.hear("two", {NODE: {"a": 3, "b": 1}, OTHER: {"c": 1}})
        assert directory.elsewhere == {NODE: {"a": 5, "b": 1}, OTHER: {"c": 1}}

    def test_a_new_count_replaces_the_old_one(self, directory, loads):
        loads.hear("one", {NODE: {"a": 2, "b": 1}})
        loads.hear("one", {NODE: {"a": 1}})
        assert directory.elsewhere == {NODE: {"a": 1, "b": 1}}

    def test_a_sibling_that_is_gone_has_nothing_under_way(self, directory, loads):
        loads.hear("one", {NODE: {"a": 2}})
        loads.hear("two", {NODE: {"a": 3}})
        loads.forget("one")
        assert directory.elsewhere == {NODE: {"a": 3}}
