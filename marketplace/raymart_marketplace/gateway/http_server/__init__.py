"""Our own HTTP/1.1 server: what uvicorn's loop gives a connection to. Give `HttpServerProtocol` to uvicorn as `http=`.

`protocol` is a connection (`connection` what it is on whatever is said), `exchange` one request and its answer as an ASGI
application sees them; `request_head`, `answer_head`, `target` and `refusal` are the bytes of each, and `websocket` gives a
connection away.
"""

from raymart_marketplace.gateway.http_server.protocol import HttpServerProtocol

__all__ = ["HttpServerProtocol"]
