"""A finished request as bytes and as rows: codec, statement and COPY, and the way from one to the other."""

from raymart_billing.records.batch import BatchStatement, encode_for_batch
from raymart_billing.records.codec import UnreadableRecord, decode, encode
from raymart_billing.records.copying import copy_requests
from raymart_billing.records.models import RecordOrigin
from raymart_billing.records.restoring import Restored, restore, set_aside

__all__ = [
    "BatchStatement",
    "RecordOrigin",
    "Restored",
    "UnreadableRecord",
    "copy_requests",
    "decode",
    "encode",
    "encode_for_batch",
    "restore",
    "set_aside",
]
