"""The store that the settings ask for."""

import time
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

from obstore.store import LocalStore, S3Store

from raymart_marketplace.objects.route import OBJECTS_PREFIX
from raymart_marketplace.objects.signing import UrlSigner
from raymart_marketplace.objects.store import Objects
from raymart_marketplace.settings import ControlSettings

CONNECT_S = 5.0
READ_S = 30.0
"""Longest silence of an S3 server."""
TRANSFER_S = 3_600.0
"""Longest single transfer; what is larger is read in ranges."""
RETRY_S = 20.0


def open_objects(settings: ControlSettings) -> Objects:
    """The store of `settings.objects_url`. Makes a folder where it has to, asks nothing of the network.

    Without it, and without a data folder, a store that refuses everything with Unavailable.
    """
    secrets = [
        each.get_secret_value().encode() for each in (settings.token_secret, *settings.former_token_secrets)
    ]
    signer = UrlSigner(f"{settings.public_url}{OBJECTS_PREFIX}", secrets, now=time.time)
    url = settings.objects_url
    if url is not None and url.startswith("s3://"):
        return Objects(_s3(settings, url), signer)
    if url is not None:
        return Objects(_local(Path(unquote(urlsplit(url).path))), signer)
    folder = settings.objects_dir
    return Objects(None if folder is None else _local(folder), signer)


def _local(folder: Path) -> LocalStore:
    # Customers' images: nobody else on the machine reads them.
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return LocalStore(folder, automatic_cleanup=True)


def _s3(settings: ControlSettings, url: str) -> S3Store:
    """Without keys in the settings, those of the machine or its role are used, as by any client of AWS."""
    parts = urlsplit(url)
    given = {
        "endpoint": settings.objects_endpoint,
        "access_key_id": settings.objects_access_key_id,
        "secret_access_key": settings.objects_secret_access_key
        and settings.objects_secret_access_key.get_secret_value(),
    }
    return S3Store(
        parts.netloc,
        prefix=parts.path.strip("/") or None,
        region=settings.objects_region,
        **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]  # of its TypedDict
        client_options={
            "allow_http": True,  # An endpoint on the private network; what is not meant so says https.
            "connect_timeout": timedelta(seconds=CONNECT_S),
            "read_timeout": timedelta(seconds=READ_S),
            "timeout": timedelta(seconds=TRANSFER_S),
        },
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=RETRY_S)},
    )
