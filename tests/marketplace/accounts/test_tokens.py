"""No forged token is accepted, and each refusal is the same (promise 15; over HTTP: tests/graphql/test_forgeries.py)."""

import ast
import json
import subprocess
import sys
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymart_core.errors import NotAuthenticated
from raymart_core.ids import Prefix, new_id, show
from raymart_marketplace.accounts.tokens import LEEWAY_S, AccessTokens
from support.fixed_clock import FixedClock
from support.forgeries import Forger, b64, public_keys

SECRET = b"0123456789abcdef0123456789abcdef"
FORMER = b"fedcba9876543210fedcba9876543210"
ISSUER = "raymart"
AUDIENCE = "raymart-api"
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
T = int(NOW.timestamp())
USER = UUID("0199a0f0-0000-7000-8000-00000000002a")
FORGER = Forger(secret=SECRET, issuer=ISSUER, audience=AUDIENCE, user_id=USER, at=T)
FORGERIES = FORGER.forgeries()
CLAIMS = FORGER.claims
GOOD = FORGER.honest


def make_tokens(
    clock: FixedClock | None = None,
    *,
    secret: bytes = SECRET,
    former_secrets: Sequence[bytes] = (),
    ttl_s: int = 900,
) -> AccessTokens:
    return AccessTokens(
        secret,
        former_secrets=former_secrets,
        issuer=ISSUER,
        audience=AUDIENCE,
        ttl_s=ttl_s,
        clock=clock or FixedClock(NOW),
    )


class TestVerify:
    def test_own_token_is_accepted_with_what_it_says(self):
        tokens = make_tokens()
        claims = tokens.verify(tokens.issue(USER))
        assert claims.user_id == USER
        assert claims.expires_at == datetime.fromtimestamp(T + 900, UTC)

    def test_token_made_without_the_library_is_accepted(self):
        """The forgeries below differ from this one token in one thing each."""
        assert make_tokens().verify(GOOD).user_id == USER

    def test_there_are_many_forgeries(self):
        assert len(FORGERIES) > 150

    @pytest.mark.parametrize("name", FORGERIES)
    def test_forgery_is_refused(self, name: str):
        with pytest.raises(NotAuthenticated) as refusal:
            make_tokens().verify(FORGERIES[name])
        assert refusal.value.message == _REFUSAL

    def test_every_refusal_is_the_same(self):
        messages = set()
        for token in FORGERIES.values():
            with pytest.raises(NotAuthenticated) as refusal:
                make_tokens().verify(token)
            messages.add((refusal.value.message, refusal.value.__cause__, refusal.value.__suppress_context__))
        assert messages == {(_REFUSAL, None, True)}

    @settings(max_examples=400, deadline=None)
    @given(st.integers(0, len(GOOD) - 1), st.characters(codec="utf-8"))
    def test_any_changed_character_is_refused(self, position: int, character: str):
        changed = GOOD[:position] + character + GOOD[position + 1 :]
        if changed != GOOD:
            _refused(changed)

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, len(GOOD)), st.text(max_size=3), st.integers(0, 3))
    def test_any_insertion_or_deletion_is_refused(self, position: int, text: str, cut: int):
        changed = GOOD[:position] + text + GOOD[position + cut :]
        if changed != GOOD:
            _refused(changed)

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_any_changed_byte_of_the_claims_under_a_good_signature_is_refused_or_harmless(self, data):
        """Whoever could sign could say anything; still nothing but six well-formed claims gets through."""
        raw = bytearray(json.dumps(CLAIMS).encode())
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        token = FORGER.sign(claims=bytes(raw))
        try:
            claims = make_tokens().verify(token)
        except NotAuthenticated:
            return
        said = json.loads(bytes(raw))
        assert said.keys() == CLAIMS.keys()
        assert (said["iss"], said["aud"]) == (ISSUER, AUDIENCE)
        assert said["sub"] == show(Prefix.USER, claims.user_id)
        assert said["exp"] == claims.expires_at.timestamp() > T

    @settings(max_examples=200, deadline=None)
    @given(st.text(max_size=200))
    def test_any_text_is_refused(self, text: str):
        _refused(text)

    def test_token_expires_at_its_second(self):
        clock = FixedClock(NOW)
        tokens = make_tokens(clock)
        token = tokens.issue(USER)
        clock.advance(seconds=899.9)
        tokens.verify(token)
        clock.advance(seconds=0.2)
        _refused(token, tokens)

    def test_clock_of_another_process_may_run_seconds_ahead(self):
        ahead, behind = FixedClock(NOW), FixedClock(NOW)
        ahead.advance(seconds=LEEWAY_S)
        token = make_tokens(ahead).issue(USER)
        make_tokens(behind).verify(token)

    def test_token_of_another_marketplace_is_refused(self):
        other = AccessTokens(SECRET, issuer="other", audience=AUDIENCE, ttl_s=900, clock=FixedClock(NOW))
        _refused(other.issue(USER))

    def test_two_tokens_have_two_ids(self):
        tokens = make_tokens()
        assert tokens.verify(tokens.issue(USER)).token_id != tokens.verify(tokens.issue(USER)).token_id

    def test_seconds_left_counts_down(self):
        clock = FixedClock(NOW)
        tokens = make_tokens(clock)
        claims = tokens.verify(tokens.issue(USER))
        clock.advance(seconds=100)
        assert tokens.seconds_left(claims) == 800


