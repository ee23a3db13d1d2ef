"""The journal: what `append` returned from is read again, whatever happened to the file's end."""

import errno
import os
import stat
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymart_billing.spill import journal as journal_module
from raymart_billing.spill.journal import Journal, JournalFull, bytes_in, claimed, read_segment, segments

RECORDS = [b"first", b"second" * 100, b"\x00RmU\x01 looks like a header", b"fourth"]


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "spill"


@pytest.fixture
def journal(directory):
    journal = Journal(directory, bytes_max=1_000_000)
    yield journal
    journal.seal()


def records_in(directory) -> list[bytes]:
    return [frame.content for path in segments(directory) for frame in read_segment(path) if frame.is_sound]


class TestAppend:
    def test_what_was_appended_is_read_in_order(self, journal, directory):
        journal.append(RECORDS[:2])
        journal.append(RECORDS[2:])
        assert records_in(directory) == RECORDS

    def test_files_are_for_their_owner_alone(self, journal, directory):
        journal.append(RECORDS)
        [path] = segments(directory)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700

    def test_it_is_on_the_disk_before_append_returns(self, journal, monkeypatch):
        synced = []
        monkeypatch.setattr(
            journal_module.os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size)
        )
        journal.append([b"x" * 100])
        assert synced[-1] >= 100

    def test_a_full_segment_is_followed_by_another(self, directory):
        journal = Journal(directory, bytes_max=1_000_000, segment_bytes=100)
        for number in range(10):
            journal.append([b"%d" % number * 60])
        journal.seal()
        assert len(segments(directory)) == 5
        assert len(records_in(directory)) == 10

    def test_beyond_its_size_it_refuses_until_something_was_drained(self, directory):
        journal = Journal(directory, bytes_max=500, segment_bytes=200)
        journal.append([b"x" * 200])
        journal.append([b"x" * 200])
        with pytest.raises(JournalFull, match="at most 500"):
            journal.append([b"x" * 200])
        segments(directory)[0].unlink()
        journal.append([b"x" * 200])
        journal.seal()

    def test_a_write_that_fails_leaves_nothing_behind_and_the_next_goes_on(
        self, journal, directory, monkeypatch
    ):
        journal.append([b"before"])
        with monkeypatch.context() as patch:

            def half_then_full(descriptor, content, write=os.write):
                if len(content) < 1000:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return write(descriptor, content[:-10])

            patch.setattr(journal_module.os, "write", half_then_full)
            with pytest.raises(OSError, match="No space left"):
                journal.append([b"x" * 2000])
        journal.append([b"after"])
        journal.seal()
        assert records_in(directory) == [b"before", b"after"]


class TestDamage:
    @settings(max_examples=30)
    @given(st.integers(0, 400))
    def test_a_torn_tail_is_passed_over_and_all_before_it_is_read(self, tmp_path_factory, cut):
        directory = tmp_path_factory.mktemp("spill")
        journal = Journal(directory, bytes_max=1_000_000)
        journal.append(RECORDS)
        journal.append([b"x" * 388])
        journal.seal()
        [path] = segments(directory)
        os.truncate(path, path.stat().st_size - cut)
        frames = list(read_segment(path))
        assert all(frame.is_sound for frame in frames)
        assert [frame.content for frame in frames][:4] == RECORDS
        assert len(frames) == (5 if cut == 0 else 4)

    @settings(max_examples=30)
    @given(st.data())
    def test_damage_in_the_middle_costs_one_record_and_is_handed_out(self, tmp_path_factory, data):
        directory = tmp_path_factory.mktemp("spill")
        journal = Journal(directory, bytes_max=1_000_000)
        journal.append(RECORDS)
        journal.seal()
        [path] = segments(directory)
        content = bytearray(path.read_bytes())
        place = data.draw(st.integers(0, 12 + len(RECORDS[0]) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        frames = list(read_segment(path))
        assert [frame.content for frame in frames if frame.is_sound] == RECORDS[1:]
        [damaged] = [frame for frame in frames if not frame.is_sound]
        assert damaged.content == bytes(content[: 12 + len(RECORDS[0])])

    def test_a_last_record_that_is_whole_but_wrong_is_handed_out(self, journal, directory):
        """It may have been acknowledged: a crash cuts, it does not change bytes."""
        journal.append(RECORDS[:2])
        journal.seal()
        [path] = segments(directory)
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        assert [frame.is_sound for frame in read_segment(path)] == [True, False]


class TestClaim:
    def test_a_segment_in_use_is_left_alone_and_a_sealed_one_is_free(self, journal, directory):
        journal.append(RECORDS)
        [path] = segments(directory)
        with claimed(path) as is_ours:
            assert not is_ours
        journal.seal()
        with claimed(path) as is_ours:
            assert is_ours
            with claimed(path) as also:
                assert not also

    def test_a_drained_segment_cannot_be_claimed_again(self, journal, directory, monkeypatch):
        journal.append(RECORDS)
        journal.seal()
        [path] = segments(directory)
        opened = os.open

        def gone_meanwhile(*arguments):
            descriptor = opened(*arguments)
            path.unlink()
            return descriptor

        monkeypatch.setattr(journal_module.os, "open", gone_meanwhile)
        with claimed(path) as is_ours:
            assert not is_ours
        with claimed(path) as is_ours:
            assert not is_ours

    def test_the_segment_of_a_killed_process_is_free_at_once(self, directory):
        program = textwrap.dedent("""
            import importlib.util, os, pathlib, signal, sys
            # By its path: the whole of billing takes seconds to import.
            spec = importlib.util.spec_from_file_location("journal", sys.argv[2])
            sys.modules["journal"] = journal = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(journal)
            journal.Journal(pathlib.Path(sys.argv[1]), bytes_max=10**6).append([b"kept"])
            os.kill(os.getpid(), signal.SIGKILL)
        """)
        subprocess.run(
            [sys.executable, "-c", program, str(directory), journal_module.__file__], check=False, timeout=60
        )
        [path] = segments(directory)
        with claimed(path) as is_ours:
            assert is_ours
        assert records_in(directory) == [b"kept"]

    def test_what_lies_there_is_counted(self, journal, directory):
        assert bytes_in(directory) == 0
        journal.append([b"12345"])
        assert bytes_in(directory) == 12 + 5
