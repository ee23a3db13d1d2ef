"""The sealer: order, races, and what it does when the chain is not the one it made."""

import asyncio
import json

import psycopg
import pytest

from raymart_billing.ledger.refusals import LedgerBroken
from raymart_billing.ledger.seal import TRANSFERS, seal
from raymart_billing.ledger.verify import verify
from raymart_billing.seals.head import Head, read_head_file
from support.books import fetch
from support.sealed_books import SEAL_KEY, trade


async def sealed_ids(connection, after):
    rows = await fetch(
        connection, "select transfer_id from transfer_seal where position > %s order by position", after
    )
    return [number for (number,) in rows]


async def last_position(connection):
    [[position]] = await fetch(connection, "select max(position) from transfer_seal")
    return position


class TestSeal:
    async def test_a_second_run_goes_on_where_the_first_ended(self, sound, sound_books, tmp_path):
        before = await last_position(sound)
        await trade(sound_books)
        sealed = await seal(sound, key=SEAL_KEY, head_file=tmp_path / "head.json")
        assert sealed.head.position == before + sealed.rows > before
        assert read_head_file(tmp_path / "head.json") == sealed.head
        found = await verify(sound, key=SEAL_KEY, head=sealed.head)
        assert (found.findings, found.chain.unsealed) == ([], 0)
        assert (await seal(sound, key=SEAL_KEY, head_file=None)).rows == 0

    async def test_what_could_still_be_preceded_is_not_sealed(self, sound, sound_url, sound_books):
        """A transaction that began first commits last: its rows are sealed in their place all the same."""
        before = await last_position(sound)
        async with await psycopg.AsyncConnection.connect(sound_url) as slow:
            await fetch(slow, "select pg_current_xact_id()")
            await sound_books.fund(5)
            assert (await seal(sound, key=SEAL_KEY, head_file=None)).rows == 0
            await fetch(slow, "select ledger_open_account('customer_balance', gen_random_uuid(), 'usd')")
            await fetch(
                slow,
                "select ledger_post_batch(array['slow'], array[(select id from ledger_account where kind ="
                " 'promotional_credit')], array[(select max(id) from ledger_account where kind = 'customer_balance')],"
                " array[7::bigint], array['credit_grant'])",
            )
            await slow.commit()
        await seal(sound, key=SEAL_KEY, head_file=None)
        first, second = await sealed_ids(sound, before)
        assert first > second, "the slow one took its number later and its place earlier"
        assert (await verify(sound, key=SEAL_KEY, head=None)).findings == []

    async def test_eight_sealers_at_once_make_one_chain(self, sound, sound_url, sound_books):
        for _ in range(5):
            await trade(sound_books)

        async def run():
            async with await psycopg.AsyncConnection.connect(sound_url, autocommit=True) as connection:
                return (await seal(connection, key=SEAL_KEY, head_file=None)).rows

        before = await last_position(sound)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run()) for _ in range(8)]
        assert sum(task.result() for task in tasks) == await last_position(sound) - before > 0
        found = await verify(sound, key=SEAL_KEY, head=None)
        assert (found.findings, found.chain.unsealed) == ([], 0)

    @pytest.mark.parametrize(
        ("cut", "said"),
        [
            ("delete from transfer where id in (select transfer_id from transfer_seal where position > {2})", "is gone"),
            ("delete from transfer_seal where position > {2}", "are gone"),
            ("update transfer_seal set hash = sha256(hash) where position = {3}", "not the one that the head file"),
        ],
    )  # fmt: skip
    async def test_a_chain_that_was_cut_is_refused_and_its_head_kept(
        self, sound, sound_books, tmp_path, cut, said
    ):
        head_file = tmp_path / "head.json"
        await trade(sound_books)
        sealed = await seal(sound, key=SEAL_KEY, head_file=head_file)
        position = sealed.head.position
        await sound.execute("set session_replication_role = replica")
        await sound.execute(cut.replace("{2}", str(position - 2)).replace("{3}", str(position)))
        await sound.execute("reset session_replication_role")
        await trade(sound_books)
        with pytest.raises(LedgerBroken, match=said):
            await seal(sound, key=SEAL_KEY, head_file=head_file)
        assert read_head_file(head_file) == sealed.head

    async def test_the_database_takes_no_seal_out_of_turn(self, sound):
        position = await last_position(sound)
        statement = "select ledger_seal(%s, array[1::bigint], array[sha256('x')])"
        assert await fetch(sound, statement, position - 1) == [(None,)]
        with pytest.raises(psycopg.errors.UniqueViolation):
            await fetch(sound, statement, position)


class TestLink:
    def test_no_two_rows_have_one_encoding(self):
        rows = [["a", "b"], ["ab", ""], ["", "ab"], ["a", None], [None, "a"], ["~", "a"], ["1:a,", "b"]]
        hashes = {TRANSFERS.link(SEAL_KEY, bytes(32), row) for row in rows}
        assert len(hashes) == len(rows)

    def test_the_hash_depends_on_key_and_link_before(self):
        row = ["1", "key"]
        assert TRANSFERS.link(SEAL_KEY, bytes(32), row) != TRANSFERS.link(b"x" * 32, bytes(32), row)
        assert TRANSFERS.link(SEAL_KEY, bytes(32), row) != TRANSFERS.link(SEAL_KEY, b"1" * 32, row)


class TestHeadFile:
    def test_no_file_is_no_head(self, tmp_path):
        assert read_head_file(tmp_path / "none.json") is None

    @pytest.mark.parametrize("text", ["", "{}", '{"head": "1:ff"}', '{"head": "x"}', "[]"])
    def test_what_is_no_head_is_named(self, tmp_path, text):
        path = tmp_path / "head.json"
        path.write_text(text)
        with pytest.raises(ValueError, match=r"head\.json"):
            read_head_file(path)

    def test_a_head_reads_as_it_was_written(self, tmp_path):
        head = Head(position=3, hash=bytes(range(32)))
        assert Head.parse(str(head)) == head
        (tmp_path / "head.json").write_text(json.dumps({"head": str(head)}))
        assert read_head_file(tmp_path / "head.json") == head
