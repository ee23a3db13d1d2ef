"""No forged token is accepted, and each refusal is the same."""

import base64
import hashlib
import hmac
import json
import subprocess
import sys
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from raymart_core.errors import NotAuthenticated
from raymart_core.ids import Prefix, show
from raymart_marketplace.accounts.tokens import LEEWAY_S, TOKEN_BYTES_MAX, TTL_S_MAX, AccessTokens
from support.fixed_clock import FixedClock

SECRET = b"0123456789abcdef0123456789abcdef"
ISSUER = "raymart"
AUDIENCE = "raymart-api"
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
T = int(NOW.timestamp())
USER = UUID("0199a0f0-0000-7000-8000-00000000002a")
HEADER = {"alg": "HS256", "typ": "JWT"}
CLAIMS = {
    "sub": show(Prefix.USER, USER),
    "iss": ISSUER,
    "aud": AUDIENCE,
    "iat": T,
    "exp": T + 900,
    "jti": "0199a0f0000070008000000000000007",
}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def segment(value: object) -> str:
    """JSON of `value`, or bytes and text as they are, in base64url."""
    raw = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return b64(raw)


def sign(header: object = HEADER, claims: object = CLAIMS, *, secret: bytes = SECRET) -> str:
    """A token with a good HS256 signature, made without the library under test."""
    signed = f"{segment(header)}.{segment(claims)}"
    return f"{signed}.{b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def but(changes: Mapping[str, object], *, without: str | None = None) -> dict[str, object]:
    """The good claims with `changes`."""
    return {name: value for name, value in {**CLAIMS, **changes}.items() if name != without}


def make_tokens(clock: FixedClock | None = None, *, secret: bytes = SECRET, ttl_s: int = 900) -> AccessTokens:
    return AccessTokens(secret, issuer=ISSUER, audience=AUDIENCE, ttl_s=ttl_s, clock=clock or FixedClock(NOW))


def hs(name: str, secret: bytes, header: object, claims: object = CLAIMS) -> str:
    signed = f"{segment(header)}.{segment(claims)}"
    return f"{signed}.{b64(hmac.new(secret, signed.encode(), name).digest())}"


