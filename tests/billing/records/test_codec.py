"""A record is the same before and after its time as bytes, and broken bytes are told apart."""

from datetime import UTC, datetime
from typing import get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from raymart_billing.records.codec import VERSION, UnreadableRecord, decode, encode, request_id_of
from raymart_core.ids import new_id
from raymart_core.money import Money
from raymart_core.ports import AttemptRecord, FinishedRequest, Prices, Quantities, UsageEntry
from support.books import finished

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
COUNTS = st.integers(0, 2**63 - 1)
TIMES = st.datetimes(timezones=st.just(UTC))


def made(kind: type, **fields: st.SearchStrategy) -> st.SearchStrategy:
    """`kind` with every text storable, every number one that a column holds, every time in UTC."""
    by_type = {
        str: TEXT,
        int: COUNTS,
        int | None: COUNTS | st.none(),
        datetime: TIMES,
        Money: st.builds(Money, COUNTS),
    }
    hints = get_type_hints(kind)
    known = {name: by_type[hint] for name, hint in hints.items() if hint in by_type}
    return st.builds(kind, **{**known, **fields})


def by_unit(kind: type) -> st.SearchStrategy:
    return st.builds(kind, **dict.fromkeys(kind.__struct_fields__, COUNTS))


REQUESTS = made(
    FinishedRequest,
    attempts=st.lists(made(AttemptRecord), max_size=3).map(tuple),
    usage=made(UsageEntry, quantities=by_unit(Quantities), prices=by_unit(Prices)) | st.none(),
    more=st.lists(made(UsageEntry, quantities=by_unit(Quantities), prices=by_unit(Prices)), max_size=3).map(
        tuple
    ),
    error_code=TEXT | st.none(),
)


def example() -> FinishedRequest:
    return finished(new_id(), new_id(), tokens_prompt=10, tokens_completion=20, delivered=True)


class TestRoundTrip:
    @given(REQUESTS)
    def test_every_record_comes_back_as_it_was(self, request):
        assert decode(encode(request)) == request

    @given(REQUESTS)
    def test_its_id_can_be_read_without_the_rest(self, request):
        assert request_id_of(encode(request)) == request.id

    def test_text_that_postgres_cannot_store_is_replaced_as_in_its_rows(self):
        request = replace(example(), model_asked="a\0b\ud800c")
        assert decode(encode(request)).model_asked == "a?b?c"


class TestCompatibility:
    def test_a_field_of_a_newer_release_is_passed_over(self):
        request = example()
        fields = msgspec.msgpack.decode(encode(request)[1:])
        record = bytes((VERSION,)) + msgspec.msgpack.encode({**fields, "colour": "green"})
        assert decode(record) == request

    def test_a_record_from_before_requests_had_parts_has_one(self):
        request = example()
        fields = msgspec.msgpack.decode(encode(request)[1:])
        del fields["more"]
        assert decode(bytes((VERSION,)) + msgspec.msgpack.encode(fields)) == request

    def test_a_newer_version_is_refused_and_still_named(self):
        request = example()
        record = bytes((VERSION + 1,)) + encode(request)[1:]
        with pytest.raises(UnreadableRecord, match="use the newer"):
            decode(record)
        assert request_id_of(record) == request.id


class TestBrokenBytes:
    @given(st.binary(max_size=200))
    def test_noise_is_unreadable_and_nothing_else(self, noise):
        with pytest.raises(UnreadableRecord):
            decode(noise)
        request_id_of(noise)

    @given(st.data())
    def test_a_record_cut_short_is_unreadable(self, data):
        record = encode(example())
        with pytest.raises(UnreadableRecord):
            decode(record[: data.draw(st.integers(0, len(record) - 1))])

    def test_money_that_is_no_whole_number_is_unreadable(self):
        fields = msgspec.msgpack.decode(encode(example())[1:])
        fields["usage"]["customer_amount"]["amount"] = 1.5
        with pytest.raises(UnreadableRecord):
            decode(bytes((VERSION,)) + msgspec.msgpack.encode(fields))
