"""A real OpenID provider (oidc-provider-mock, on Authlib and Flask) whose answers can be broken on their way out.

`PUT /fault` with a name, or with "" for none, decides how. Prints its port. A process of its own: it is a web server of
another kind, and its libraries warn of what tests take for errors.
"""

import base64
import hmac
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import authlib.deprecate  # noqa: F401 - it has its warnings shown always, from when it is imported

warnings.simplefilter("ignore")
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

import flask  # noqa: E402
import oidc_provider_mock  # noqa: E402
import werkzeug.serving  # noqa: E402
from joserfc import jws  # noqa: E402
from joserfc.jwk import OctKey, RSAKey  # noqa: E402
from oidc_provider_mock._storage import Storage  # noqa: E402

SECRET = "the client's secret, of more than 32 bytes"
Claims = dict[str, Any]


def _signed(claims: Claims, *, key: Any, alg: str = "RS256", **header: Any) -> str:
    protected = {"alg": alg, "typ": "JWT"} | ({"kid": key.kid} if key.kid else {}) | header
    return jws.serialize_compact(protected, json.dumps(claims), key, algorithms=[alg])


def _own_key() -> RSAKey:
    found = flask.g.oidc_provider_mock_storage.jwk.as_dict(is_private=True)
    return RSAKey.import_key({name: value for name, value in found.items() if name != "use"})


def _changed(**changes: Any) -> Callable[[str, Claims], str]:
    """An ID token that the provider itself has signed, with other claims; None takes one out."""

    def make(_token: str, claims: Claims) -> str:
        said = {name: value for name, value in (claims | changes).items() if value is not None}
        return _signed(said, key=_own_key())

    return make


def _tampered(token: str, claims: Claims) -> str:
    head, _, signature = token.split(".")
    other = _signed(claims | {"sub": "somebody-else"}, key=RSAKey.generate_key(2048)).split(".")[1]
    return f"{head}.{other}.{signature}"


def _unsigned(token: str, _claims: Claims) -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    return f"{head}.{token.split('.')[1]}."


def _by_secret(_token: str, claims: Claims) -> str:
    return _signed(claims, key=OctKey.import_key(SECRET), alg="HS256")


def _by_public_key(_token: str, claims: Claims) -> str:
    """By hand: the library refuses to take a public key for a secret."""
    parts = (json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.digest(_own_key().as_pem(private=False), signed, "sha256")
    return f"{signed.decode()}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def _by_foreign_key(_token: str, claims: Claims) -> str:
    return _signed(claims, key=RSAKey.generate_key(2048))


ID_TOKENS: dict[str, Callable[[str, Claims], object]] = {
    "wrong nonce": _changed(nonce="another"),
    "no nonce": _changed(nonce=None),
    "wrong issuer": _changed(iss="http://localhost:1"),
    "no issuer": _changed(iss=None),
    "wrong audience": _changed(aud="another-client"),
    "no audience": _changed(aud=None),
    "for two, asked by the other": _changed(aud=["our-client", "another"], azp="another"),
    "expired": _changed(iat=int(time.time()) - 7_200, exp=int(time.time()) - 3_600),
    "no end": _changed(exp=None),
    "no subject": _changed(sub=None),
    "empty subject": _changed(sub=""),
    "long subject": _changed(sub="x" * 256),
    "subject that is a number": _changed(sub=7),
    "tampered": _tampered,
    "unsigned": _unsigned,
    "signed with the client's secret": _by_secret,
    "signed with the public key as a secret": _by_public_key,
    "signed with a foreign key": _by_foreign_key,
    "no token": lambda _token, _claims: None,
    "no text": lambda _token, _claims: 5,
    "huge": lambda token, _claims: token + "A" * 20_000,
}


def make_app() -> flask.Flask:
    """The provider's application, with its faults."""
    app = oidc_provider_mock.app()
    fault = {"name": ""}

    @app.put("/fault")
    def set_fault() -> str:
        fault["name"] = flask.request.json["name"]
        if fault["name"] == "new key":
            flask.g.oidc_provider_mock_storage.jwk = Storage().jwk
        return ""

    @app.after_request
    def meddle(response: flask.Response) -> flask.Response:
        path, name = flask.request.path, fault["name"]
        if path == "/oauth2/token" and response.status_code == 200:
            _meddle_with_token(response, name)
        elif path == "/.well-known/openid-configuration":
            _meddle_with_metadata(response, name)
        elif path == "/jwks" and name == "no keys":
            response.set_data(json.dumps({"keys": []}))
        return response

    return app


def _meddle_with_token(response: flask.Response, name: str) -> None:
    if name == "token error":
        response.status_code = 500
    elif name == "token page":
        response.set_data("<html>maintenance</html>")
    elif name == "token flood":
        response.set_data(json.dumps({"padding": "x" * 1_000_000}))
    elif name in ID_TOKENS:
        body = response.get_json()
        token = body["id_token"]
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        body["id_token"] = ID_TOKENS[name](token, claims)
        response.set_data(json.dumps(body))


def _meddle_with_metadata(response: flask.Response, name: str) -> None:
    body = response.get_json()
    if name == "metadata of another issuer":
        body["issuer"] = "http://localhost:1"
    elif name == "metadata without algorithms":
        body["id_token_signing_alg_values_supported"] = ["none", "HS256"]
    elif name == "metadata with an odd endpoint":
        body["token_endpoint"] = "file:///etc/passwd"
    elif name == "says issuer":
        body["authorization_response_iss_parameter_supported"] = True
    elif name == "metadata gone":
        response.status_code = 404
    elif name == "metadata elsewhere":
        response.status_code, response.headers["location"] = 302, "http://169.254.169.254/"
    response.set_data(json.dumps(body))


def main() -> None:
    """Serve until killed."""
    server = werkzeug.serving.make_server("localhost", 0, make_app(), threaded=True)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