GOOD = sign()
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
HEAD, BODY, SIGNATURE = GOOD.split(".")
RSA_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2048).public_key()
EC_KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
ED_KEY = ed25519.Ed25519PrivateKey.generate().public_key()
PUBLIC_KEYS = {
    f"{name} {form_name}": key.public_bytes(encoding, form)
    for name, key in (("rsa", RSA_KEY), ("ec", EC_KEY), ("ed25519", ED_KEY))
    for form_name, encoding, form in (
        ("PEM", Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        ("DER", Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        ("SSH", Encoding.OpenSSH, PublicFormat.OpenSSH),
    )
}

HEADERS: dict[str, object] = {
    "alg none": {"alg": "none", "typ": "JWT"},
    "alg nOnE": {"alg": "nOnE", "typ": "JWT"},
    "alg empty": {"alg": "", "typ": "JWT"},
    "alg null": {"alg": None, "typ": "JWT"},
    "alg lower case": {"alg": "hs256", "typ": "JWT"},
    "alg HS512 named": {"alg": "HS512", "typ": "JWT"},
    "alg RS256 named": {"alg": "RS256", "typ": "JWT"},
    "alg list": {"alg": ["HS256"], "typ": "JWT"},
    "no alg": {"typ": "JWT"},
    "no typ": {"alg": "HS256"},
    "typ lower case": {"alg": "HS256", "typ": "jwt"},
    "typ of another kind": {"alg": "HS256", "typ": "at+jwt"},
    "unknown crit": {**HEADER, "crit": ["exp"]},
    "empty crit": {**HEADER, "crit": []},
    "b64 false": {**HEADER, "b64": False, "crit": ["b64"]},
    "kid path": {**HEADER, "kid": "../../../../dev/null"},
    "kid sql": {**HEADER, "kid": "' union select 'a"},
    "jku": {**HEADER, "jku": "https://127.0.0.1/keys.json"},
    "x5u": {**HEADER, "x5u": "https://127.0.0.1/cert.pem"},
    "x5c": {**HEADER, "x5c": ["AAAA"]},
    "own jwk": {**HEADER, "jwk": {"kty": "oct", "k": b64(b"a" * 32)}},
    "zip": {**HEADER, "zip": "DEF"},
    "nested type": {**HEADER, "cty": "JWT"},
    "jwe": {"alg": "dir", "enc": "A256GCM"},
    "list": [HEADER],
    "text": "HS256",
    "number": 1,
    "null": None,
    "two algs": b'{"alg":"none","typ":"JWT","alg":"HS256"}',
    "two typs": b'{"alg":"HS256","typ":"x","typ":"JWT"}',
    "not json": b"{alg:HS256}",
    "not utf-8": b'{"alg":"HS256","typ":"JWT\xff"}',
    "utf-16": json.dumps(HEADER).encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + json.dumps(HEADER).encode(),
    "deep": b"[" * 2_000 + b"]" * 2_000,
}

BAD_CLAIMS: dict[str, object] = {
    **{f"no {name}": but({}, without=name) for name in CLAIMS},
    **{f"{name} null": but({name: None}) for name in CLAIMS},
    **{f"{name} empty": but({name: ""}) for name in CLAIMS},
    **{f"{name} list": but({name: [CLAIMS[name]]}) for name in CLAIMS},
    **{f"{name} object": but({name: {"a": CLAIMS[name]}}) for name in CLAIMS},
    **{f"{name} float": but({name: float(T + 10)}) for name in ("iat", "exp")},
    **{f"{name} true": but({name: True}) for name in ("iat", "exp")},
    **{f"{name} text": but({name: str(T + 10)}) for name in ("iat", "exp")},
    **{f"{name} negative": but({name: -1}) for name in ("iat", "exp")},
    "exp now": but({"exp": T}),
    "exp past": but({"exp": T - 1}),
    "exp far": but({"exp": T + TTL_S_MAX + 1}),
    "exp huge": but({"exp": 10**300}),
    "exp infinite": json.dumps({**CLAIMS, "exp": float("inf")}).encode(),
    "exp nan": json.dumps({**CLAIMS, "exp": float("nan")}).encode(),
    "exp exponent": json.dumps(CLAIMS).replace(str(T + 900), "2e9").encode(),
    "exp before iat": but({"iat": T + 30, "exp": T + 20}),
    "iat future": but({"iat": T + LEEWAY_S + 1, "exp": T + 900}),
    "iss other": but({"iss": "raymart "}),
    "iss case": but({"iss": "Raymart"}),
    "aud other": but({"aud": "raymart-console"}),
    "aud list with ours": but({"aud": [AUDIENCE, "other"]}),
    "sub bare uuid": but({"sub": str(USER)}),
    "sub other prefix": but({"sub": show(Prefix.ORGANIZATION, USER)}),
    "sub upper case": but({"sub": "user_" + USER.hex.upper()}),
    "sub underscores": but({"sub": "user_" + USER.hex[:7] + "_" + USER.hex[8:]}),
    "sub foreign digits": but({"sub": "user_" + "\u0661" * 32}),
    "sub blank": but({"sub": show(Prefix.USER, USER) + " "}),
    "sub number": but({"sub": 7}),
    "jti number": but({"jti": 7}),
    "jti with hyphens": but({"jti": str(USER)}),
    "jti braces": but({"jti": "{" + USER.hex + "}"}),
    "extra nbf": but({"nbf": T}),
    "extra admin": but({"admin": True}),
    "extra scope": but({"scope": "*"}),
    "list": [CLAIMS],
    "text": "claims",
    "number": 1,
    "two subs": json.dumps(CLAIMS)[:-1].encode() + b',"sub":"user_' + b"0" * 32 + b'"}',
    "two exps": b'{"exp":1,' + json.dumps(CLAIMS)[1:].encode(),
    "escaped repeat": b'{"\\u0065xp":1,' + json.dumps(CLAIMS)[1:].encode(),
    "trailing text": json.dumps(CLAIMS).encode() + b"x",
    "trailing nul": json.dumps(CLAIMS).encode() + b"\0",
    "empty": b"",
    "deep": b'{"sub":' + b"[" * 1_400 + b"]" * 1_400 + b"}",
}

SHAPES: dict[str, str] = {
    "empty": "",
    "one segment": HEAD,
    "two segments": f"{HEAD}.{BODY}",
    "no signature": f"{HEAD}.{BODY}.",
    "no payload": f"{HEAD}..{SIGNATURE}",
    "no header": f".{BODY}.{SIGNATURE}",
    "two dots": f"{HEAD}..{BODY}.{SIGNATURE}",
    "four segments": f"{GOOD}.{SIGNATURE}",
    "five segments": f"{HEAD}.a.b.c.{SIGNATURE}",
    "dots": "..",
    "leading blank": f" {GOOD}",
    "trailing blank": f"{GOOD} ",
    "trailing newline": f"{GOOD}\n",
    "inner newline": f"{HEAD}.\n{BODY}.{SIGNATURE}",
    "tab": f"{HEAD}\t.{BODY}.{SIGNATURE}",
    "nul": f"{GOOD}\0",
    "padded": f"{GOOD}=",
    "padded header": f"{HEAD}==.{BODY}.{SIGNATURE}",
    "standard alphabet": GOOD.replace("-", "+").replace("_", "/") + "+",
    "truncated": GOOD[:-1],
    "truncated a lot": GOOD[:-20],
    "extended": f"{GOOD}A",
    "signature of the header": f"{HEAD}.{BODY}.{HEAD}",
    "signature zero": f"{HEAD}.{BODY}.{b64(bytes(32))}",
    "swapped": f"{BODY}.{HEAD}.{SIGNATURE}",
    "unicode digits": GOOD[:-1] + "\u0661",
    "full-width": "".join(chr(ord(c) + 0xFEE0) if c.isalnum() else c for c in GOOD),
    "lone surrogate": GOOD + "\ud800",
    "json form": json.dumps({"payload": BODY, "protected": HEAD, "signature": SIGNATURE}),
    "api key": "rm_live_" + "a" * 43,
    "too long": sign(claims=json.dumps(CLAIMS).encode() + b" " * TOKEN_BYTES_MAX),
    # The last character spells four bits of the signature and two spare ones, which a lax decoder ignores.
    "spare bits": GOOD[:-1] + ALPHABET[ALPHABET.index(GOOD[-1]) ^ 1],
    "a megabyte": "a" * 1_000_000,
    "jwe shape": ".".join([segment({"alg": "dir", "enc": "A256GCM"}), "", "AAAA", "AAAA", "AAAA"]),
}

SIGNED_WRONG: dict[str, str] = {
    "empty secret": sign(secret=b""),
    "one byte secret": sign(secret=b"a"),
    "secret in hex": sign(secret=SECRET.hex().encode()),
    "secret and newline": sign(secret=SECRET + b"\n"),
    "alg none, no signature": f"{segment({'alg': 'none', 'typ': 'JWT'})}.{BODY}.",
    "alg none, any signature": f"{segment({'alg': 'none', 'typ': 'JWT'})}.{BODY}.{SIGNATURE}",
    "real HS384": hs("sha384", SECRET, {"alg": "HS384", "typ": "JWT"}),
    "real HS512": hs("sha512", SECRET, {"alg": "HS512", "typ": "JWT"}),
    "HS512 under the header of HS256": hs("sha512", SECRET, HEADER),
    **{f"{name} as the secret": sign(secret=key) for name, key in PUBLIC_KEYS.items()},
    **{
        f"{name} as the secret, alg RS256": sign({"alg": "RS256", "typ": "JWT"}, secret=key)
        for name, key in PUBLIC_KEYS.items()
    },
}

FORGERIES = {
    **{f"header: {name}": sign(header=header) for name, header in HEADERS.items()},
    **{f"claims: {name}": sign(claims=claims) for name, claims in BAD_CLAIMS.items()},
    **{f"shape: {name}": token for name, token in SHAPES.items()},
    **{f"signature: {name}": token for name, token in SIGNED_WRONG.items()},
}


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
        assert len(FORGERIES) > 100

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
        token = sign(claims=bytes(raw))
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

    def test_clock_of_another_process_may_run_a_minute_ahead(self):
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


class TestSecret:
    @pytest.mark.parametrize("secret", [b"", b"a", b"a" * 31])
    def test_short_secret_is_refused(self, secret: bytes):
        with pytest.raises(ValueError, match="fewer than 32"):
            make_tokens(secret=secret)

    def test_text_is_refused(self):
        with pytest.raises(TypeError, match="token secret is str"):
            make_tokens(secret="a" * 40)  # type: ignore[arg-type]  # what is tested

    @pytest.mark.parametrize("name", PUBLIC_KEYS)
    def test_public_key_is_refused(self, name: str):
        """The library lets a DER key through (it looks for PEM and SSH only), and then anyone could sign."""
        with pytest.raises(ValueError, match="looks like a key"):
            make_tokens(secret=PUBLIC_KEYS[name])

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
    def test_the_library_is_imported_without_warnings(self):
        code = "import warnings; warnings.simplefilter('error'); import raymart_marketplace.accounts.tokens"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

    def test_issuing_and_verifying_warns_of_nothing(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            make_tokens().verify(make_tokens().issue(USER))


_REFUSAL = "the access token is wrong or expired; log in again and send it as `Authorization: Bearer <token>`"


def _refused(token: str, tokens: AccessTokens | None = None) -> None:
    with pytest.raises(NotAuthenticated):
        (tokens or make_tokens()).verify(token)
