"""What a skops archive holds, looked at before anything of it is built.

skops audits the types that a file declares. This goes before it and is narrower: sizes are bounded (a small zip
may unpack to any size), each type stands in its own role only (`trusted_types`), each array is exactly as long as
its header says and has only values that numpy itself could have written, and what only training needs is left out.
"""

from __future__ import annotations

import io
import json
import tokenize
import zipfile
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from falcon_wsgi.models.refusal import Refused, need, untrusted_types
from falcon_wsgi.models.trusted_types import BY_LOADER, LEFT_OUT

MAX_UNPACKED_BYTES = 2 << 30
MAX_SCHEMA_BYTES = 256 << 20

_SCHEMA = "schema.json"
_NOTHING = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": "null"}
_PROTOCOLS = (1, 2)  # 0 stored functions in a way that says less of what they are
_MATRIX_PARTS = {"indices.npy", "indptr.npy", "data.npy", "shape.npy", "format.npy", "_is_array.npy"}
_LAST_CODE_POINT = 0x10FFFF

Node = dict[str, Any]


def audit(contents: bytes) -> bytes:
    """The archive as skops may load it: `contents`, or a copy without the parts that are left out.

    Raises:
        Refused: it may not be loaded; the reason.
        zipfile.BadZipFile, ValueError, LookupError, ...: it is damaged.
    """
    with zipfile.ZipFile(io.BytesIO(contents)) as archive:
        _check_members(archive)
        need(archive.getinfo(_SCHEMA).file_size <= MAX_SCHEMA_BYTES, f"{_SCHEMA} is too large")
        schema = json.loads(archive.read(_SCHEMA))
        need(isinstance(schema, dict), f"{_SCHEMA} is not an object")
        protocol = schema.get("protocol")
        need(
            type(protocol) is int and protocol in _PROTOCOLS, f"skops protocol {protocol!r} is not supported"
        )
        left_out = _leave_out(schema)
        nodes = list(_nodes(schema))
        _check_roles(nodes)
        files = _check_files(archive, nodes)
        return _rewritten(archive, schema, files) if left_out else contents


def _check_members(archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    size = sum(member.file_size for member in members)
    need(size <= MAX_UNPACKED_BYTES, f"it unpacks to {size} bytes, the limit is {MAX_UNPACKED_BYTES}")
    names = {member.filename for member in members}
    need(len(names) == len(members), "it has two members of the same name")
    need(_SCHEMA in names, f"it has no {_SCHEMA}")


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _nodes(schema: Node) -> Iterator[Node]:
    """Every object that skops can take for a node: it reads none without a `__loader__`, and none twice."""
    waiting: list[Any] = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict) and "__loader__" in value:
            yield value
        waiting.extend(_children(value))


def _type_of(node: Node) -> str:
    return f"{node.get('__module__')}.{node.get('__class__')}"


def _leave_out(schema: Node) -> bool:
    """Put null in the place of each node that only training needs. Whether there was any."""
    found = False
    waiting: list[Any] = [schema]
    while waiting:
        value = waiting.pop()
        if not isinstance(value, dict | list):
            continue
        places = value.items() if isinstance(value, dict) else enumerate(value)
        for place, child in list(places):
            if isinstance(child, dict) and "__loader__" in child and _type_of(child) in LEFT_OUT:
                value[place] = dict(_NOTHING)
                found = True
            else:
                waiting.append(child)
    return found


def _check_roles(nodes: list[Node]) -> None:
    refused = set()
    for node in nodes:
        loader, name = node["__loader__"], _type_of(node)
        need(isinstance(loader, str), f"{_SCHEMA} is not of skops")
        if loader != "JsonNode" and name not in BY_LOADER.get(loader, ()):
            refused.add(name)
        elif loader == "JsonNode":
            need(isinstance(node.get("content"), str), f"{_SCHEMA} is not of skops")
    if refused:
        raise Refused(untrusted_types(sorted(refused)))


def _check_files(archive: zipfile.ZipFile, nodes: list[Node]) -> set[str]:
    """Check each array that a node names. skops reads a file once for each node, so the sizes add up by node."""
    size, checked, seen = 0, set(), set()
    for node in nodes:
        if node["__loader__"] not in ("NdArrayNode", "SparseMatrixNode") or "file" not in node:
            continue
        name, mark = node["file"], node.get("__id__")
        if not mark or (mark, name) not in seen:  # skops keeps a node by its mark, if it has a true one
            size += archive.getinfo(name).file_size
            need(size <= MAX_UNPACKED_BYTES, f"its arrays take more than {MAX_UNPACKED_BYTES} bytes")
        seen.add((mark, name))
        sparse = node["__loader__"] == "SparseMatrixNode"
        if (name, sparse) not in checked:
            checked.add((name, sparse))
            (_check_matrix if sparse else _check_array)(archive, name)
    return {name for name, _ in checked}


def _check_matrix(archive: zipfile.ZipFile, name: str) -> None:
    with zipfile.ZipFile(io.BytesIO(archive.read(name))) as parts:
        names = [member.filename for member in parts.infolist()]
        need(set(names) <= _MATRIX_PARTS and len(set(names)) == len(names), f"{name} is no CSR or CSC matrix")
        unpacked = sum(member.file_size for member in parts.infolist())
        need(unpacked <= MAX_UNPACKED_BYTES, f"{name} unpacks to {unpacked} bytes")
        for part in names:
            _check_array(parts, part)
        form = np.lib.format.read_array(io.BytesIO(parts.read("format.npy")), allow_pickle=False)
        need(
            form.shape == () and form.item() in (b"csr", b"csc", "csr", "csc"),
            f"{name} is no CSR or CSC matrix",
        )


def _check_array(archive: zipfile.ZipFile, name: str) -> None:
    with archive.open(name) as stream:
        dtype, shape = _header(stream)
        held = archive.getinfo(name).file_size - stream.tell()
        need(all(type(n) is int and n >= 0 for n in shape), f"{name} has the shape {shape}")
        items = 1
        for length in shape:
            items *= length
        need(_is_plain(dtype), f"{name} has the type {dtype}")
        need(items * dtype.itemsize == held and dtype.itemsize, f"{name} is not as long as its header says")
        if dtype.kind in "bU":
            _check_values(np.frombuffer(stream.read(), np.uint8 if dtype.kind == "b" else dtype), dtype, name)


def _header(stream: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    try:
        shape, _, dtype = read(stream)
    except (SyntaxError, tokenize.TokenError) as error:  # numpy reads the header as Python
        raise Refused("the header of an array is not readable") from error
    return dtype, shape


def _is_plain(dtype: np.dtype[Any]) -> bool:
    if dtype.hasobject or dtype.subdtype is not None:
        return False
    if dtype.fields is not None:  # the nodes of trees
        return all(field[0].kind in "iuf" for field in dtype.fields.values())
    return dtype.kind in "biufUSMm"


def _check_values(raw: np.ndarray[Any, Any], dtype: np.dtype[Any], name: str) -> None:
    """numpy trusts that a truth value is 0 or 1 (it counts by adding) and that text is Unicode."""
    if dtype.kind == "b":
        need(not raw.size or raw.max() <= 1, f"{name} holds truth values other than 0 and 1")
    elif raw.size:
        points = raw.view(np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        need(points.max() <= _LAST_CODE_POINT, f"{name} holds text that is not Unicode")


def _rewritten(archive: zipfile.ZipFile, schema: Node, files: set[str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as copy:
        copy.writestr(_SCHEMA, json.dumps(schema))
        for name in files:
            copy.writestr(name, archive.read(name))
    return buffer.getvalue()
