"""The database beside a model of the whole chart: no difference in many operations, and a missing guard is found."""

import ast
import time
from itertools import count
from pathlib import Path

import psycopg
import pytest

from raymart_billing.ledger import models
from raymart_billing.ledger.models import TransferCode
from raymart_billing.ledger.verify import verify
from support.ledger_model import LedgerModel, Violation

GUARDS = {
    "overdraft": "alter table ledger_account drop constraint ck_ledger_account_no_overdraft",
    "codes, holds and reversals": "alter table transfer disable trigger apply_1_check",
    "balances": "alter table transfer disable trigger apply_2_balances",
    "the past": "alter table transfer disable trigger refuse_change",
    "holds of leases": "alter table transfer disable trigger apply_3_lease_holds",
    "leases": "alter table credit_lease disable trigger refuse_direct_change",
}
"""What is removed in a private database, each alone."""
FOUND_WITHIN_S = 60.0


def test_the_books_agree_with_the_model_of_the_chart(database_url):
    with psycopg.connect(database_url, autocommit=True) as connection:
        model = LedgerModel(connection, seed=1)
        model.run(400)
    assert model.attacks_refused > 0


@pytest.mark.slow
@pytest.mark.timeout(1_800)
async def test_twenty_thousand_operations_leave_no_difference(sound_url, sound):
    with psycopg.connect(sound_url, autocommit=True) as connection:
        operations = 0
        for seed in range(20):
            model = LedgerModel(connection, seed=seed)
            model.run(1_000)
            operations += model.operations
    assert operations >= 20_000
    assert (await verify(sound, key=None, head=None)).findings == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("guard", GUARDS)
def test_a_missing_guard_is_found_within_a_minute(sound_url, guard):
    """As the superuser, on a copy of its own: only the removed guard stands between."""
    with psycopg.connect(sound_url, autocommit=True) as connection:
        LedgerModel(connection, seed=99).run(50)
        connection.execute(GUARDS[guard])
        begun = time.monotonic()
        with pytest.raises(Violation):
            drive(connection, until=begun + FOUND_WITHIN_S)
    assert time.monotonic() - begun < FOUND_WITHIN_S


def drive(connection, *, until: float) -> None:
    """Run one model after the other until `until`, by the monotonic clock."""
    for seed in count():
        if time.monotonic() >= until:
            return
        LedgerModel(connection, seed=seed).run(100)


def documented_codes() -> dict[str, tuple[str, str]]:
    """(debit kind, credit kind) by code, as the docstrings of `TransferCode` say it: "... debit -> credit."."""
    [chart] = [
        node
        for node in ast.parse(Path(str(models.__file__)).read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == "TransferCode"
    ]
    found = {}
    for member, text in zip(chart.body, chart.body[1:], strict=False):
        if isinstance(member, ast.Assign) and isinstance(text, ast.Expr):
            said = ast.literal_eval(text.value).rstrip(".")
            if " -> " in said:
                debit, credit = said.split(" -> ")
                found[ast.literal_eval(member.value)] = (debit.split()[-1], credit.split()[0])
    return found


def test_each_code_is_enforced_as_it_is_documented(database_url):
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("select code, debit_kind, credit_kind, state from transfer_code").fetchall()
    assert {code for code, *_ in rows} == {code.value for code in TransferCode}
    documented = documented_codes()
    voids = {"hold_released", "hold_expired"}
    assert set(documented) == {code.value for code in TransferCode} - voids - {"reversal"}
    for code, debit, credit, state in rows:
        if code == "reversal":
            assert (debit, credit, state) == (None, None, "posted")
        elif code in voids:
            assert ((debit, credit), state) == (documented["usage_hold"], "voided")
        else:
            assert ((debit, credit), state) == (
                documented[code],
                "pending" if code == "usage_hold" else "posted",
            )
