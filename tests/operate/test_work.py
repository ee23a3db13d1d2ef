"""`raymart work`, in this process: starting the program takes longer than all of it."""

import json

import psycopg
import pytest
from typer.testing import CliRunner

from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import Prefix, new_id, show
from raymart_graphql.operator.work_commands import work
from support.background import SECRET
from support.own_database import database_url, owner_url

# `drain` runs all that is due in its database.
__all__ = ["database_url", "owner_url"]

ENQUEUE = (
    "insert into outbox (id, task, subject, state, finished_at, last_error) values (%s, %s, 'a', %s, %s, %s)"
)


@pytest.fixture
def command(database_url, monkeypatch):
    """Runs `raymart work` with arguments; returns what it printed. Raises what it raised."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("RAYMART_TOKEN_SECRET", SECRET)
    monkeypatch.setenv("BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    return lambda *arguments: CliRunner().invoke(work, arguments, catch_exceptions=False).stdout


@pytest.fixture
def dead(database_url):
    """(id as shown, task) of work that was given up."""
    outbox_id, task = new_id(), f"test.{new_id().hex}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(ENQUEUE, (outbox_id, task, "dead", "now", "ZeroDivisionError: by zero"))
    return show(Prefix.WORK, outbox_id), task


class TestWork:
    def test_dead_work_is_listed_retried_and_cancelled(self, command, dead):
        item_id, task = dead
        [item] = json.loads(command("list", "--task", task, "--state", "dead", "-o", "json"))
        assert (item["id"], item["last_error"]) == (item_id, "ZeroDivisionError: by zero")
        assert "is due now" in command("retry", item_id, "--reason", "fixed")
        assert "ready" in command("list", "--task", task)
        assert "is cancelled" in command("cancel", item_id, "--reason", "no need")
        with pytest.raises(Conflict, match="already"):
            command("cancel", item_id, "--reason", "again")

    def test_drain_runs_what_is_due_and_shows_its_runs(self, command):
        assert "nothing more is due" in command("drain")
        periodics = {job["name"]: job for job in json.loads(command("periodics", "-o", "json"))}
        assert periodics["sweep"]["runs"] >= 1
        [run] = json.loads(command("runs", "--name", "sweep", "--limit", "1", "-o", "json"))
        assert run["state"] in {"done", "failed"}

    def test_what_cannot_be_meant_is_an_error_for_people(self, command, dead):
        item_id, _ = dead
        with pytest.raises(InvalidRequest, match="work_<32 hex digits>"):
            command("retry", "work_1", "--reason", "r")
        with pytest.raises(InvalidRequest, match="say why"):
            command("retry", item_id, "--reason", " ")
        with pytest.raises(NotFound, match="no user has the address"):
            command("retry", item_id, "--reason", "r", "--actor", "nobody@raymart.test")
