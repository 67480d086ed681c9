"""Saved artifacts: one folder per fitted object, with `manifest.json` and `arrays.npz`.

The manifest contains the schema version, the class, its settings, and the SHA-256 of every file,
so loading refuses an artifact that was truncated, edited, or written with another schema. An
object with parts (an ensemble, a router) has a sub-folder of the same form for each part. Further
files are weights as safetensors or a tokenizer as JSON. Pickle is not used.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zipfile import ZipFile

from langchain_llm_router.types.errors import ArtifactError
from langchain_llm_router.types.files import read_limited

if TYPE_CHECKING:
    from langchain_llm_router.types.arrays import Arrays

__all__ = [
    "SCHEMA_VERSION",
    "Artifact",
    "as_json",
    "data_hash",
    "from_json",
    "incomplete_error",
    "kind_of",
    "known_class",
    "read_artifact",
    "write_artifact",
]

SCHEMA_VERSION = 1

_T = TypeVar("_T")

_MANIFEST, _ARRAYS = "manifest.json", "arrays.npz"
_TUPLE = "__tuple__"

_MOST_MANIFEST_BYTES = 256 << 20
# Sparse rows of hashed words are packed to about a hundredth.
_LEAST_UNPACKED_BYTES, _MOST_UNPACKED = 64 << 20, 400
_MOST_MEMBERS = 10_000


@dataclass(frozen=True)
class Artifact:
    """The contents of a fitted object.

    Args:
        kind: Class name, checked on loading.
        settings: JSON-ready hyper-parameters and fitted scalars.
        arrays: Fitted arrays by name; object arrays are refused.
        files: Paths of further files in the folder, relative to it; they must exist already.
    """

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    arrays: Arrays = field(default_factory=dict)
    files: Sequence[str] = ()


def data_hash(*parts: object) -> str:
    """Compute a short fingerprint of training data."""
    import numpy as np  # noqa: PLC0415 - slow to load, and `decide` does not need it

    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(repr(part).encode())
    return digest.hexdigest()[:16]


def write_artifact(folder: str | Path, artifact: Artifact) -> Path:
    """Write an artifact into a folder, which is created if necessary.

    Raises:
        ArtifactError: If an array would need pickling.
    """
    import numpy as np  # noqa: PLC0415 - slow to load, and `decide` does not need it

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in artifact.arrays.items():
        if array.dtype.hasobject:
            msg = f"Array {name!r} of {artifact.kind} must not contain Python objects to be saved."
            raise ArtifactError(msg)
    arrays_path = folder / _ARRAYS
    with arrays_path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **dict(artifact.arrays))
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "kind": artifact.kind,
        "settings": dict(artifact.settings),
        "arrays_sha256": _sha256(arrays_path),
        "files_sha256": {name: _sha256(folder / name) for name in artifact.files},
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / _MANIFEST).write_text(text + "\n", encoding="utf-8")
    return folder


def read_artifact(folder: str | Path, kind: str | None = None) -> Artifact:
    """Read an artifact, and check its schema, its kind and the hashes of its files.

    Args:
        folder: A folder that `write_artifact` wrote.
        kind: Class name that the manifest must have. If None, any is accepted.

    Raises:
        ArtifactError: If the folder is not an artifact, is corrupted, or has another schema or
            kind.
    """
    folder = Path(folder)
    try:
        text = read_limited(folder / _MANIFEST, _MOST_MANIFEST_BYTES).decode("utf-8")
        manifest = json.loads(text, parse_constant=_refuse_constant)
        version, found = manifest["schema_version"], manifest["kind"]
        settings, hashes = manifest["settings"], {_ARRAYS: manifest["arrays_sha256"]}
        files = dict(manifest.get("files_sha256", {}))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        msg = (
            f"{str(folder)!r} is not a saved artifact: {_MANIFEST} is missing or broken ({error})."
        )
        raise ArtifactError(msg) from error
    if version != SCHEMA_VERSION:
        msg = (
            f"{str(folder)!r} has schema version {version!r}, but this package reads only "
            f"version {SCHEMA_VERSION}: fit and save it again."
        )
        raise ArtifactError(msg)
    if kind is not None and found != kind:
        msg = f"{str(folder)!r} contains a {found!r}, not a {kind!r}: load it with {found!r}."
        raise ArtifactError(msg)
    for name, expected in (hashes | files).items():
        inside = isinstance(name, str) and (folder / name).resolve().is_relative_to(
            folder.resolve()
        )
        if not inside:
            msg = f"{str(folder)!r} names a file outside its folder: {name!r}."
            raise ArtifactError(msg)
        if not (folder / name).is_file() or _sha256(folder / name) != expected:
            msg = f"{str(folder)!r} is corrupted: {name} does not match its recorded hash."
            raise ArtifactError(msg)
    arrays = _read_arrays(folder)
    return Artifact(kind=found, settings=settings, arrays=arrays, files=tuple(files))


def _read_arrays(folder: Path) -> Arrays:
    import numpy as np  # noqa: PLC0415 - slow to load, and `decide` does not need it

    path = folder / _ARRAYS
    try:
        _check_archive(path)
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        msg = f"{str(folder)!r} is corrupted: {_ARRAYS} cannot be read ({error})."
        raise ArtifactError(msg) from error


def _check_archive(path: Path) -> None:
    """Refuse an archive that unpacks to far more than it holds, or whose arrays claim to be."""
    from numpy.lib import format as npy  # noqa: PLC0415 - as above

    limit = max(_LEAST_UNPACKED_BYTES, _MOST_UNPACKED * path.stat().st_size)
    with ZipFile(path) as archive:
        members = archive.infolist()
        n_bytes = sum(member.file_size for member in members)
        if n_bytes > limit or len(members) > _MOST_MEMBERS:
            msg = f"{len(members):,} arrays of {n_bytes:,} bytes are more than it can hold"
            raise ValueError(msg)
        for member in members:
            with archive.open(member) as file:
                version = npy.read_magic(file)
                read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                shape, _, dtype = read(file)
            if math.prod(shape) * dtype.itemsize > member.file_size:
                msg = f"{member.filename} claims the shape {shape}, which it does not hold"
                raise ValueError(msg)


def _refuse_constant(name: str) -> Any:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def incomplete_error(folder: str | Path, kind: str, error: Exception) -> ArtifactError:
    """Return the error for an artifact with other contents than this version reads.

    Args:
        folder: The artifact's folder.
        kind: What it should be.
        error: What went wrong; the message of a `KeyError` is only the key.
    """
    reason = f"it has no {error}" if isinstance(error, KeyError) else str(error).rstrip(".")
    return ArtifactError(
        f"{str(folder)!r} is not a {kind} as this version saves it: {reason}. "
        "Fit and save it again."
    )


def kind_of(cls: type) -> str:
    """Return a class's name in a manifest: its name in this package, `module:name` elsewhere."""
    in_package = cls.__module__.partition(".")[0] == __name__.partition(".")[0]
    return cls.__name__ if in_package else f"{cls.__module__}:{cls.__qualname__}"


