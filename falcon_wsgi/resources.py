"""Where the files beside the package are: in a checkout at its top, in an installed wheel inside the package."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent

IN_CHECKOUT = (_CHECKOUT / "pyproject.toml").is_file() and (_CHECKOUT / "conf" / "gunicorn.conf.py").is_file()
ROOT = _CHECKOUT if IN_CHECKOUT else _PACKAGE / "_resources"

GUNICORN_CONF = ROOT / "conf" / "gunicorn.conf.py"
MIGRATIONS = ROOT / "sql"
RECIPES = ROOT / "model_store"
NGINX = ROOT / "nginx"
MONITORING = ROOT / "monitoring"
PROCFILE = ROOT / "Procfile"


def default_data_dir() -> Path:
    """Folder for everything an instance writes: in the checkout, else the user's state folder (XDG)."""
    return ROOT / ".falcon" if IN_CHECKOUT else Path.home() / ".local" / "state" / "falcon"


def default_model_store() -> Path:
    """Folder of the served models: the checkout's own, else one that the user can write."""
    return RECIPES if IN_CHECKOUT else default_data_dir() / "model_store"


def recipes() -> list[str]:
    """Names of the models that the project can train itself."""
    return sorted(path.parent.name for path in RECIPES.glob("*/recipe.py"))