class TestSession:
    def test_token_says_which_session_it_belongs_to(self):
        tokens, session_id = make_tokens(), new_id()
        assert tokens.verify(tokens.issue(USER, session_id=session_id)).session_id == session_id
        assert tokens.verify(tokens.issue(USER)).session_id is None


class TestRotation:
    """A secret is replaced in three steps, during which no good token is refused."""

    def test_every_step_accepts_what_the_step_before_signed(self):
        old, new = make_tokens(secret=FORMER), make_tokens(secret=SECRET)
        learned = make_tokens(secret=FORMER, former_secrets=(SECRET,))
        swapped = make_tokens(secret=SECRET, former_secrets=(FORMER,))
        steps = (old, learned, swapped, new)
        for before, after in pairwise(steps):
            assert after.verify(before.issue(USER)).user_id == USER
            assert before.verify(after.issue(USER)).user_id == USER

    def test_dropped_secret_is_refused(self):
        _refused(make_tokens(secret=FORMER).issue(USER), make_tokens(secret=SECRET))

    def test_signs_with_the_first(self):
        issued = make_tokens(secret=SECRET, former_secrets=(FORMER,)).issue(USER)
        assert make_tokens(secret=SECRET).verify(issued).user_id == USER

    def test_id_of_one_secret_does_not_open_with_another(self):
        """The key id chooses the secret, so one former secret that leaked must not sign as the present one."""
        both = make_tokens(secret=SECRET, former_secrets=(FORMER,))
        _refused(FORGER.sign(secret=FORMER), both)
        both.verify(FORGER.sign())

    def test_unfit_former_secret_is_refused(self):
        with pytest.raises(ValueError, match="fewer than 32"):
            make_tokens(former_secrets=(b"short",))
        with pytest.raises(ValueError, match="more than 4"):
            make_tokens(former_secrets=[bytes([each]) * 32 for each in range(5)])


class TestSecret:
    @pytest.mark.parametrize("secret", [b"", b"a", b"a" * 31])
    def test_short_secret_is_refused(self, secret: bytes):
        with pytest.raises(ValueError, match="fewer than 32"):
            make_tokens(secret=secret)

    def test_text_is_refused(self):
        with pytest.raises(TypeError, match="token secret is str"):
            make_tokens(secret="a" * 40)  # type: ignore[arg-type]  # what is tested

    @pytest.mark.parametrize("name", public_keys())
    def test_public_key_is_refused(self, name: str):
        """The library lets a DER key through (it looks for PEM and SSH only), and then anyone could sign."""
        with pytest.raises(ValueError, match="looks like a key"):
            make_tokens(secret=public_keys()[name])

    def test_json_web_key_is_refused(self):
        with pytest.raises(ValueError, match="looks like a key"):
            make_tokens(secret=json.dumps({"kty": "oct", "k": b64(b"a" * 32)}).encode())

    @settings(max_examples=300, deadline=None)
    @given(st.binary(min_size=32, max_size=43))
    def test_random_bytes_are_fit(self, secret: bytes):
        """No guess at the form of 32 random bytes may stop a marketplace from starting; the library guesses at SSH."""
        tokens = make_tokens(secret=secret)
        assert tokens.verify(tokens.issue(USER)).user_id == USER

    def test_secret_that_reads_as_json_is_used_as_bytes(self):
        """Handed to the library as bytes it would be read as a key set, and "k" would be the secret."""
        secret = b'{"keys": [{"a": "b"}], "pad": "aaaaaaaaaaaaaaaaaaaaaaaa"}'
        tokens = make_tokens(secret=secret)
        assert tokens.verify(tokens.issue(USER)).user_id == USER


class TestImport:
    def test_nobody_else_touches_the_library(self):
        root = Path(__file__).parents[3]
        importers = {
            path.relative_to(root).as_posix()
            for part in (
                "core",
                "marketplace",
                "billing",
                "graphql",
                "serve",
                "providers",
                "local",
                "alembic",
                "tests",
            )
            for path in (root / part).rglob("*.py")
            if ".venv" not in path.parts and "jose" in path.read_text() and _imports(path, "jose")
        }
        assert importers == {"marketplace/raymart_marketplace/accounts/tokens.py"}

    def test_the_library_is_imported_without_warnings(self):
        code = "import warnings; warnings.simplefilter('error'); import raymart_marketplace.accounts.tokens"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

    def test_issuing_and_verifying_warns_of_nothing(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            make_tokens().verify(make_tokens().issue(USER))


_REFUSAL = "the access token is wrong or expired; log in again and send it as `Authorization: Bearer <token>`"


def _imports(path: Path, package: str) -> bool:
    """Whether the file at `path` imports `package`, at whatever depth."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.append(node.module or "")
    return any(name.split(".")[0] == package for name in names)


def _refused(token: str, tokens: AccessTokens | None = None) -> None:
    with pytest.raises(NotAuthenticated):
        (tokens or make_tokens()).verify(token)
