import asyncio
from types import SimpleNamespace

import psycopg
import pytest
from sqlalchemy import delete, text, update
from sqlalchemy.exc import DBAPIError

from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_marketplace.catalog.aliases import (
    alias_history,
    aliases,
    point_alias,
    publish_as_latest,
    remove_alias,
    roll_back,
    targets_before,
)
from raymart_marketplace.catalog.models import ModelRevision, RevisionState
from raymart_marketplace.catalog.registry_models import AliasChangeKind, ModelAlias, ModelAliasChange
from raymart_marketplace.catalog.revisions import deprecate, revision_by_digest, withdraw
from raymart_marketplace.db.session import Sessions, session_scope
from support.market import make_revision


async def three_revisions(sessions: Sessions) -> tuple[ModelRevision, ModelRevision, ModelRevision]:
    """Of one model, published in this order: `latest` names the third."""
    async with session_scope(sessions) as session:
        first = await make_revision(session)
        second = await make_revision(session, model=SimpleNamespace(id=first.model_id))
        third = await make_revision(session, model=SimpleNamespace(id=first.model_id))
    return first, second, third


async def named(sessions: Sessions, revision: ModelRevision, name: str = "latest"):
    async with session_scope(sessions) as session:
        return {alias.name: alias.revision_id for alias in await aliases(session, revision.model_id)}.get(
            name
        )


def change(after, kind: AliasChangeKind = AliasChangeKind.SET) -> ModelAliasChange:
    return ModelAliasChange(after_id=after, change=AliasChangeKind.REMOVED if after is None else kind)


BACK = AliasChangeKind.ROLLBACK


class TestTargetsBefore:
    @pytest.mark.parametrize(
        ("changes", "targets"),
        [
            ([], ()),
            ([("a",)], ()),
            ([("a",), ("b",)], ("a",)),
            ([("a",), ("b",), ("c",)], ("b", "a")),
            # One step back, and the next is not forth again.
            ([("a",), ("b",), ("c",), ("b", BACK)], ("a",)),
            ([("a",), ("b",), ("c",), ("b", BACK), ("a", BACK)], ()),
            # What comes after a rollback goes on from where that went to.
            ([("a",), ("b",), ("a", BACK), ("c",)], ("a",)),
            # A step that passed one over took that away too.
            ([("a",), ("b",), ("c",), ("a", BACK)], ()),
            # The same again later is no place to go back to from itself.
            ([("a",), ("b",), ("a",)], ("b",)),
            ([("a",), (None,), ("b",)], ()),
        ],
    )
    def test_pile_is_what_was_pointed_at_less_what_was_rolled_back(self, changes, targets):
        assert targets_before([change(*each) for each in changes]) == targets


