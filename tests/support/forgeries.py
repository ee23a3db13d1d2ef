"""Access tokens that must not be believed, made without the library under test.

Each differs from one good token in one thing, so that it is that thing which is refused.
"""

import base64
import dataclasses
import hmac
import json
from collections.abc import Mapping
from functools import cache
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from raymart_core.ids import Prefix, show
from raymart_marketplace.accounts.tokens import LEEWAY_S, TOKEN_BYTES_MAX, TTL_S_MAX, key_id

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
TOKEN_ID = "0199a0f0000070008000000000000007"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def segment(value: object) -> str:
    """JSON of `value`, or bytes as they are, in base64url."""
    raw = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return b64(raw)


@cache
def public_keys() -> dict[str, bytes]:
    """What a forger may know of an issuer that had key pairs, in each spelling."""
    keys = {
        "rsa": rsa.generate_private_key(public_exponent=65_537, key_size=2048).public_key(),
        "ec": ec.generate_private_key(ec.SECP256R1()).public_key(),
        "ed25519": ed25519.Ed25519PrivateKey.generate().public_key(),
    }
    forms = {
        "PEM": (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "DER": (Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "SSH": (Encoding.OpenSSH, PublicFormat.OpenSSH),
    }
    return {f"{name} {form}": key.public_bytes(*forms[form]) for name, key in keys.items() for form in forms}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forger:
    """Knows all about a marketplace, its secret included, so that each forgery has one fault and no other."""

    secret: bytes
    issuer: str
    audience: str
    user_id: UUID
    at: int
    """Unix seconds."""

    @property
    def header(self) -> dict[str, object]:
        return {"alg": "HS256", "typ": "at+jwt", "kid": key_id(self.secret)}

    @property
    def claims(self) -> dict[str, object]:
        return {
            "sub": show(Prefix.USER, self.user_id),
            "iss": self.issuer,
            "aud": self.audience,
            "iat": self.at,
            "exp": self.at + 900,
            "jti": TOKEN_ID,
        }

    @property
    def honest(self) -> str:
        """The token that all forgeries are made of."""
        return self.sign()

    def sign(
        self,
        header: object = None,
        claims: object = None,
        *,
        secret: bytes | None = None,
        digest: str = "sha256",
    ) -> str:
        """A token whose signature is good."""
        head = segment(self.header if header is None else header)
        signed = f"{head}.{segment(self.claims if claims is None else claims)}"
        key = self.secret if secret is None else secret
        return f"{signed}.{b64(hmac.new(key, signed.encode(), digest).digest())}"

    def but(self, changes: Mapping[str, object], *, without: str | None = None) -> dict[str, object]:
        """The good claims with `changes`."""
        return {name: value for name, value in {**self.claims, **changes}.items() if name != without}

    def forgeries(self) -> dict[str, str]:
        """Every forgery by its name."""
        return {
            **{f"header: {name}": self.sign(header=header) for name, header in self._headers().items()},
            **{f"claims: {name}": self.sign(claims=claims) for name, claims in self._claims().items()},
            **{f"shape: {name}": token for name, token in self._shapes().items()},
            **{f"signature: {name}": token for name, token in self._signatures().items()},
        }

    def _headers(self) -> dict[str, object]:
        header, kid = self.header, key_id(self.secret)
        return {
            "alg none": {**header, "alg": "none"},
            "alg nOnE": {**header, "alg": "nOnE"},
            "alg None": {**header, "alg": "None"},
            "alg empty": {**header, "alg": ""},
            "alg null": {**header, "alg": None},
            "alg lower case": {**header, "alg": "hs256"},
            "alg HS512 named": {**header, "alg": "HS512"},
            "alg RS256 named": {**header, "alg": "RS256"},
            "alg EdDSA named": {**header, "alg": "EdDSA"},
            "alg list": {**header, "alg": ["HS256"]},
            "no alg": {"typ": "at+jwt", "kid": kid},
            "no typ": {"alg": "HS256", "kid": kid},
            "no kid": {"alg": "HS256", "typ": "at+jwt"},
            "typ of any token": {**header, "typ": "JWT"},
            "typ of an ID token": {**header, "typ": "id+jwt"},
            "typ of a refresh token": {**header, "typ": "rt+jwt"},
            "typ upper case": {**header, "typ": "AT+JWT"},
            "typ in full": {**header, "typ": "application/at+jwt"},
            "unknown crit": {**header, "crit": ["exp"]},
            "empty crit": {**header, "crit": []},
            "b64 false": {**header, "b64": False, "crit": ["b64"]},
            "kid of nobody": {**header, "kid": "0" * 16},
            "kid path": {**header, "kid": "../../../../dev/null"},
            "kid sql": {**header, "kid": "' union select 'a"},
            "kid url": {**header, "kid": "https://127.0.0.1/keys.json"},
            "kid shell": {**header, "kid": "| cat /etc/passwd"},
            "kid nul": {**header, "kid": kid + "\0"},
            "kid upper case": {**header, "kid": kid.upper() + "A"},
            "kid empty": {**header, "kid": ""},
            "kid null": {**header, "kid": None},
            "kid list": {**header, "kid": [kid]},
            "kid object": {**header, "kid": {"a": kid}},
            "kid number": {**header, "kid": 0},
            "jku": {**header, "jku": "https://127.0.0.1/keys.json"},
            "x5u": {**header, "x5u": "https://127.0.0.1/cert.pem"},
            "x5c": {**header, "x5c": ["AAAA"]},
            "own jwk": {**header, "jwk": {"kty": "oct", "k": b64(b"a" * 32)}},
            "zip": {**header, "zip": "DEF"},
            "nested type": {**header, "cty": "JWT"},
            "jwe": {"alg": "dir", "enc": "A256GCM"},
            "list": [header],
            "text": "HS256",
            "number": 1,
            "null": b"null",
            "two algs": b'{"alg":"none",' + json.dumps(header)[1:].encode(),
            "two kids": b'{"kid":"x",' + json.dumps(header)[1:].encode(),
            "escaped repeat": b'{"\\u0061lg":"none",' + json.dumps(header)[1:].encode(),
            "not json": b"{alg:HS256}",
            "not utf-8": json.dumps(header)[:-2].encode() + b'\xff"}',
            "utf-16": json.dumps(header).encode("utf-16"),
            "byte order mark": b"\xef\xbb\xbf" + json.dumps(header).encode(),
            "deep": b"[" * 1_000 + b"]" * 1_000,
        }

    def _claims(self) -> dict[str, object]:
        claims, but, at = self.claims, self.but, self.at
        return {
            **{f"no {name}": but({}, without=name) for name in claims},
            **{f"{name} null": but({name: None}) for name in claims},
            **{f"{name} empty": but({name: ""}) for name in claims},
            **{f"{name} list": but({name: [claims[name]]}) for name in claims},
            **{f"{name} object": but({name: {"a": claims[name]}}) for name in claims},
            **{f"{name} float": but({name: float(at + 10)}) for name in ("iat", "exp")},
            **{f"{name} true": but({name: True}) for name in ("iat", "exp")},
            **{f"{name} text": but({name: str(at + 10)}) for name in ("iat", "exp")},
            **{f"{name} negative": but({name: -1}) for name in ("iat", "exp")},
            **{f"sid {name}": but({"sid": value}) for name, value in _IDS_THAT_ARE_NONE.items()},
            **{f"jti {name}": but({"jti": value}) for name, value in _IDS_THAT_ARE_NONE.items()},
            "exp now": but({"exp": at}),
            "exp past": but({"iat": at - 900, "exp": at - 1}),
            "exp far": but({"exp": at + TTL_S_MAX + 100}),
            "exp huge": but({"exp": 10**300}),
            "exp infinite": json.dumps({**claims, "exp": float("inf")}).encode(),
            "exp nan": json.dumps({**claims, "exp": float("nan")}).encode(),
            "exp exponent": json.dumps(claims).replace(str(at + 900), "2e9").encode(),
            "exp before iat": but({"iat": at, "exp": at - 1}),
            "iat future": but({"iat": at + LEEWAY_S + 600, "exp": at + 1_500}),
            "nbf future": but({"nbf": at + 600}),
            "iss other": but({"iss": "raymart "}),
            "iss case": but({"iss": "Raymart"}),
            "iss of another environment": but({"iss": "raymart-staging"}),
            "aud other": but({"aud": "raymart-console"}),
            "aud list with ours": but({"aud": [self.audience, "other"]}),
            "sub bare uuid": but({"sub": str(self.user_id)}),
            "sub other prefix": but({"sub": show(Prefix.ORGANIZATION, self.user_id)}),
            "sub upper case": but({"sub": "user_" + self.user_id.hex.upper()}),
            "sub underscores": but({"sub": "user_" + self.user_id.hex[:7] + "_" + self.user_id.hex[8:]}),
            "sub foreign digits": but({"sub": "user_" + "\u0661" * 32}),
            "sub blank": but({"sub": show(Prefix.USER, self.user_id) + " "}),
            "sub number": but({"sub": 7}),
            "extra nbf": but({"nbf": at}),
            "extra admin": but({"admin": True}),
            "extra scope": but({"scope": "*"}),
            "list": [claims],
            "text": "claims",
            "number": 1,
            "two subs": json.dumps(claims)[:-1].encode() + b',"sub":"user_' + b"0" * 32 + b'"}',
            "two exps": b'{"exp":1,' + json.dumps(claims)[1:].encode(),
            "escaped repeat": b'{"\\u0065xp":1,' + json.dumps(claims)[1:].encode(),
            "trailing text": json.dumps(claims).encode() + b"x",
            "trailing nul": json.dumps(claims).encode() + b"\0",
            "empty": b"",
            "deep": b'{"sub":' + b"[" * 1_300 + b"]" * 1_300 + b"}",
        }

    def _shapes(self) -> dict[str, str]:
        good = self.honest
        head, body, signature = good.split(".")
        return {
            "empty": "",
            "one segment": head,
            "two segments": f"{head}.{body}",
            "no signature": f"{head}.{body}.",
            "no payload": f"{head}..{signature}",
            "no header": f".{body}.{signature}",
            "two dots": f"{head}..{body}.{signature}",
            "four segments": f"{good}.{signature}",
            "five segments": f"{head}.a.b.c.{signature}",
            "dots": "..",
            "leading blank": f" {good}",
            "trailing blank": f"{good} ",
            "trailing newline": f"{good}\n",
            "inner newline": f"{head}.\n{body}.{signature}",
            "tab": f"{head}\t.{body}.{signature}",
            "nul": f"{good}\0",
            "padded": f"{good}=",
            "padded header": f"{head}==.{body}.{signature}",
            "standard alphabet": good.replace("-", "+").replace("_", "/") + "+",
            "truncated": good[:-1],
            "truncated a lot": good[:-20],
            "extended": f"{good}A",
            "signature of the header": f"{head}.{body}.{head}",
            "signature zero": f"{head}.{body}.{b64(bytes(32))}",
            "swapped": f"{body}.{head}.{signature}",
            "unicode digits": good[:-1] + "\u0661",
            "full-width": "".join(chr(ord(c) + 0xFEE0) if c.isalnum() else c for c in good),
            "zero-width blank": good[:10] + "\u200b" + good[10:],
            "lone surrogate": good + "\ud800",
            "json form": json.dumps({"payload": body, "protected": head, "signature": signature}),
            "api key": "rm_live_" + "a" * 43,
            "refresh token": "rm_refresh_" + "a" * 43,
            "id of the token": TOKEN_ID,
            "too long": self.sign(claims=json.dumps(self.claims).encode() + b" " * TOKEN_BYTES_MAX),
            # The last character spells four bits of the signature and two spare ones, which a lax decoder ignores.
            "spare bits": good[:-1] + ALPHABET[ALPHABET.index(good[-1]) ^ 1],
            "a megabyte": "a" * 1_000_000,
            "jwe shape": ".".join([segment({"alg": "dir", "enc": "A256GCM"}), "", "AAAA", "AAAA", "AAAA"]),
        }

    def _signatures(self) -> dict[str, str]:
        header, sign = self.header, self.sign
        _, body, signature = self.honest.split(".")
        none = segment({**header, "alg": "none"})
        return {
            "empty secret": sign(secret=b""),
            "one byte secret": sign(secret=b"a"),
            "the key id as the secret": sign(secret=key_id(self.secret).encode()),
            "secret in hex": sign(secret=self.secret.hex().encode()),
            "secret and newline": sign(secret=self.secret + b"\n"),
            "secret of another environment": sign(secret=b"another environment's own secret"),
            "alg none, no signature": f"{none}.{body}.",
            "alg none, any signature": f"{none}.{body}.{signature}",
            "real HS384": sign({**header, "alg": "HS384"}, digest="sha384"),
            "real HS512": sign({**header, "alg": "HS512"}, digest="sha512"),
            "HS512 under the header of HS256": sign(digest="sha512"),
            **{f"{name} as the secret": sign(secret=key) for name, key in public_keys().items()},
            **{
                f"{name} as the secret, alg RS256": sign({**header, "alg": "RS256"}, secret=key)
                for name, key in public_keys().items()
            },
        }


_IDS_THAT_ARE_NONE: Mapping[str, object] = {
    "that is a number": 7,
    "with hyphens": "0199a0f0-0000-7000-8000-000000000007",
    "with braces": "{" + TOKEN_ID + "}",
    "in capitals": TOKEN_ID.upper(),
    "too short": TOKEN_ID[:-1],
    "true": True,
}
