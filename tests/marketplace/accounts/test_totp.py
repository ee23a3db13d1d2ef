from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from raymart_marketplace.accounts.totp import code_of, matching_step, new_secret, otpauth_uri, spelt, step_at

SECRET = b"12345678901234567890"
NOW = datetime(2026, 11, 20, 12, 0, 15, tzinfo=UTC)


class TestCodeOf:
    @pytest.mark.parametrize(
        ("seconds", "code"),
        [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000, "65353130"),
        ],
    )
    def test_vectors_of_rfc_6238(self, seconds: int, code: str):
        """Appendix B has eight digits; six are the same number's last."""
        moment = datetime.fromtimestamp(seconds, UTC)
        assert code_of(SECRET, step_at(moment)) == code[-6:]

    @pytest.mark.parametrize(
        ("count", "code"),
        list(
            enumerate(
                [
                    "755224",
                    "287082",
                    "359152",
                    "969429",
                    "338314",
                    "254676",
                    "287922",
                    "162583",
                    "399871",
                    "520489",
                ]
            )
        ),
    )
    def test_vectors_of_rfc_4226(self, count: int, code: str):
        assert code_of(SECRET, count) == code


class TestMatchingStep:
    @pytest.mark.parametrize("off", [-2, -1, 0, 1, 2])
    def test_one_step_before_and_after_is_taken(self, off: int):
        step = step_at(NOW) + off
        expected = step if abs(off) <= 1 else None
        assert matching_step(SECRET, code_of(SECRET, step), now=NOW) == expected

    @pytest.mark.parametrize("code", ["", "12345", "1234567", "abcdef", "\u0661" * 6, "\ud800"])
    def test_what_is_no_code_matches_nothing(self, code: str):
        assert matching_step(SECRET, code, now=NOW) is None

    def test_another_secret_has_other_codes(self):
        assert matching_step(new_secret(), code_of(SECRET, step_at(NOW)), now=NOW + timedelta()) is None


class TestOtpauthUri:
    def test_app_finds_secret_issuer_and_account(self):
        uri = urlsplit(otpauth_uri(SECRET, issuer="Raymart", account="a+b@example.com"))
        assert (uri.scheme, uri.netloc, uri.path) == ("otpauth", "totp", "/Raymart%3Aa%2Bb%40example.com")
        assert parse_qs(uri.query) == {"secret": [spelt(SECRET)], "issuer": ["Raymart"]}
        assert spelt(SECRET) == "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
