from raymart_serve.cold_starts import ColdStarts


class TestColdStarts:
    def test_a_wake_takes_from_the_ask_to_the_first_replica(self) -> None:
        starts = ColdStarts()
        assert starts.seen("p", running=0, starting=0, now=0.0) is None
        starts.asked("p", now=1.0)
        starts.asked("p", now=2.0)  # Repeated while somebody waits.
        assert starts.seen("p", running=0, starting=0, now=2.5) is None
        assert starts.seen("p", running=0, starting=1, now=3.0) is None
        assert starts.seen("p", running=1, starting=0, now=5.25) == 4_250

    def test_another_replica_takes_from_when_it_began_to_load(self) -> None:
        starts = ColdStarts()
        starts.seen("p", running=1, starting=0, now=0.0)
        starts.asked("p", now=1.0)
        starts.seen("p", running=1, starting=1, now=4.0)
        assert starts.seen("p", running=2, starting=0, now=6.0) == 2_000

    def test_the_last_start_is_remembered_while_it_sleeps(self) -> None:
        starts = ColdStarts()
        starts.asked("p", now=0.0)
        starts.seen("p", running=1, starting=0, now=2.0)
        assert starts.seen("p", running=0, starting=0, now=50.0) == 2_000
        starts.asked("p", now=60.0)
        assert starts.seen("p", running=1, starting=0, now=61.0) == 1_000

    def test_a_start_that_came_to_nothing_is_not_timed_into_the_next(self) -> None:
        starts = ColdStarts()
        starts.seen("p", running=1, starting=0, now=0.0)
        starts.seen("p", running=1, starting=1, now=1.0)
        starts.seen("p", running=1, starting=0, now=2.0)
        starts.seen("p", running=1, starting=1, now=100.0)
        assert starts.seen("p", running=2, starting=0, now=103.0) == 3_000

    def test_what_is_placed_no_more_is_forgotten(self) -> None:
        starts = ColdStarts()
        starts.asked("p", now=0.0)
        starts.seen("p", running=1, starting=0, now=2.0)
        starts.keep(["q"])
        assert starts.seen("p", running=1, starting=0, now=3.0) is None