class TestPointAlias:
    async def test_publishing_moves_latest_and_each_move_is_written_down(self, sessions: Sessions):
        first, second, third = await three_revisions(sessions)
        assert await named(sessions, first) == third.id
        async with session_scope(sessions) as session:
            history = await alias_history(session, model_id=first.model_id, name="latest")
        assert [(each.before_id, each.after_id) for each in history] == [
            (second.id, third.id),
            (first.id, second.id),
            (None, first.id),
        ]

    async def test_repeat_is_not_written_down(self, sessions: Sessions):
        first, _, third = await three_revisions(sessions)
        async with session_scope(sessions) as session:
            move = await point_alias(session, model_id=first.model_id, name="latest", revision_id=third.id)
            assert not move.is_change
            assert len(await alias_history(session, model_id=first.model_id)) == 3

    async def test_another_models_revision_is_refused(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            mine, other = await make_revision(session), await make_revision(session)
            with pytest.raises(NotFound, match="no such revision"):
                await point_alias(session, model_id=mine.model_id, name="stable", revision_id=other.id)

    @pytest.mark.parametrize(
        ("change", "param"),
        [({"name": "Stable"}, "alias"), ({"name": ""}, "alias"), ({"reason": "a" * 501}, "reason")],
    )
    async def test_bad_field_is_named(self, sessions: Sessions, change, param):
        async with session_scope(sessions) as session:
            with pytest.raises(InvalidRequest) as refusal:
                await point_alias(
                    session, model_id=new_id(), revision_id=new_id(), **({"name": "stable"} | change)
                )
        assert refusal.value.param == param

    async def test_what_is_not_served_is_refused_by_the_service_and_by_the_database(self, sessions: Sessions):
        first, second, _ = await three_revisions(sessions)
        async with session_scope(sessions) as session:
            await withdraw(session, revision_id=second.id)
            with pytest.raises(Conflict, match="withdrawn"):
                await point_alias(session, model_id=first.model_id, name="stable", revision_id=second.id)
        with pytest.raises(DBAPIError, match="an alias names one that is published or deprecated"):
            async with session_scope(sessions) as session:
                await session.execute(
                    update(ModelAlias)
                    .where(ModelAlias.model_id == first.model_id)
                    .values(revision_id=second.id)
                )

    async def test_withdrawing_and_pointing_at_once_leave_no_alias_of_what_is_withdrawn(
        self, sessions: Sessions
    ):
        first, second, _third = await three_revisions(sessions)

        async def point() -> None:
            async with session_scope(sessions) as session:
                await point_alias(session, model_id=first.model_id, name="stable", revision_id=second.id)

        async def end() -> None:
            async with session_scope(sessions) as session:
                await withdraw(session, revision_id=second.id)

        outcomes = await asyncio.gather(*(work() for work in (point, end) * 3), return_exceptions=True)
        assert {type(each) for each in outcomes} <= {type(None), Conflict}
        async with session_scope(sessions) as session:
            state = (await revision_by_digest(session, second.digest)).state
        pointed = await named(sessions, first, "stable") == second.id
        assert pointed is (state is not RevisionState.WITHDRAWN)


class TestRollBack:
    async def test_one_call_goes_back_and_the_next_further(self, sessions: Sessions):
        first, second, _third = await three_revisions(sessions)
        for target in (second, first):
            async with session_scope(sessions) as session:
                [move] = await roll_back(session, model_id=first.model_id, reason="worse answers")
            assert (move.after.id, move.is_change) == (target.id, True)
            assert await named(sessions, first) == target.id
        async with session_scope(sessions) as session:
            with pytest.raises(Conflict, match="nothing to go back to"):
                await roll_back(session, model_id=first.model_id)
            newest = (await alias_history(session, model_id=first.model_id))[0]
        assert (newest.change, newest.before_id, newest.reason) == (BACK, second.id, "worse answers")

    async def test_withdrawn_is_passed_over_and_deprecated_is_published_again(self, sessions: Sessions):
        first, second, _third = await three_revisions(sessions)
        async with session_scope(sessions) as session:
            await withdraw(session, revision_id=second.id)
            await deprecate(session, revision_id=first.id)
            [move] = await roll_back(session, model_id=first.model_id)
        assert (move.after.id, move.after.state) == (first.id, RevisionState.PUBLISHED)

    async def test_each_number_format_goes_back_by_itself(self, sessions: Sessions):
        first, second, third = await three_revisions(sessions)
        async with session_scope(sessions) as session:
            other = await make_revision(session, model=SimpleNamespace(id=first.model_id), quantization="f16")
            moves = await roll_back(session, model_id=first.model_id)
            assert [(move.quantization, move.after.id) for move in moves] == [("q8_0", second.id)]
            with pytest.raises(Conflict, match="'latest' of 'f16' has nothing to go back to"):
                await roll_back(session, model_id=first.model_id, quantization="f16")
            there = {each.quantization: each.revision_id for each in await aliases(session, first.model_id)}
        assert there == {"q8_0": second.id, "f16": other.id}
        assert third.id not in there.values()

    async def test_unknown_alias_is_not_found(self, sessions: Sessions):
        first, _, _ = await three_revisions(sessions)
        async with session_scope(sessions) as session:
            with pytest.raises(NotFound, match="no alias 'stable'"):
                await roll_back(session, model_id=first.model_id, name="stable")

    async def test_publish_after_a_rollback_moves_forth_again(self, sessions: Sessions):
        first, _, third = await three_revisions(sessions)
        async with session_scope(sessions) as session:
            await roll_back(session, model_id=first.model_id)
            move = await publish_as_latest(session, revision_id=third.id)
        assert (move.after.id, move.is_change) == (third.id, True)


class TestRemoveAlias:
    async def test_history_stays_and_begins_anew(self, sessions: Sessions):
        first, second, _ = await three_revisions(sessions)
        async with session_scope(sessions) as session:
            await remove_alias(session, model_id=first.model_id, name="latest")
            with pytest.raises(NotFound):
                await remove_alias(session, model_id=first.model_id, name="latest")
            await point_alias(session, model_id=first.model_id, name="latest", revision_id=second.id)
            with pytest.raises(Conflict, match="nothing to go back to"):
                await roll_back(session, model_id=first.model_id)
            history = await alias_history(session, model_id=first.model_id)
        assert [each.change.value for each in history[:2]] == ["set", "removed"]


class TestHistory:
    async def test_nobody_rewrites_it(self, sessions: Sessions, owner_url: str):
        first, _, _ = await three_revisions(sessions)
        for statement in (
            delete(ModelAliasChange).where(ModelAliasChange.model_id == first.model_id),
            text("truncate model_alias_change"),
        ):
            with pytest.raises(DBAPIError, match="permission denied"):
                async with session_scope(sessions) as session:
                    await session.execute(statement)
        with (
            psycopg.connect(owner_url) as owner,
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="stays known"),
        ):
            owner.execute("update model_alias_change set reason = 'x' where model_id = %s", (first.model_id,))