def known_class(base: type[_T], kind: str, folder: str | Path) -> type[_T]:
    """Find the class that a manifest names, among `base` and its imported subclasses.

    An artifact can cause the import of public names of `base`'s package only.

    Args:
        base: The class, or the base class of it.
        kind: Name of the class, as `kind_of` returns it.
        folder: The artifact's folder, for the error.

    Raises:
        ArtifactError: If there is no such class.
    """
    room = import_module(base.__module__.rpartition(".")[0] or base.__module__)
    if kind_of(base) == base.__name__ and kind in getattr(room, "__all__", ()):
        # Packages import their classes on first use.
        getattr(room, kind)
    found = [cls for cls in (base, *_subclasses(base)) if kind_of(cls) == kind]
    if len(found) == 0:
        module, colon, _ = str(kind).partition(":")
        cure = f"import {module!r} first" if colon else "load it with the class that saved it"
        msg = f"{str(folder)!r} contains a {kind!r}, not a known {base.__name__!r}: {cure}."
        raise ArtifactError(msg)
    # If a class was defined twice, as in a notebook, the later definition is used.
    return found[-1]


def _subclasses(cls: type[_T]) -> Iterator[type[_T]]:
    for below in cls.__subclasses__():
        yield below
        yield from _subclasses(below)


def as_json(value: object) -> Any:
    """Convert a number, text, list, tuple or mapping to JSON data, for `from_json`.

    Raises:
        TypeError: If the value contains anything else, which the message shows.
    """
    if hasattr(value, "dtype") and hasattr(value, "item"):
        # A NumPy scalar.
        value = value.item()
    if isinstance(value, tuple):
        return {_TUPLE: [as_json(item) for item in value]}
    if isinstance(value, list):
        return [as_json(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: as_json(item) for key, item in value.items()}
    finite = not isinstance(value, float) or math.isfinite(value)
    if finite and (value is None or isinstance(value, str | int | float)):
        return value
    raise TypeError(repr(value)[:80])


def from_json(value: Any) -> Any:
    """Convert the output of `as_json` back to the value."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if isinstance(value, dict):
        if list(value) == [_TUPLE]:
            return tuple(from_json(item) for item in value[_TUPLE])
        return {key: from_json(item) for key, item in value.items()}
    return value


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
