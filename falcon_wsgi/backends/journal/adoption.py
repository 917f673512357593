"""Finding the folders of dead workers."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from falcon_wsgi.backends.journal.folder import Folder
from falcon_wsgi.backends.journal.observer import JournalObserver
from falcon_wsgi.backends.journal.ownership import UNNAMED_PREFIX, is_folder_name

_LOG = logging.getLogger(__name__)

# A folder gets its name within microseconds of its creation. One without a name after this long was
# abandoned.
_UNNAMED_AGE_S = 60.0


def folders(root: Path) -> Iterator[str]:
    """Names of the workers' folders in the journal's root, those without a name yet excepted."""
    with os.scandir(root) as entries:
        for entry in entries:
            name = entry.name
            if not is_folder_name(name) or not entry.is_dir(follow_symlinks=False):
                continue
            if name.startswith(UNNAMED_PREFIX) and time.time() - entry.stat().st_mtime < _UNNAMED_AGE_S:
                continue
            yield name


def adopt(root: Path, held: Collection[str], limit: int, observer: JournalObserver) -> list[Folder]:
    """Take over up to `limit` folders whose owners are dead; empty ones are removed on the way."""
    adopted: list[Folder] = []
    for name in sorted(set(folders(root)) - set(held)):
        if len(adopted) >= limit:
            break
        try:
            folder = Folder.adopt(root / name, observer)
        except OSError as error:
            # Another process removed it meanwhile, or it belongs to another user.
            _LOG.debug("journal_folder_not_adopted", extra={"folder": name, "reason": error.strerror})
            continue
        if folder is None:
            continue
        if folder.unshipped:
            adopted.append(folder)
            _LOG.warning("journal_adopted", extra={"folder": name, "rows": folder.unshipped})
            observer.event("adopted", folder.unshipped)
        else:
            folder.release()
    return adopted
