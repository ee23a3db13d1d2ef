"""The OpenAPI document of every REST surface, from the same types that read and write the bodies.

FastAPI describes its own routes (`worker`, `operations`). The hot path is raw ASGI over msgspec structs, so its
operations are put together here: `/v1` for customers, and the files and probes that have no body to describe.
Source: OpenAPI 3.1.0, whose schemas are JSON Schema 2020-12, which is what msgspec writes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from raymart_graphql.key_route import KeyReply
from raymart_marketplace.gateway.completions.llama_body import LlamaBody
from raymart_marketplace.gateway.completions.llama_reply import LlamaCompletion
from raymart_marketplace.gateway.completions.openai_body import CompletionBody
from raymart_marketplace.gateway.completions.openai_reply import TextCompletion
from raymart_marketplace.gateway.endpoints_route import EndpointList
from raymart_marketplace.gateway.error_reply import ErrorReply
from raymart_marketplace.gateway.generations.reply import GenerationReply
from raymart_marketplace.gateway.images.openai_body import EditFields, GenerationBody
from raymart_marketplace.gateway.images.openai_reply import ImagesReply
from raymart_marketplace.gateway.models_route import ModelList, ModelObject
from raymart_marketplace.gateway.openai_body import ChatBody
from raymart_marketplace.gateway.openai_reply import ChatCompletion
from raymart_marketplace.gateway.vectors.embeddings_route import EmbeddingList
from raymart_marketplace.gateway.vectors.openai_body import EmbeddingBody, RerankBody
from raymart_marketplace.gateway.vectors.rerank_route import RerankAnswer

Json = dict[str, Any]

VERSION = "1.0.0"
"""Of the document: the first number changes when a client must."""
ABOUT = """\
GPU inference, sold by many providers and metered once.

* **Inference** (`/v1`) speaks OpenAI's shapes, with OpenRouter's `provider` object; send an API key.
* **Nodes** (`/worker/v1`) is for providers' machines, which prove the key that they enrolled.
* **Operations** (`/admin/v1`) is for the marketplace's own staff.

