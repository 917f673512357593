"""Static files of the pages: the package's own, and Swagger UI's from the package flask-swagger-ui."""

from __future__ import annotations

import hashlib
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

OWN_FOLDER = Path(__file__).parent / "static"
_SWAGGER_FILES = ("swagger-ui.css", "swagger-ui-bundle.js")
_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


class Assets:
    """Files by name; nothing else can be asked for. Their common digest is part of every address, so a browser may
    keep them for ever and never mixes files of two releases."""

    def __init__(self) -> None:
        self._files = {path.name: path for path in sorted(OWN_FOLDER.iterdir()) if path.suffix in _TYPES}
        self._files |= {name: _swagger_folder() / name for name in _SWAGGER_FILES}

    def find(self, name: str) -> Path | None:
        return self._files.get(name)

    @cached_property
    def digest(self) -> str:
        joined = hashlib.sha256()
        for name, path in self._files.items():
            joined.update(name.encode() + hashlib.sha256(path.read_bytes()).digest())
        return joined.hexdigest()[:16]

    @staticmethod
    def content_type(path: Path) -> str:
        return _TYPES[path.suffix]


def _swagger_folder() -> Path:
    """Found, not imported: the package's blueprint is not used."""
    found = find_spec("flask_swagger_ui")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "dist"
