"""Hours of the week are exact to the minute, in UTC, over midnight and over the week's end."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_marketplace.pricing.windows import MINUTES_OF_WEEK, Hours, is_open, next_change, overlap

MONDAY = datetime(2026, 11, 16, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
INSTANT = timedelta(microseconds=1)

hours_of_all = st.builds(
    Hours,
    days=st.frozensets(st.integers(1, 7), min_size=1),
    starts_minute=st.integers(0, 1_439),
    ends_minute=st.integers(1, 1_440),
).filter(lambda hours: hours.starts_minute != hours.ends_minute)


def hours(days: set[int], starts: str, ends: str) -> Hours:
    return Hours(days=frozenset(days), starts_minute=minute(starts), ends_minute=minute(ends))


def minute(clock: str) -> int:
    whole, part = clock.split(":")
    return int(whole) * 60 + int(part)


def at(day: int, clock: str) -> datetime:
    return MONDAY + timedelta(days=day - 1, minutes=minute(clock))


class TestIsOpen:
    def test_it_opens_at_its_first_moment_and_is_closed_at_its_last(self):
        working = hours({1, 2}, "09:00", "17:00")
        assert not is_open(working, at(1, "09:00") - INSTANT)
        assert is_open(working, at(1, "09:00"))
        assert is_open(working, at(2, "17:00") - INSTANT)
        assert not is_open(working, at(2, "17:00"))
        assert not is_open(working, at(3, "12:00"))

    def test_over_midnight_it_belongs_to_the_day_it_begins_on(self):
        night = hours({5}, "22:00", "06:00")  # Friday night
        assert not is_open(night, at(5, "05:00"))
        assert is_open(night, at(5, "22:00"))
        assert is_open(night, at(6, "00:00"))
        assert is_open(night, at(6, "06:00") - INSTANT)
        assert not is_open(night, at(6, "06:00"))
        assert not is_open(night, at(6, "23:00"))

    def test_over_the_end_of_the_week(self):
        sunday = hours({7}, "23:00", "01:00")
        assert is_open(sunday, at(7, "23:30"))
        assert is_open(sunday, at(8, "00:30"))
        assert not is_open(sunday, at(1, "00:30") + timedelta(days=1))

    def test_a_whole_day(self):
        day = hours({3}, "00:00", "24:00")
        assert not is_open(day, at(3, "00:00") - INSTANT)
        assert is_open(day, at(3, "00:00"))
        assert is_open(day, at(4, "00:00") - INSTANT)
        assert not is_open(day, at(4, "00:00"))

    @pytest.mark.parametrize("month", [3, 10])
    def test_a_change_of_summer_time_moves_nothing(self, month):
        """The same moment in any zone is the same moment; a UTC hour is never skipped or repeated."""
        zone = ZoneInfo("Europe/Berlin")
        night = hours({7}, "00:30", "02:30")
        sunday = datetime(2026, month, 29 if month == 3 else 25, tzinfo=UTC)
        open_minutes = sum(
            is_open(night, (sunday + passed * MINUTE).astimezone(zone)) for passed in range(1_440)
        )
        assert open_minutes == 120

    @given(each=hours_of_all, passed=st.integers(0, MINUTES_OF_WEEK - 1))
    def test_every_minute_of_the_week_is_as_the_definition_says(self, each, passed):
        def covered(day: int) -> bool:
            start = (day - 1) * 1_440 + each.starts_minute
            end = (
                (day - 1) * 1_440 + each.ends_minute + (1_440 if each.ends_minute < each.starts_minute else 0)
            )
            return start <= passed < end or start <= passed + MINUTES_OF_WEEK < end

        assert is_open(each, MONDAY + passed * MINUTE) == any(covered(day) for day in each.days)


class TestNextChange:
    @given(several=st.lists(hours_of_all, min_size=1, max_size=4), passed=st.integers(0, MINUTES_OF_WEEK - 1))
    def test_nothing_opens_or_closes_before_it(self, several, passed):
        now = MONDAY + passed * MINUTE
        change = next_change(several, now)
        assert now < change <= now + timedelta(days=7)
        before = [is_open(each, now) for each in several]
        # All edges are on whole minutes; the last minute before the change stands for the others.
        assert [is_open(each, change - MINUTE) for each in several] == before or change - MINUTE < now
        if len(several) == 1 and several[0].length < 1_440:
            assert is_open(several[0], change) != before[0]

    def test_without_hours_nothing_changes(self):
        assert next_change([], MONDAY) is None

    def test_it_is_exact(self):
        night = hours({5}, "22:00", "06:00")
        assert next_change([night], at(5, "22:00") - INSTANT) == at(5, "22:00")
        assert next_change([night], at(5, "22:00")) == at(6, "06:00")
        assert next_change([night], at(6, "06:00")) == at(12, "22:00")


class TestOverlap:
    def test_neighbours_do_not_overlap(self):
        assert overlap([hours({1}, "09:00", "12:00"), hours({1}, "12:00", "17:00")]) is None
        assert overlap([hours({1}, "22:00", "06:00"), hours({2}, "06:00", "07:00")]) is None

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            (({1}, "09:00", "12:01"), ({1}, "12:00", "17:00")),
            (({1}, "22:00", "06:00"), ({2}, "05:59", "07:00")),
            (({7}, "22:00", "06:00"), ({1}, "00:00", "01:00")),
            (({1, 2}, "22:00", "24:00"), ({2}, "23:00", "23:30")),
            (({3}, "00:00", "24:00"), ({2}, "23:00", "00:30")),
        ],
    )
    def test_one_shared_minute_is_found_in_any_order(self, first, second):
        assert overlap([hours(*first), hours(*second)]) == (0, 1)
        assert overlap([hours(*second), hours(*first)]) == (0, 1)

    @given(several=st.lists(hours_of_all, min_size=2, max_size=4))
    def test_it_agrees_with_looking_at_every_minute(self, several):
        shared = any(
            sum(is_open(each, MONDAY + passed * MINUTE) for each in several) > 1
            for passed in range(0, MINUTES_OF_WEEK, 1)
            if passed % 60 in {0, 59} or any(passed % 1_440 == each.starts_minute for each in several)
        )
        assert (overlap(several) is not None) == shared
