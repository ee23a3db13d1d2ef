"""A small S3: one bucket in memory, over real HTTP, that checks signatures as Amazon describes them.

Source: AWS Signature Version 4, "Create a signed request" and "Authenticating requests: using query parameters".
"""

import contextlib
import hashlib
import hmac
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape, unescape

from starlette.requests import Request
from starlette.responses import Response

from support.gateway_market import serving

BUCKET = "raymart-test"
ACCESS_KEY_ID = "AKIATEST"
SECRET_ACCESS_KEY = "the-secret-of-the-test"
REGION = "us-east-1"


class S3Server:
    """An ASGI application; `objects` is what it holds."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.media_types: dict[str, str] = {}
        self.refuse_all = False
        self._uploads: dict[str, dict[int, bytes]] = {}

    async def __call__(self, scope, receive, send) -> None:
        request = Request(scope, receive)
        await (await self._answer(request))(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        body = await request.body()
        bucket, _, key = request.url.path.removeprefix("/").partition("/")
        if refusal := self._refusal(request, bucket):
            return refusal
        if not key:
            return self._of_bucket(request, body)
        if request.method in {"GET", "HEAD"}:
            return self._read(request, unquote(key))
        if "uploadId" in request.query_params or "uploads" in request.query_params:
            return self._upload(request, unquote(key), body)
        return self._put(request, unquote(key), body)

    def _refusal(self, request: Request, bucket: str) -> Response | None:
        if self.refuse_all:
            return _error(500, "InternalError")
        if not _is_signed(request):
            return _error(403, "SignatureDoesNotMatch")
        return None if bucket == BUCKET else _error(404, "NoSuchBucket")

    def _of_bucket(self, request: Request, body: bytes) -> Response:
        if request.method == "POST":
            keys = re.findall("<Key>(.*?)</Key>", body.decode())
            for key in keys:
                self.objects.pop(unescape(key), None)
            deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            return _xml(f"<DeleteResult>{deleted}</DeleteResult>")
        return self._list(request.query_params.get("prefix", ""))

    def _put(self, request: Request, key: str, body: bytes) -> Response:
        self.objects[key] = body
        self.media_types[key] = request.headers.get("content-type", "")
        return Response(headers={"etag": _e_tag(body)})

    def _upload(self, request: Request, key: str, body: bytes) -> Response:
        """An object in parts: begin, a part, give up, put together."""
        query = request.query_params
        if "uploads" in query:
            self._uploads[key] = {}
            return _xml(
                f"<InitiateMultipartUploadResult><UploadId>{escape(key)}</UploadId></InitiateMultipartUploadResult>"
            )
        if request.method == "PUT":
            self._uploads[query["uploadId"]][int(query["partNumber"])] = body
            return Response(headers={"etag": _e_tag(body)})
        parts = self._uploads.pop(query["uploadId"], {})
        if request.method == "DELETE":
            return Response(status_code=204)
        self.objects[key] = b"".join(parts[number] for number in sorted(parts))
        e_tag = escape(_e_tag(self.objects[key]))
        return _xml(f"<CompleteMultipartUploadResult><ETag>{e_tag}</ETag></CompleteMultipartUploadResult>")

    def _read(self, request: Request, key: str) -> Response:
        if key not in self.objects:
            return _error(404, "NoSuchKey")
        content, status, headers = self.objects[key], 200, {}
        wanted = request.headers.get("range")
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            end = min(int(last) + 1, len(content)) if last else len(content)
            headers["content-range"] = f"bytes {first}-{end - 1}/{len(content)}"
            content, status = content[int(first) : end], 206
        headers |= {
            "etag": _e_tag(self.objects[key]),
            "last-modified": format_datetime(datetime.now(UTC), usegmt=True),
            "content-length": str(len(content)),
        }
        return Response(b"" if request.method == "HEAD" else content, status_code=status, headers=headers)

    def _list(self, prefix: str) -> Response:
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>{escape(_e_tag(content))}</ETag><Size>{len(content)}</Size></Contents>"
            for key, content in sorted(self.objects.items())
            if key.startswith(prefix)
        )
        return _xml(f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>")


@contextlib.asynccontextmanager
async def s3_server() -> AsyncIterator[tuple[S3Server, str]]:
    """A server and its URL."""
    server = S3Server()
    async with serving(server) as url:
        yield server, url


def _is_signed(request: Request) -> bool:
    query = request.query_params
    if "X-Amz-Signature" in query:
        credential, signed = query["X-Amz-Credential"], query["X-Amz-SignedHeaders"]
        given, date, payload = query["X-Amz-Signature"], query["X-Amz-Date"], "UNSIGNED-PAYLOAD"
        made = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if (datetime.now(UTC) - made).total_seconds() > int(query["X-Amz-Expires"]):
            return False
    else:
        parts = dict(
            part.strip().split("=", 1)
            for part in request.headers.get("authorization", "").removeprefix("AWS4-HMAC-SHA256 ").split(",")
            if "=" in part
        )
        if "Signature" not in parts:
            return False
        credential, signed, given = parts["Credential"], parts["SignedHeaders"], parts["Signature"]
        date, payload = request.headers["x-amz-date"], request.headers["x-amz-content-sha256"]
    canonical = "\n".join(
        [
            request.method,
            quote(unquote(request.scope["raw_path"].decode()), safe="/-_.~"),
            "&".join(
                f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
                for name, value in sorted(query.multi_items())
                if name != "X-Amz-Signature"
            ),
            *(f"{name}:{request.headers[name].strip()}" for name in signed.split(";")),
            "",
            signed,
            payload,
        ]
    )
    access_key_id, *scope = credential.split("/")
    text = "\n".join(
        ["AWS4-HMAC-SHA256", date, "/".join(scope), hashlib.sha256(canonical.encode()).hexdigest()]
    )
    secret = b"AWS4" + SECRET_ACCESS_KEY.encode()
    for part in scope:
        secret = hmac.digest(secret, part.encode(), "sha256")
    expected = hmac.digest(secret, text.encode(), "sha256").hex()
    return access_key_id == ACCESS_KEY_ID and hmac.compare_digest(expected, given)


def _e_tag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def _error(status: int, code: str) -> Response:
    return Response(f"<Error><Code>{code}</Code></Error>", status_code=status, media_type="application/xml")


def _xml(text: str) -> Response:
    return Response(text, media_type="application/xml")
