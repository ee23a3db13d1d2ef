from hypothesis import given
from hypothesis import strategies as st

from raymart_serve.engines.hold_back import HoldBack, Piece


def pieces_of(texts: list[str]) -> list[Piece]:
    return [Piece(count=1, ids=(number,), text=text, exact=True) for number, text in enumerate(texts)]


def run(texts: list[str], stops: list[str]) -> tuple[list[Piece], bool, int]:
    """What comes out, whether a stop matched, and the most characters that were ever held."""
    hold, out, held_max, taken = HoldBack(stops), [], 0, ""
    for piece in pieces_of(texts):
        taken += piece.text
        released, stopped = hold.push(piece)
        out += released
        if stopped:
            return out, True, held_max
        held_max = max(held_max, len(taken) - len("".join(one.text for one in out)))
    return out + hold.flush(), False, held_max


def reference(text: str, stops: list[str]) -> tuple[str, bool]:
    """One character at a time: the text before the stop string that is complete first."""
    for end in range(len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)], True
    return text, False


class TestHoldBack:
    def test_without_stops_everything_passes_at_once(self) -> None:
        hold = HoldBack([])
        (piece,) = pieces_of(["abc"])
        assert hold.push(piece) == ([piece], False)

    def test_text_before_a_match_inside_a_token_is_delivered_with_its_id(self) -> None:
        out, stopped, _ = run(["The", " capital", " is", " Oslo"], [" is Os"])
        assert stopped
        assert [(piece.ids, piece.text) for piece in out] == [((0,), "The"), ((1,), " capital")]
        out, _, _ = run(["The", " capital is"], ["tal i"])
        assert [(piece.ids, piece.text) for piece in out] == [((0,), "The"), ((1,), " capi")]

    def test_tokens_of_the_stop_string_are_dropped_and_not_counted(self) -> None:
        out, _, _ = run(["a", "E", "N", "D", "b"], ["END"])
        assert sum(piece.count for piece in out) == 1

    def test_what_only_looked_like_a_stop_is_delivered_at_the_end(self) -> None:
        out, stopped, _ = run(["a", "EN"], ["END"])
        assert not stopped
        assert "".join(piece.text for piece in out) == "aEN"

    def test_the_stop_that_is_complete_first_wins(self) -> None:
        out, _, _ = run(["x", "abcd"], ["abcd", "c"])
        assert "".join(piece.text for piece in out) == "xab"

    @given(
        texts=st.lists(st.text(alphabet="abc", min_size=0, max_size=4), max_size=12),
        stops=st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3),
    )
    def test_any_cut_into_tokens_gives_the_same_text(self, texts: list[str], stops: list[str]) -> None:
        out, stopped, held_max = run(texts, stops)
        assert ("".join(piece.text for piece in out), stopped) == reference("".join(texts), stops)
        assert [piece.ids[0] for piece in out] == list(range(len(out)))
        longest_piece = max((len(text) for text in texts), default=0)
        assert held_max <= max((len(stop) - 1 for stop in stops), default=0) + longest_piece
