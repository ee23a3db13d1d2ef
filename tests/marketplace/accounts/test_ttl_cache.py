from raymart_marketplace.accounts.ttl_cache import TtlCache
from support.fixed_clock import Hand


class TestTtlCache:
    def test_value_expires_at_its_second(self):
        hand = Hand()
        cache: TtlCache[str] = TtlCache(size_max=2, monotonic=hand)
        cache.put(b"a", "value", ttl_s=10)
        hand.at += 9.9
        assert cache.get(b"a") == "value"
        hand.at += 0.1
        assert cache.get(b"a") is None
        assert len(cache) == 0

    def test_full_cache_drops_the_oldest(self):
        cache: TtlCache[int] = TtlCache(size_max=2)
        for number in range(5):
            cache.put(bytes([number]), number, ttl_s=10)
        assert len(cache) == 2
        assert [cache.get(bytes([number])) for number in range(5)] == [None, None, None, 3, 4]

    def test_value_put_again_lives_anew(self):
        hand = Hand()
        cache: TtlCache[str] = TtlCache(size_max=2, monotonic=hand)
        cache.put(b"a", "old", ttl_s=10)
        hand.at += 9
        cache.put(b"a", "new", ttl_s=10)
        hand.at += 9
        assert cache.get(b"a") == "new"

    def test_no_life_is_not_kept(self):
        cache: TtlCache[str] = TtlCache(size_max=2)
        cache.put(b"a", "value", ttl_s=0)
        cache.put(b"b", "value", ttl_s=-1)
        assert len(cache) == 0

    def test_drop_where_drops_what_matches(self):
        cache: TtlCache[int] = TtlCache(size_max=10)
        for number in range(4):
            cache.put(bytes([number]), number, ttl_s=10)
        cache.drop_where(lambda number: number % 2 == 0)
        assert [cache.get(bytes([number])) for number in range(4)] == [None, 1, None, 3]
