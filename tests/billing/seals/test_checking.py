"""What a reader of a chain finds, without a database."""

from raymart_billing.seals.chain import Columns, SealedLog
from raymart_billing.seals.checking import Chain, Reader
from raymart_billing.seals.head import Head
from raymart_core.errors import RaymartError

KEY = b"k" * 32
LOG = SealedLog(
    noun="row",
    event="",
    format=b"test/1\n",
    head=b"",
    at=b"",
    settled=b"",
    append=b"",
    xact_column=1,
    broken=RaymartError,
)
ROWS: list[Columns] = [[str(number), str(100 + number), "text"] for number in range(1, 6)]


def sealed(rows: list[Columns]) -> list[tuple[int, int, bytes, Columns]]:
    links, previous = [], bytes(32)
    for position, row in enumerate(rows, start=1):
        previous = LOG.link(KEY, previous, row)
        links.append((position, int(row[0] or 0), previous, row))
    return links


def findings(
    links: list[tuple[int, int, bytes, Columns]], *, key: bytes | None = None, head: Head | None = None
) -> list[str]:
    reader = Reader(LOG, Chain(), key=key, head=head)
    return [found for link in links for found in reader.see(*link)] + list(reader.end())


class TestReader:
    def test_a_whole_chain_is_good_with_and_without_key(self) -> None:
        links = sealed(ROWS)
        head = Head(position=5, hash=links[-1][2])
        assert findings(links, key=KEY, head=head) == []
        assert findings(links, head=head) == []
        assert findings([]) == []

    def test_a_row_that_changed_its_transaction_is_found_without_the_key(self) -> None:
        links = sealed(ROWS)
        links[2] = (*links[2][:3], ["3", "90", "text"])
        assert findings(links) == [
            "row 3 (sealed at position 3) is out of order: its transaction or number was changed"
        ]

    def test_another_seal_than_the_known_one_is_found_without_the_key(self) -> None:
        links = sealed(ROWS)
        for position, at_end in ((5, True), (3, False)):
            head = Head(position=position, hash=b"x" * 32)
            [found] = findings(links, head=head)
            assert found.startswith(
                f"the seal of row {position} (sealed at position {position}) is not the one"
            ), at_end

    def test_a_changed_row_is_told_from_a_changed_seal(self) -> None:
        links = sealed(ROWS)
        changed_row = [*links[:2], (*links[2][:3], ["3", "103", "other"]), *links[3:]]
        changed_seal = [*links[:2], (*links[2][:2], bytes(32), links[2][3]), *links[3:]]
        [row] = findings(changed_row, key=KEY)
        [seal] = findings(changed_seal, key=KEY)
        assert row.startswith("row 3 (sealed at position 3)")
        assert seal == "the seal at position 3 (row 3) was changed"

    def test_a_cut_end_and_a_hole_are_found(self) -> None:
        links = sealed(ROWS)
        head = Head(position=5, hash=links[-1][2])
        assert findings(links[:3], key=KEY, head=head)[0].startswith("seals 4 to 5 are gone")
        assert findings([*links[:2], *links[3:]])[0] == "seals 3 to 3 are gone"
