"""What a signature says about a bundle: which manifest, which version, until when, and for which devices.

The statement is the payload of a DSSE envelope (https://github.com/secure-systems-lab/dsse), which may hold signatures
of several keys. What is signed is not the payload alone but, as DSSE's ``protocol.md`` has it,
``"DSSEv1" SP len(type) SP type SP len(payload) SP payload``, so that a signature over this kind of document never
passes for one over another kind.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta, timezone
from pathlib import Path

from edgedet_runtime.errors import ArgumentError, CheckFailedError
from edgedet_runtime.from_json import from_json, parse_json

__all__ = ["PAYLOAD_TYPE", "Statement", "parse_time", "signed_bytes"]

PAYLOAD_TYPE = "application/vnd.edgedet.bundle+json"
_LOG = logging.getLogger(__name__)
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_MAX_VERSION = 2**53 - 1  # what every reader of JSON holds exactly
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LEEWAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Statement:
    """What is signed.

    Attributes:
        manifest_sha256: Of ``manifest.json``, hexadecimal; the manifest has the hash of every other file.
        version: Grows with each update of a model; 0 where none was given.
        signed_at: When it was signed, UTC, such as ``2026-11-25T13:00:00Z``; empty where that is not known.
        expires: From then on it is refused, UTC; None: never.
        architectures: Machines that it is for, as ``uname -m`` says; empty: all.
        model: The model that it is an update of; devices refuse another one's. None: not said.
    """

    manifest_sha256: str
    version: int = 0
    signed_at: str = ""
    expires: str | None = None
    architectures: tuple[str, ...] = ()
    model: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ArgumentError: A field has a value that it cannot have.
        """
        if not 0 <= self.version <= _MAX_VERSION:
            raise ArgumentError("version", f"expected 0 to {_MAX_VERSION}, got {self.version}")
        for name, text in (("signed_at", self.signed_at), ("expires", self.expires)):
            if text:
                parse_time(text, argument=name)
        for name, values in (("architectures", self.architectures), ("model", (self.model,) if self.model else ())):
            odd = next((value for value in values if not _NAME.fullmatch(value)), None)
            if odd is not None:
                raise ArgumentError(
                    name, f"expected letters, digits, dot, dash and underscore, 64 at most, got {odd[:80]!r}"
                )
        if self.model == "" or self.expires == "":
            raise ArgumentError("model" if self.model == "" else "expires", "expected a value, got an empty one")

    def to_bytes(self) -> bytes:
        """Return the payload."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, payload: bytes) -> Statement:
        """Read a payload.

        A condition that is not known here is refused, since it could be one that does not hold.

        Raises:
            ValueError: It is something else.
            ArgumentError: A field has a value that it cannot have.
            RecursionError: It is nested too deeply.
        """
        data = parse_json(payload.decode())
        if not isinstance(data, dict):
            raise ValueError("expected an object")
        unknown = next((key for key in data if key not in {field.name for field in fields(cls)}), None)
        if unknown is not None:
            raise ValueError(f"{unknown[:40]!r} is not known here, a newer edgedet signed it: update edgedet")
        return from_json(cls, data, at="statement")

    def __str__(self) -> str:
        """Return it in some words."""
        words = [f"version {self.version}" if self.version else "no version"]
        words += [f"of {self.model}"] if self.model else []
        words += [f"for {', '.join(self.architectures)}"] if self.architectures else []
        return " ".join(words) + (f", until {self.expires}" if self.expires else "")

    def require_in_force(self, bundle: Path, *, new: bool) -> None:
        """Check that the bundle has not expired.

        A clock that stands a day or more before the time of signing is not set. Whether the bundle has expired is then
        not known: an old one opens, with a warning in the log, a new one does not.

        Args:
            bundle: The folder, for messages.
            new: It is about to be installed.

        Raises:
            CheckFailedError: It has expired, or is new and nobody knows.
        """
        if self.expires is None:
            return
        now = datetime.now(timezone.utc)
        if now >= parse_time(self.expires):
            raise CheckFailedError(
                f"{bundle}: expected a bundle that is in force, got one that expired at {self.expires}, and it is"
                f" {now:{_TIME}}: install a newer one"
            )
        if not self.signed_at or now >= parse_time(self.signed_at) - _LEEWAY:
            return
        unknown = f"{bundle}: whether it has expired is not known, since the clock says {now:%Y-%m-%d}, before it was"
        unknown += f" signed ({self.signed_at}); set the clock"
        if new:
            raise CheckFailedError(unknown)
        _LOG.warning("%s", unknown)


def parse_time(text: str, *, argument: str = "expires") -> datetime:
    """Return a time in UTC.

    Args:
        text: Such as ``2027-06-30T12:00:00Z``, or ``2027-06-30`` for the end of that day.
        argument: What gave it, for the message.

    Raises:
        ArgumentError: It is something else.
    """
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=timezone.utc) + timedelta(days=1)
        return datetime.strptime(text, _TIME).replace(tzinfo=timezone.utc)
    except (ValueError, OverflowError):
        raise ArgumentError(
            argument,
            f"expected a day such as 2027-06-30 or a time such as 2027-06-30T12:00:00Z (UTC), got {text[:40]!r}",
        ) from None


def signed_bytes(payload: bytes) -> bytes:
    """Return what is signed for a payload: DSSE's pre-authentication encoding."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
