"""Why a file is not loaded, in one line that says what to do instead."""

from __future__ import annotations

REMEDY = "load it where you trust it and save it with skops.io.dump(estimator, 'model.skops')"
XGBOOST_REMEDY = (
    "store an XGBoost model as XGBoost's own file: booster.save_model('model.ubj'), and the steps before it, if "
    "there are any, as transform.skops"
)

# First bytes of compressed files as joblib writes them; a zlib stream has no magic but these headers.
_COMPRESSIONS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"]\x00\x00": "lzma",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"x\x01": "zlib",
    b"x^": "zlib",
    b"x\x9c": "zlib",
    b"x\xda": "zlib",
}
_OTHERS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (Keras, h5py); Falcon serves scikit-learn and XGBoost models only",
    b"\x93NUMPY": "a bare numpy array, not an estimator",
    b"PK": "a damaged zip archive; copy it anew",
    b"{": "JSON; an XGBoost model of that form is to be named model.json",
    b"\x08": "an ONNX file; Falcon serves scikit-learn and XGBoost models only",
}


class Refused(Exception):
    """What is wrong with a file, without its name; `loading` adds that and raises UntrustedModel."""


def need(condition: object, reason: str) -> None:
    """Raises Refused unless `condition` holds."""
    if not condition:
        raise Refused(reason)


def explain_refusal(contents: bytes, label: str) -> str:
    """One line about bytes that are no skops archive: what they seem to be, and the way to convert them."""
    dangers = f"Pickle and joblib files can run code when loaded and are refused; {REMEDY}"
    if _is_pickle(contents):
        return f"{label} is a pickle (pickle, joblib or cloudpickle), not a skops archive. {dangers}"
    for magic, name in _COMPRESSIONS.items():
        if contents.startswith(magic):
            return f"{label} is a {name}-compressed file as joblib writes it, not a skops archive. {dangers}"
    for magic, meaning in _OTHERS.items():
        if contents.startswith(magic):
            return f"{label} is not a skops archive but {meaning}"
    return f"{label} is not a skops archive. {dangers}"


def _is_pickle(contents: bytes) -> bool:
    if contents[:1] == b"\x80" and contents[1:2] and contents[1] <= 5:
        return True
    # Protocols 0 and 1 have no header; they end with a stop, and begin with one of the opcodes that build things.
    return (
        contents.rstrip(b"\n").endswith(b".") and contents[:1] in b"(c]}lIFSVGKMJNUTXqp" and len(contents) > 1
    )


def untrusted_types(names: list[str]) -> str:
    """One line about types outside the allow-list, with the remedy for the first of them that has one."""
    found = f"Untrusted types found in the file: {sorted(names)[:8]}"
    packages = {name.partition(".")[0] for name in names}
    if "xgboost" in packages:
        return f"{found}; {XGBOOST_REMEDY}"
    if packages & {"lightgbm", "catboost"}:
        return f"{found}; of gradient boosting, scikit-learn's own and XGBoost are served"
    if packages <= {"sklearn"}:
        return f"{found}; these parts of scikit-learn are not among those that can be checked before they run"
    return (
        f"{found}; a file may not bring code of its own along: replace a function by a transformer of scikit-learn "
        "or by one of the listed numpy functions"
    )
