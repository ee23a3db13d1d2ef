from uuid import UUID

from solders.pubkey import Pubkey

from raymart_billing.solana import marker_address, marker_seed
from raymart_core.ids import new_id

PART = UUID("01990000-0000-7000-8000-000000000001")
KEY = b"k" * 32


class TestMarkerSeed:
    def test_it_never_changes(self) -> None:
        """Parts that were sent before an upgrade must find their markers after it."""
        assert marker_seed(KEY, PART, 0) == "kbmobdtpxoegh2yskwoi2jkv"

    def test_another_part_generation_or_key_has_another(self) -> None:
        seeds = {
            marker_seed(KEY, PART, 0),
            marker_seed(KEY, PART, 1),
            marker_seed(KEY, new_id(), 0),
            marker_seed(b"j" * 32, PART, 0),
        }
        assert len(seeds) == 4

    def test_it_fits_the_system_program(self) -> None:
        seed = marker_seed(KEY, PART, 10**9)
        assert len(seed) == 24
        assert seed.isascii()


def test_each_treasury_has_its_own_address_for_a_seed() -> None:
    one, two = Pubkey.new_unique(), Pubkey.new_unique()
    assert marker_address(one, "seed") != marker_address(two, "seed")
