"""Changes to a signature's envelope, and to the statement in it, which is signed anew so that it counts."""

from __future__ import annotations

import base64
import json
from random import Random
from typing import TYPE_CHECKING

from edgedet_runtime.bundle.statement import signed_bytes
from tests.fuzz.case import Weighted
from tests.fuzz.mutate.documents import JSON, json_tree

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["SIGNATURE", "signing_key"]


def signing_key() -> Ed25519PrivateKey:
    """Return the key that signs the fuzzer's bundles; it signs nothing else."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def statement(rng: Random, data: bytes) -> bytes:
    """Change what is signed, and sign it."""
    try:
        envelope = json.loads(data)
        payload = json_tree(rng, base64.b64decode(envelope["payload"]))
        envelope["payload"] = base64.b64encode(payload).decode()
        envelope["signatures"][0]["sig"] = base64.b64encode(signing_key().sign(signed_bytes(payload))).decode()
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return json_tree(rng, data)  # an earlier change has left no envelope
    return json.dumps(envelope).encode("utf-8", "surrogatepass")


SIGNATURE: Weighted = ((10.0, statement), *JSON)
