"""Background work over GraphQL: what administrators see and do, and that nobody else does."""

import psycopg
import pytest
import pytest_asyncio
from sqlalchemy import select

from raymart_billing.work import Task, outbox
from raymart_billing.work.models import WorkAction
from raymart_core.ids import Prefix, new_id, show
from raymart_marketplace.db.session import session_scope
from support.api_server import Api, Person, Tenant
from support.background import running_worker

ITEMS = """
query ($task: String, $state: WorkState, $subject: String, $first: Int, $after: String) {
  outboxItems(task: $task, state: $state, subject: $subject, first: $first, after: $after) {
    nodes { id task subject state attempts lastError finishedAt }
    pageInfo { hasNextPage endCursor }
  }
}
"""
RUNS = """
query ($name: String, $state: RunState) {
  taskRuns(name: $name, state: $state) {
    nodes { id name subject attempt state error startedAt finishedAt durationMs item { id state } }
  }
}
"""
RETRY = """
mutation ($input: RetryWorkInput!) {
  retryWork(input: $input) { item { id state attempts } userErrors { code field message } }
}
"""
CANCEL = """
mutation ($input: CancelWorkInput!) {
  cancelWork(input: $input) { item { id state } userErrors { code field message } }
}
"""


@pytest_asyncio.fixture(loop_scope="session")
async def admin(api: Api) -> Person:
    return await api.admin()


@pytest.fixture
def task() -> str:
    return f"test.{new_id().hex}"


async def enqueue(api: Api, task: str, subject: str = "inv_1") -> str:
    async with session_scope(api.services.sessions) as session:
        return show(Prefix.WORK, await outbox.enqueue(session, task=task, subject=subject))


async def fail_all(database_url: str, task: str) -> None:
    async def handle(_, __):
        raise ZeroDivisionError("by zero")

    failing = Task(name=task, handle=handle, attempts_max=1)
    async with running_worker(database_url, tasks=[failing]) as worker:
        await worker.drain()


class TestTaskRuns:
    async def test_a_failed_run_shows_name_subject_attempt_error_and_times(
        self, api: Api, admin: Person, task: str, database_url: str
    ) -> None:
        item_id = await enqueue(api, task)
        await fail_all(database_url, task)
        [run] = (await api(RUNS, admin, name=task)).data["taskRuns"]["nodes"]
        assert (run["name"], run["subject"], run["attempt"]) == (task, "inv_1", 1)
        assert (run["state"], run["error"]) == ("FAILED", "ZeroDivisionError: by zero")
        assert run["item"] == {"id": item_id, "state": "DEAD"}
        assert run["durationMs"] >= 0
        assert (await api(RUNS, admin, name=task, state="DONE")).data["taskRuns"]["nodes"] == []

    async def test_nodes_are_fetched_again_by_their_ids(
        self, api: Api, admin: Person, task: str, database_url: str
    ) -> None:
        item_id = await enqueue(api, task)
        await fail_all(database_url, task)
        [run] = (await api(RUNS, admin, name=task)).data["taskRuns"]["nodes"]
        found = await api(
            "query ($ids: [ID!]!) { nodes(ids: $ids) { id __typename } }", admin, ids=[item_id, run["id"]]
        )
        assert found.data["nodes"] == [
            {"id": item_id, "__typename": "OutboxItem"},
            {"id": run["id"], "__typename": "TaskRun"},
        ]


class TestOutboxItems:
    async def test_items_page_newest_first_and_filter(self, api: Api, admin: Person, task: str) -> None:
        made = [await enqueue(api, task, f"inv_{number}") for number in range(3)]
        first = (await api(ITEMS, admin, task=task, first=2)).data["outboxItems"]
        assert [node["id"] for node in first["nodes"]] == made[:0:-1]
        rest = await api(ITEMS, admin, task=task, first=2, after=first["pageInfo"]["endCursor"])
        assert [node["id"] for node in rest.data["outboxItems"]["nodes"]] == made[:1]
        by_subject = await api(ITEMS, admin, task=task, subject="inv_1", state="READY")
        assert [node["id"] for node in by_subject.data["outboxItems"]["nodes"]] == [made[1]]


