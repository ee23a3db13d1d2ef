from raymart_marketplace.supply.bulkhead import PER_SLOT, REQUESTS_MIN, Bulkhead


class TestBulkhead:
    def test_the_limit_follows_the_slots_between_a_floor_and_a_ceiling(self):
        bulkhead = Bulkhead(most=100)
        assert bulkhead.limit == REQUESTS_MIN
        bulkhead.add_slots(20)
        assert bulkhead.limit == 20 * PER_SLOT
        bulkhead.add_slots(1_000)
        assert bulkhead.limit == 100
        bulkhead.add_slots(-1_020)
        assert bulkhead.limit == REQUESTS_MIN

    def test_it_is_full_at_its_limit(self):
        bulkhead = Bulkhead(most=2)
        bulkhead.under_way = 1
        assert not bulkhead.is_full
        bulkhead.under_way = 2
        assert bulkhead.is_full
