"""The manifest of a revision: what decides which tokens come out. Its digest is the revision's name everywhere."""

import hashlib
import json


def manifest_digest(*, engine: str, source: str, sha256: str, quantization: str, context_length: int) -> str:
    """The "sha256:<hex>" digest of the canonical manifest.

    Canonical: JSON with sorted names, no blanks, ASCII only, whole numbers (the subset of RFC 8785 that these fields
    need), so that a provider's machine in another language computes the same.
    """
    manifest = {
        "context_length": context_length,
        "engine": engine,
        "quantization": quantization,
        "sha256": sha256,
        "source": source,
    }
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"sha256:{hashlib.sha256(canonical.encode('ascii')).hexdigest()}"