Everything else (accounts, prices, usage, invoices, payouts) is at `/graphql`.
"""
_STRUCTS = (
    ChatBody,
    ChatCompletion,
    CompletionBody,
    TextCompletion,
    LlamaBody,
    LlamaCompletion,
    EditFields,
    GenerationBody,
    ImagesReply,
    EmbeddingBody,
    EmbeddingList,
    RerankBody,
    RerankAnswer,
    GenerationReply,
    KeyReply,
    EndpointList,
    ModelList,
    ModelObject,
    ErrorReply,
)
_SCHEMES: Json = {
    "api_key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`rm_live_...`), or the access token of a person who may use inference.",
    },
    "person": {"type": "http", "scheme": "bearer", "description": "A person's access token, from `login`."},
}
_SERVED = {
    "x-request-id": "The request's id.",
    "x-generation-id": "The id by which `/v1/generation` finds it.",
    "x-raymart-model": "The model that served.",
    "x-raymart-provider": "The provider that served.",
    "x-raymart-attempts": "Endpoints tried.",
    "x-raymart-cost": "US dollars; not known when a stream begins.",
}
"""Headers that say who served."""
_FAILURES = {
    400: "The request is wrong; `param` names the field.",
    401: "No key, or a wrong one.",
    402: "The balance or a budget does not cover the request.",
    403: "Known, but not allowed.",
    404: "No such thing, or not yours.",
    405: "Another method.",
    413: "The body is too large.",
    429: "Too much at once; wait for `Retry-After` seconds.",
    502: "Every endpoint that was tried failed.",
    503: "No endpoint meets the request's needs, or a part is away.",
    504: "The request ran past its deadline.",
}


def document(app: FastAPI) -> Json:
    """The whole document."""
    described = get_openapi(title="Raymart", version=VERSION, description=ABOUT, routes=app.routes)
    _, schemas = msgspec.json.schema_components(_STRUCTS, ref_template="#/components/schemas/{name}")
    components = described.setdefault("components", {})
    # By way of JSON, because its defaults are tuples.
    components.setdefault("schemas", {}).update(msgspec.json.decode(msgspec.json.encode(schemas)))
    components["schemas"].pop("HTTPValidationError", None)
    components["schemas"].pop("ValidationError", None)
    components.setdefault("securitySchemes", {}).update(_SCHEMES)
    described["paths"] = {**_inference(), **described["paths"], **_documents(), **_probes()}
    for operations in described["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)  # FastAPI's; ours is 400.
    return described


def _inference() -> Json:
    return {
        "/v1/chat/completions": {
            "post": _generation(
                "createChatCompletion",
                "Answer a conversation, in one piece or as a stream",
                "ChatBody",
                "ChatCompletion",
            )
        },
        "/v1/completions": {
            "post": _generation("createCompletion", "Continue prompts", "CompletionBody", "TextCompletion")
        },
        "/completion": {
            "post": _generation(
                "createLlamaCompletion",
                "Continue a prompt, in llama.cpp's shape",
                "LlamaBody",
                "LlamaCompletion",
            )
        },
        "/v1/embeddings": {
            "post": _unary("createEmbedding", "Turn texts into vectors", "EmbeddingBody", "EmbeddingList")
        },
        "/v1/rerank": {
            "post": _unary("rerank", "Sort documents by relevance to a query", "RerankBody", "RerankAnswer")
        },
        "/v1/images/generations": {
            "post": _pictures("createImage", "Make pictures of a prompt", _json("GenerationBody"))
        },
        "/v1/images/edits": {
            "post": _pictures("editImage", "Make a picture anew, where its mask says so", _edit_form())
        },
        "/v1/models": {"get": _read("listModels", "List what is served", "ModelList", (401, 403, 503))},
        "/v1/generation": {
            "get": _read(
                "getGeneration",
                "Show what a request cost, who served it and what was tried",
                "GenerationReply",
                (400, 401, 403, 404, 503),
            )
            | {"parameters": [_in_query("id", "An answer's `id`, or its `x-request-id`.")]}
        },
        "/v1/key": {
            "get": _read("getKey", "Show what the key may do and has spent", "KeyReply", (401, 403, 503))
        },
        "/v1/models/{model}/endpoints": {
            "get": _read(
                "listModelEndpoints",
                "List who serves a model now, and how",
                "EndpointList",
                (401, 403, 404, 503),
            )
            | {"parameters": [_in_path("model", "Its slug; it may contain a slash.")]}
        },
        "/v1/models/{model}": {
            "get": _read("getModel", "Show a model", "ModelObject", (401, 403, 404, 503))
            | {"parameters": [_in_path("model", "Its slug; it may contain a slash.")]}
        },
    }


def _generation(name: str, summary: str, body: str, answer: str) -> Json:
    operation = _unary(name, summary, body, answer)
    whole = operation["responses"]["200"]
    whole["description"] = "The answer; with `stream: true` its chunks as server-sent events."
    whole["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    whole["headers"] = {
        header: {"description": about, "schema": {"type": "string"}} for header, about in _SERVED.items()
    }
    return operation


def _unary(name: str, summary: str, body: str, answer: str) -> Json:
    return {
        "tags": ["Inference"],
        "operationId": name,
        "summary": summary,
        "security": [{"api_key": []}],
        "requestBody": {"required": True, "content": _json(body)},
        "responses": {
            "200": {"description": "The answer.", "content": _json(answer)},
            **_failing(400, 401, 402, 403, 404, 413, 429, 502, 503, 504),
        },
    }


def _pictures(name: str, summary: str, content: Json) -> Json:
    return {
        "tags": ["Inference"],
        "operationId": name,
        "summary": summary,
        "security": [{"api_key": []}],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {
                "description": "The pictures, inline or as URLs; with `stream: true` their progress and they themselves "
                "as server-sent events.",
                "content": {**_json("ImagesReply"), "text/event-stream": {"schema": {"type": "string"}}},
            },
            **_failing(400, 401, 402, 403, 404, 413, 429, 502, 503, 504),
        },
    }


def _edit_form() -> Json:
    """The fields of an edit with its files, which msgspec knows nothing of."""
    file = {"type": "string", "contentMediaType": "image/png"}
    files = {"type": "object", "properties": {"image": file, "mask": file}, "required": ["image"]}
    return {
        "multipart/form-data": {"schema": {"allOf": [{"$ref": "#/components/schemas/EditFields"}, files]}}
    }


def _documents() -> Json:
    paths: Json = {}
    invoice, note = "Its id, `inv_...` or `crn_...`.", "Its number, such as `RMS-2026-000001`."
    for path, name, media_type, meaning in (
        ("/billing/invoices/{document}.pdf", "getInvoicePdf", "application/pdf", invoice),
        ("/billing/invoices/{document}.csv", "getInvoiceCsv", "text/csv", invoice),
        ("/billing/credit-notes/{document}.pdf", "getCreditNotePdf", "application/pdf", invoice),
        ("/billing/self-billing/{document}.pdf", "getSelfBillingInvoicePdf", "application/pdf", note),
        ("/billing/self-billing/{document}.csv", "getSelfBillingInvoiceCsv", "text/csv", note),
    ):
        paths[path] = {
            "get": _file(
                name, "Download a document of one's organization", media_type, _in_path("document", meaning)
            )
        }
    paths["/billing/usdc-top-ups/{reference}.svg"] = {
        "get": _file(
            "getUsdcTopUpCode",
            "Show the QR code of a top-up in USDC",
            "image/svg+xml",
            _in_path("reference", "Its reference, an address in base58."),
        )
    }
    for format_, media_type in (("csv", "text/csv"), ("jsonl", "application/x-ndjson")):
        paths[f"/audit/{{organization}}.{format_}"] = {"get": _audit_file(format_, media_type)}
    paths["/privacy/exports/{export}.zip"] = {"get": _export_file()}
    return paths


def _file(name: str, summary: str, media_type: str, parameter: Json) -> Json:
    return {
        "tags": ["Billing"],
        "operationId": name,
        "summary": summary,
        "security": [{"person": []}],
        "parameters": [parameter],
        "responses": {
            "200": {"description": "The file.", "content": {media_type: {"schema": {"type": "string"}}}},
            **_failing(401, 403, 404, 429),
        },
    }


def _export_file() -> Json:
    return {
        "tags": ["Privacy"],
        "operationId": "getExport",
        "summary": "Download a copy of all that is one's organization's own",
        "security": [{"person": []}],
        "parameters": [_in_path("export", "32 hex digits, as in `path` of `organization.exports`.")],
        "responses": {
            "200": {
                "description": "A zip of JSON Lines, streamed.",
                "content": {"application/zip": {"schema": {"type": "string"}}},
            },
            **_failing(401, 403, 404, 503),
        },
    }


def _audit_file(format_: str, media_type: str) -> Json:
    moments = [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": f"{meaning}, ISO 8601 with its zone.",
            "schema": {"type": "string", "format": "date-time"},
        }
        for name, meaning in (("from", "At this moment or later"), ("to", "Before this moment"))
    ]
    return {
        "tags": ["Audit"],
        "operationId": f"getAuditLog{format_.capitalize()}",
        "summary": "Download who changed what in one's organization, oldest first",
        "security": [{"person": []}],
        "parameters": [_in_path("organization", "Its id, `org_...`."), *moments],
        "responses": {
            "200": {
                "description": "The file, streamed.",
                "content": {media_type: {"schema": {"type": "string"}}},
            },
            **_failing(400, 401, 403, 404),
        },
    }


def _probes() -> Json:
    ready = {
        "type": "object",
        "required": ["ready", "missing"],
        "properties": {
            "ready": {"type": "boolean"},
            "missing": {"type": "array", "items": {"type": "string"}},
            "warnings": {"type": "array", "items": {"type": "string"}},
        },
    }
    alive = {"type": "object", "required": ["status"], "properties": {"status": {"const": "ok"}}}
    said = {"application/json": {"schema": ready}}
    return {
        "/health": {"get": _probe("getHealth", "Whether the process lives", {"200": alive})},
        "/ready": {
            "get": _probe("getReadiness", "Whether the process can serve", {"200": ready})
            | {
                "responses": {
                    "200": {"description": "It can.", "content": said},
                    "503": {"description": "It cannot; `missing` says why.", "content": said},
                }
            }
        },
        "/metrics": {
            "get": {
                "tags": ["Probes"],
                "operationId": "getMetrics",
                "summary": "Metrics for Prometheus",
                "security": [],
                "responses": {
                    "200": {
                        "description": "Its text format.",
                        "content": {"text/plain": {"schema": {"type": "string"}}},
                    }
                },
            }
        },
    }


def _probe(name: str, summary: str, replies: Mapping[str, Json]) -> Json:
    return {
        "tags": ["Probes"],
        "operationId": name,
        "summary": summary,
        "security": [],
        "responses": {
            status: {"description": summary, "content": {"application/json": {"schema": schema}}}
            for status, schema in replies.items()
        },
    }


def _read(name: str, summary: str, schema: str, failing: Sequence[int]) -> Json:
    return {
        "tags": ["Inference"],
        "operationId": name,
        "summary": summary,
        "security": [{"api_key": []}],
        "responses": {"200": {"description": summary, "content": _json(schema)}, **_failing(*failing)},
    }


def _json(schema: str) -> Json:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _failing(*statuses: int) -> Json:
    return {
        str(status): {"description": _FAILURES[status], "content": _json("ErrorReply")} for status in statuses
    }


def _in_query(name: str, about: str) -> Json:
    return {"name": name, "in": "query", "required": True, "description": about, "schema": {"type": "string"}}


def _in_path(name: str, about: str) -> Json:
    return {"name": name, "in": "path", "required": True, "description": about, "schema": {"type": "string"}}
