"""`raymart demo` as its users run it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raymart_local.demo.outage import BACK_WITHIN_S, QUESTIONS
from raymart_local.layout import Layout
from raymart_local.leftovers import processes_of
from raymart_local.postgres import EmbeddedPostgres
from raymart_local.stack_record import StackRecord
from raymart_local.supervisor import record_path

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(400)]

RAYMART = str(Path(sys.executable).parent / "raymart")


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "var"
    EmbeddedPostgres(Layout(tmp_path / "var" / "demo").postgres).destroy()


class TestDemo:
    def test_it_tells_the_truth_twice_on_the_same_directory(self, data_dir: Path):
        """The second run starts from nothing: the first one's purchases are not in its books."""
        reports = []
        for _ in range(2):
            done = subprocess.run(
                [RAYMART, "demo"],
                env={**os.environ, "RAYMART_DATA_DIR": str(data_dir)},
                check=False,
                capture_output=True,
                text=True,
                timeout=190,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            record = StackRecord.load(record_path(data_dir / "demo"))
            assert record is not None
            assert processes_of(record) == []
            reports.append(json.loads((data_dir / "demo" / "report.json").read_text()))
        for report in reports:
            customer = report["customer"]
            earned = sum(provider["earned_nano_usd"] for provider in report["providers"])
            assert report["ok"] is True
            assert (
                report["requests"]
                == sum(provider["requests"] for provider in report["providers"])
                > QUESTIONS
            )
            assert all(provider["requests"] for provider in report["providers"])
            assert customer["spent_nano_usd"] == earned + report["platform_fee_nano_usd"] > 0
            assert customer["topped_up_nano_usd"] - customer["spent_nano_usd"] == customer["balance_nano_usd"]
            assert report["ledger"] == {"sum": 0, "trial_balance_ok": True}
            outage = report["outage"]
            assert outage["node"] in {"demo-a", "demo-b"}
            assert outage["requests_failed"] == 0
            assert outage["requests_before"] + outage["requests_after"] == QUESTIONS
            assert outage["back_after_s"] < BACK_WITHIN_S
            assert report["seconds"] <= 120
        # Who serves is drawn by lot, so what is spent differs; what was paid in does not.
        assert reports[0]["customer"]["topped_up_nano_usd"] == reports[1]["customer"]["topped_up_nano_usd"]
