import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_core.ids import Prefix, new_id, parse, show


class TestIds:
    def test_new_ids_are_version_7_and_sort_by_creation(self):
        ids = [new_id() for _ in range(1_000)]
        assert {value.version for value in ids} == {7}
        assert ids == sorted(ids)
        assert len(set(ids)) == len(ids)

    @given(st.sampled_from(list(Prefix)))
    def test_parse_reads_what_show_wrote(self, prefix):
        value = new_id()
        assert parse(prefix, show(prefix, value)) == value

    @pytest.mark.parametrize(
        "text", ["", "req", "req_", "org_" + "0" * 32, "req_" + "0" * 31, "req_" + "z" * 32]
    )
    def test_another_prefix_or_no_uuid_is_refused(self, text):
        with pytest.raises(ValueError, match="hex"):
            parse(Prefix.REQUEST, text)