class TestPeriodicJobs:
    async def test_a_job_shows_when_it_is_due(self, api: Api, admin: Person, database_url: str) -> None:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                "insert into periodic_job (name, every_s) values ('a.test', 60) on conflict do nothing"
            )
        query = "{ periodicJobs(first: 100) { nodes { name everyS nextDueAt isRunning lastState failuresInARow } } }"
        jobs = {job["name"]: job for job in (await api(query, admin)).data["periodicJobs"]["nodes"]}
        assert jobs["a.test"]["everyS"] == 60
        assert jobs["a.test"]["isRunning"] is False


class TestRetryWork:
    async def test_dead_work_is_due_again_and_the_action_is_kept(
        self, api: Api, admin: Person, task: str, database_url: str
    ) -> None:
        item_id = await enqueue(api, task)
        await fail_all(database_url, task)
        given = {"id": item_id, "reason": "the bank is back"}
        data = (await api(RETRY, admin, input=given)).data["retryWork"]
        assert data == {"item": {"id": item_id, "state": "READY", "attempts": 0}, "userErrors": []}
        async with session_scope(api.services.sessions) as session:
            kept = await session.scalars(select(WorkAction).order_by(WorkAction.id.desc()).limit(1))
            [action] = kept.all()
        assert (action.actor_id, action.reason, action.action.value) == (
            admin.user_id,
            "the bank is back",
            "retry",
        )

    async def test_done_work_is_not_done_twice(
        self, api: Api, admin: Person, task: str, database_url: str
    ) -> None:
        async def handle(_, __):
            pass

        item_id = await enqueue(api, task)
        async with running_worker(database_url, tasks=[Task(name=task, handle=handle)]) as worker:
            await worker.drain()
        data = (await api(RETRY, admin, input={"id": item_id, "reason": "why not"})).data["retryWork"]
        assert data["item"] is None
        assert data["userErrors"][0]["code"] == "CONFLICT"

    @pytest.mark.parametrize(("change", "field"), [({"reason": "  "}, "reason"), ({"id": "work_1"}, "id")])
    async def test_a_bad_input_names_its_field(
        self, api: Api, admin: Person, task: str, change: dict[str, str], field: str
    ) -> None:
        given = {"id": await enqueue(api, task), "reason": "because"} | change
        data = (await api(RETRY, admin, input=given)).data["retryWork"]
        assert data["userErrors"][0]["field"] == ["input", field]

    async def test_an_unknown_id_is_not_found(self, api: Api, admin: Person) -> None:
        given = {"id": show(Prefix.WORK, new_id()), "reason": "because"}
        assert (await api(RETRY, admin, input=given)).data["retryWork"]["userErrors"][0][
            "code"
        ] == "NOT_FOUND"


class TestCancelWork:
    async def test_cancelled_work_never_runs_and_is_not_cancelled_twice(
        self, api: Api, admin: Person, task: str, database_url: str
    ) -> None:
        given = {"id": await enqueue(api, task), "reason": "a mistake"}
        data = (await api(CANCEL, admin, input=given)).data["cancelWork"]
        assert data["item"]["state"] == "CANCELLED"
        await fail_all(database_url, task)
        [item] = (await api(ITEMS, admin, task=task)).data["outboxItems"]["nodes"]
        assert (item["state"], item["attempts"]) == ("CANCELLED", 0)
        again = (await api(CANCEL, admin, input=given)).data["cancelWork"]
        assert again["userErrors"][0]["code"] == "CONFLICT"


class TestOthers:
    @pytest.mark.parametrize("query", [ITEMS, RUNS, "{ periodicJobs { nodes { name } } }"])
    async def test_a_customers_owner_sees_nothing(self, api: Api, customer: Tenant, query: str) -> None:
        assert (await api(query, customer.owner)).code == "FORBIDDEN"

    async def test_a_customers_owner_reaches_no_node_of_it(
        self, api: Api, customer: Tenant, task: str
    ) -> None:
        item_id = await enqueue(api, task)
        query = "query ($id: ID!) { node(id: $id) { id } }"
        assert (await api(query, customer.owner, id=item_id)).data["node"] is None

    async def test_a_customers_owner_changes_nothing(self, api: Api, customer: Tenant, task: str) -> None:
        given = {"id": await enqueue(api, task), "reason": "mine"}
        for mutation in (RETRY, CANCEL):
            assert (await api(mutation, customer.owner, input=given)).code == "FORBIDDEN"
