"""The three rules of the layout: who may import what."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "falcon_wsgi"

# Each layer may import those it lists, itself and `errors`. `services`, `server`, `launch` and `cli` compose.
LAYERS = {
    "errors": set(),
    "resources": set(),
    "settings": {"resources"},
    "resilience": set(),
    "observability": set(),
    "log_rows": set(),
    "backends": {"resources", "log_rows"},
    "models": {"resources"},
    "pipeline": {"models", "resilience", "observability", "log_rows"},
    "scoring": {"models", "resilience", "observability"},
    "http": {"pipeline", "models", "resilience", "observability"},
    "app": {"http", "pipeline", "models", "observability"},
}
DRIVERS = {"redis", "psycopg", "psycopg_pool", "sqlite3"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Full names of all that a module imports at run time, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(_without_type_checking(ast.parse(path.read_text()))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return found


class _DropTypeChecking(ast.NodeTransformer):
    def visit_If(self, node: ast.If) -> ast.AST | None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return None
        return self.generic_visit(node)


def _without_type_checking(tree: ast.Module) -> ast.Module:
    return _DropTypeChecking().visit(tree)


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def test_the_package_is_found() -> None:
    assert len(modules()) > 30


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    layer = layer_of(path)
    if layer not in LAYERS:
        return
    allowed = LAYERS[layer] | {layer, "errors", "__version__"}
    used = {name.split(".")[1] for name in imports(path) if name.startswith("falcon_wsgi.")}
    assert used <= allowed, f"{name_of(path)} imports {used - allowed}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_flask_is_imported_only_in_app_and_http(path: Path) -> None:
    if layer_of(path) not in ("app", "http"):
        assert not {name for name in imports(path) if name.split(".")[0] in ("flask", "werkzeug")}


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_drivers_are_imported_only_in_backends(path: Path) -> None:
    if layer_of(path) != "backends":
        assert not {name for name in imports(path) if name.split(".")[0] in DRIVERS}


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_the_environment_is_read_only_in_settings(path: Path) -> None:
    """Passing `os.environ` on to a child process whole is not reading it; looking a name up is."""
    if layer_of(path) == "settings":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr == "getenv":
            pytest.fail(f"{name_of(path)}:{node.lineno} reads the environment")
        looked_up = isinstance(node, ast.Subscript) or (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get"
        )
        if looked_up and "os.environ" in ast.unparse(node).split("(")[0].split("[")[0]:
            pytest.fail(f"{name_of(path)}:{node.lineno} reads the environment")


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_every_broad_except_logs_the_traceback(path: Path) -> None:
    """A broad handler stands only at an edge, and says what it caught with its traceback."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ExceptHandler):
            continue
        broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
        if broad:
            body = "\n".join(ast.unparse(statement) for statement in node.body)
            logs_it = ".exception(" in body or "exc_info" in body or "handle_error" in body
            reraises = any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))
            assert logs_it or reraises, f"{name_of(path)}:{node.lineno}"
