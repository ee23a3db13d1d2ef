import pytest

from raymart_serve.models.partial_file import PartialFile


def put(file, index, content):
    offset, length = file.piece(index)
    assert len(content) == length
    file.write(offset, memoryview(content))
    file.note(index)


class TestPartialFile:
    def test_pieces_out_of_order_make_the_file(self, tmp_path):
        file = PartialFile(tmp_path / "x", size=10, piece_bytes=4)
        assert file.missing() == [0, 1, 2]
        for index, content in ((2, b"ij"), (0, b"abcd"), (1, b"efgh")):
            put(file, index, content)
        assert file.missing() == []
        file.finish(tmp_path / "made" / "blob")
        file.close()
        assert (tmp_path / "made" / "blob").read_bytes() == b"abcdefghij"
        assert (tmp_path / "made" / "blob").stat().st_mode & 0o777 == 0o444
        assert not (tmp_path / "x").exists()
        assert not (tmp_path / "x.pieces").exists()

    def test_what_is_noted_survives_and_what_is_only_written_does_not_count(self, tmp_path):
        first = PartialFile(tmp_path / "x", size=10, piece_bytes=4)
        put(first, 1, b"efgh")
        first.write(0, memoryview(b"abcd"))
        first.close()
        second = PartialFile(tmp_path / "x", size=10, piece_bytes=4)
        assert (second.missing(), second.bytes_here) == ([0, 2], 4)
        second.close()

    def test_the_frontier_is_what_has_no_gap_before_it(self, tmp_path):
        file = PartialFile(tmp_path / "x", size=10, piece_bytes=4)
        put(file, 1, b"efgh")
        assert file.wait_beyond(0, timeout_s=0) == 0
        put(file, 0, b"abcd")
        assert file.wait_beyond(0, timeout_s=0) == 8
        put(file, 2, b"ij")
        assert file.wait_beyond(8, timeout_s=0) == 10
        file.close()

    def test_bytes_at_the_frontier_can_be_hashed_at_once_and_are_not_asked_for_again(self, tmp_path):
        file = PartialFile(tmp_path / "x", size=10, piece_bytes=4)
        put(file, 1, b"efgh")
        file.write(0, memoryview(b"ab"))
        assert file.wait_beyond(0, timeout_s=0) == 2
        assert (file.rest(0), file.rest(2)) == ((2, 2), (8, 2))
        with pytest.raises(AssertionError):
            file.write(0, memoryview(b"xx"))
        file.write(2, memoryview(b"cd"))
        assert file.wait_beyond(0, timeout_s=0) == 8
        assert file.rest(0) == (4, 0)
        file.close()

    def test_a_file_of_another_size_is_begun_anew(self, tmp_path):
        first = PartialFile(tmp_path / "x", size=10, piece_bytes=4)
        put(first, 0, b"abcd")
        first.close()
        second = PartialFile(tmp_path / "x", size=12, piece_bytes=4)
        assert second.missing() == [0, 1, 2]
        second.close()

    def test_forgetting_leaves_nothing_noted_for_the_next_life(self, tmp_path):
        first = PartialFile(tmp_path / "x", size=8, piece_bytes=4)
        put(first, 0, b"abcd")
        first.forget()
        assert first.missing() == [0, 1]
        first.close()
        second = PartialFile(tmp_path / "x", size=8, piece_bytes=4)
        assert second.missing() == [0, 1]
        second.close()

    def test_an_empty_file_lacks_nothing(self, tmp_path):
        file = PartialFile(tmp_path / "x", size=0)
        assert file.missing() == []
        file.finish(tmp_path / "y")
        file.close()
        assert (tmp_path / "y").read_bytes() == b""
