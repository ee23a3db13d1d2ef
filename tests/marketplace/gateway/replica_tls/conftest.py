import asyncio

import uvloop


def pytest_asyncio_loop_factories(config, item):
    """Both speak TLS by code of their own; a gateway runs on uvloop."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}
