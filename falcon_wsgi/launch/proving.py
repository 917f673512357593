"""Examines a model's files in a process of its own, with a limit on its memory and its time.

A file that ends the interpreter, fills the memory or never comes to an end while it is loaded does that to this
process alone. It is prepared as Gunicorn's master is, so what holds there holds here.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from falcon_wsgi.errors import ModelError
from falcon_wsgi.launch import apart
from falcon_wsgi.models.examination import Offer, examine
from falcon_wsgi.models.manifest import Manifest
from falcon_wsgi.models.offer import Expectation, parsed

TIMEOUT_S = 300.0
_LEAST_MEMORY = 8 << 30
_MEMORY_FOR_A_BYTE = 40  # compressed trees, unpacked and copied
_OFFER, _MANIFEST = "offer.json", "proved.json"
CHILD = apart.program("from falcon_wsgi.launch import proving; proving.child()")


def prove(
    folder: Path,
    offer: Offer,
    *,
    timeout_s: float = TIMEOUT_S,
    memory: int | None = None,
    command: Sequence[str] = CHILD,
) -> tuple[Manifest, list[str]]:
    """See `models.examination.examine`. `folder` holds the files, and is written to.

    Args:
        memory: most bytes of address space; by default 8 GiB, or 40 times the files' size if that is more.

    Raises:
        ModelCrashed: the process died, did not end in time, or needed more memory.
        ModelError: the files are refused; the message is that of the refusal.
    """
    size = sum((folder / name).stat().st_size for name in offer.files)
    limit = memory or max(_LEAST_MEMORY, _MEMORY_FOR_A_BYTE * size)
    (folder / _OFFER).write_text(json.dumps(_dumped(offer)))
    what = " and ".join(offer.called.values())
    apart.run([*command, str(folder.absolute()), str(limit)], what, timeout_s)
    proved = json.loads((folder / _MANIFEST).read_text())
    return Manifest.model_validate(proved["manifest"]), [str(note) for note in proved["notes"]]


def _dumped(offer: Offer) -> dict[str, Any]:
    return {**dataclasses.asdict(offer), "signature": offer.signature.model_dump(mode="json")}


def _read(folder: Path) -> Offer:
    raw = json.loads((folder / _OFFER).read_text())
    labels = raw["labels"]
    return Offer(
        name=raw["name"],
        version=raw["version"],
        files=tuple(raw["files"]),
        called=raw["called"],
        signature=parsed(raw["signature"], "signature"),
        labels=None if labels is None else tuple(labels),
        examples=[Expectation(**each) for each in raw["examples"]],
    )


def child() -> None:
    """The process: writes the outcome; or prints the reason of a refusal and ends with `apart.REFUSED`."""
    folder, limit = Path(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        manifest, notes = examine(folder, _read(folder))
        outcome = {"manifest": manifest.model_dump(mode="json"), "notes": notes}
        (folder / _MANIFEST).write_text(json.dumps(outcome))
    except MemoryError:
        print(f"the model needs more than {limit >> 20} MiB of memory to load", flush=True)
        os._exit(apart.REFUSED)
    except ModelError as error:
        print(str(error).replace("\n", " "), flush=True)
        os._exit(apart.REFUSED)
    os._exit(0)
