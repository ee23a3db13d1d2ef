import msgspec
import pytest

from raymart_core.wire.link import Placement
from raymart_serve.observation import (
    SLEEPING,
    ServeApplication,
    last_line,
    observed_placement,
    observed_removal,
)

PLACEMENT = Placement(
    placement_id="plc_1",
    node="a",
    model="raymart/demo-chat",
    revision="sha256:" + "0" * 64,
    engine="llama_cpp",
    source="bundled:demo-llm.gguf",
    sha256="0" * 64,
    context_length=1024,
    replicas_min=1,
    replicas_max=1,
    slots=2,
)


def application(status: str, *, running: int = 0, message: str = "") -> ServeApplication:
    return ServeApplication(status=status, message=message, replicas_running=running, replicas_total=running)


class TestObservedPlacement:
    @pytest.mark.parametrize(
        ("found", "state", "replicas", "reason"),
        [
            (None, "placing", 0, "applied just now"),
            (application("DEPLOYING"), "placing", 0, ""),
            (application("RUNNING", running=2), "running", 2, ""),
            (application("DEPLOYING", running=1), "running", 1, ""),
            (application("DEPLOY_FAILED", message="Traceback\n  File x\nOops: no"), "failed", 0, "Oops: no"),
            (application("UNHEALTHY", message="died"), "failed", 0, "died"),
            (application("UNHEALTHY", running=1, message="one died"), "running", 1, "one died"),
        ],
    )
    def test_state_follows_serve(
        self, found: ServeApplication | None, state: str, replicas: int, reason: str
    ) -> None:
        observed = observed_placement(PLACEMENT, found, live_nodes={"a"})
        assert (observed.state, observed.replicas, observed.reason) == (state, replicas, reason)

    @pytest.mark.parametrize("found", [None, application("DEPLOYING"), application("DEPLOY_FAILED")])
    def test_a_missing_node_is_named_with_those_that_live(self, found: ServeApplication | None) -> None:
        """Serve waits silently for a node with the label."""
        observed = observed_placement(PLACEMENT, found, live_nodes={"c", "b"})
        assert observed.state == "placing"
        assert observed.reason.startswith("no live node has the label raymart.io/node='a' (live: b, c)")
        assert "live: none" in observed_placement(PLACEMENT, found, live_nodes=set()).reason

    def test_a_replica_that_serves_outlives_its_node_s_label(self) -> None:
        found = application("RUNNING", running=1)
        assert observed_placement(PLACEMENT, found, live_nodes=set()).state == "running"


class TestObservedRemoval:
    def test_it_drains_until_serve_has_let_go(self) -> None:
        draining = observed_removal("plc_1", application("DELETING", running=1))
        assert (draining.state, draining.replicas, draining.reason) == ("gone", 1, "draining")
        gone = observed_removal("plc_1", None)
        assert (gone.state, gone.replicas, gone.reason) == ("gone", 0, "")


class TestLastLine:
    @pytest.mark.parametrize(
        ("message", "line"), [("", ""), ("\n \n", ""), ("one", "one"), ("a\n  b \n\n", "b")]
    )
    def test_the_last_line_with_text_is_taken(self, message: str, line: str) -> None:
        assert last_line(message) == line

    def test_it_is_cut(self) -> None:
        assert len(last_line("x" * 10_000)) == 400


class TestSleeping:
    @pytest.mark.parametrize(("starting", "reason"), [(0, SLEEPING), (1, "wakes")])
    def test_a_placement_that_may_sleep_runs_without_replicas(self, starting: int, reason: str) -> None:
        sleeper = msgspec.structs.replace(PLACEMENT, replicas_min=0)
        found = ServeApplication(
            status="RUNNING",
            message="",
            replicas_running=0,
            replicas_total=starting,
            replicas_starting=starting,
        )
        observed = observed_placement(sleeper, found, live_nodes={"a"})
        assert (observed.state, observed.reason, observed.starting) == ("running", reason, starting)
