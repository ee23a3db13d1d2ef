"""The garbage collector of a gateway: seldom, and never over what was there at the start."""

import gc

from raymart_marketplace.gateway.collector import THRESHOLDS, rare_collections


class TestRareCollections:
    def test_what_is_there_is_passed_over_until_the_end(self):
        before = gc.get_threshold()
        frozen = gc.get_freeze_count()
        with rare_collections():
            assert gc.get_threshold() == THRESHOLDS
            assert gc.get_freeze_count() > frozen + 10_000
        assert gc.get_threshold() == before
        assert gc.get_freeze_count() == 0
