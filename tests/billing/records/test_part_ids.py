"""Ids of a request's usage records: the same in Python and in the database, and in the request's month."""

from raymart_billing.records.part_ids import usage_part_id
from raymart_core.ids import new_id


class TestUsagePartId:
    async def test_the_database_makes_the_same(self, books):
        for request_id in (new_id() for _ in range(20)):
            ours = [usage_part_id(request_id, part) for part in range(8)]
            theirs = "select array_agg(usage_part_id(%s, n) order by n) from generate_series(0, 7) n"
            assert ours == await books.value(theirs, request_id)

    def test_the_first_part_is_the_request(self):
        request_id = new_id()
        assert usage_part_id(request_id, 0) == request_id

    def test_later_parts_are_version_7_of_the_same_millisecond_and_differ(self):
        request_id = new_id()
        parts = {usage_part_id(request_id, part) for part in range(32)}
        assert len(parts) == 32
        assert {part.int >> 80 for part in parts} == {request_id.int >> 80}
        assert {(part.version, part.variant) for part in parts} == {(7, request_id.variant)}
