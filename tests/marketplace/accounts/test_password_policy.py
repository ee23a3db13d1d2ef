import pytest

from raymart_core.errors import InvalidRequest
from raymart_marketplace.accounts.password_policy import check_password

CONTEXT = ("marlene.fischer@example.com", "Marlene Fischer", "Fischer Compute")


class TestCheckPassword:
    @pytest.mark.parametrize(
        "password",
        [
            "four words by chance",
            "älter als vierzig",
            "xK9!pq7w",
            "p" + "é" * 100 + "x!",
            "marlene likes long walks",
        ],
    )
    def test_what_is_long_and_rare_is_taken(self, password: str):
        check_password(password, context=CONTEXT)

    @pytest.mark.parametrize(
        "password",
        [
            "password",
            "PASSWORD",
            "\uff50\uff41\uff53\uff53\uff57\uff4f\uff52\uff44",  # full-width letters
            "1qaz2wsx",
            "iloveyou1",
            "aaaaaaaaaaaa",
            "abababababab",
            "abcdefghijkl",
            "9876543210",
            "raymart2026!",
            "Raymart12345",
            "marlene1990",
            "fischer!!!!",
            "marlene.fischer@example.com",
            "Marlene Fischer",
            "fischer compute 1",
        ],
    )
    def test_what_guessers_try_first_is_refused(self, password: str):
        with pytest.raises(InvalidRequest, match="guesser") as refusal:
            check_password(password, context=CONTEXT, param="new_password")
        assert refusal.value.param == "new_password"

    @pytest.mark.parametrize("password", ["", "xK9!pq7", "x9" * 65, "\ufdfa" * 20, "q" * 1_000_000])
    def test_length_is_bounded_in_its_normal_form(self, password: str):
        with pytest.raises(InvalidRequest, match="use 8 to 128"):
            check_password(password)

    def test_length_at_the_limits_is_taken(self):
        check_password("xK9!pq7w")
        check_password("xK9!pq7w" * 16)
