"""What a file is that is no checkpoint, in words for the user."""

import zipfile
from pathlib import Path

from rkkd_cli.errors import UserError

HEAD_BYTES = 1024  # enough to recognise the kind of a file
TAR_MAGIC = slice(257, 262)

EXPORT = "save the model's state_dict with PyTorch instead"
KINDS = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself; fetch it with "
    "`git lfs pull`",
    b"\x89HDF": f"an HDF5 file, as of Keras; {EXPORT}",
    b"GGUF": f"a GGUF file of quantised weights; {EXPORT}",
    b"\x1f\x8b": "a gzip archive; unpack it and name the file inside",
    b"BZh": "a bzip2 archive; unpack it and name the file inside",
    b"\xfd7zXZ": "an xz archive; unpack it and name the file inside",
    b"7z\xbc\xaf": "a 7z archive; unpack it and name the file inside",
    b"\x28\xb5\x2f\xfd": "a zstd archive; unpack it and name the file inside",
    b"\x93NUMPY": f"a single NumPy array; {EXPORT}",
}
SUFFIXES = {
    ".onnx": f"an ONNX graph; {EXPORT}",
    ".tflite": f"a TensorFlow Lite graph; {EXPORT}",
    ".msgpack": f"a msgpack file, as of Flax; {EXPORT}",
    ".mlmodel": f"a Core ML model; {EXPORT}",
}
CHECKPOINT_NAMES = ("*.index.json", "*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.npz")
NAMES_SHOWN = 4


def missing_file(path: Path) -> UserError:
    """Return the error for a path that is no regular file; of a folder it names checkpoints."""
    if not path.is_dir():
        return UserError(f"no such checkpoint file: {path}")
    inside = [file.name for pattern in CHECKPOINT_NAMES for file in sorted(path.glob(pattern))]
    hint = f"; name a file in it, such as {', '.join(inside[:NAMES_SHOWN])}" if inside else ""
    return UserError(f"no such checkpoint file: {path} is a folder{hint}")


def refuse_other_kinds(path: Path, head: bytes) -> None:
    """Raise UserError for a file that is no checkpoint, saying what it is instead."""
    kind = next((kind for magic, kind in KINDS.items() if head.startswith(magic)), None)
    kind = kind or SUFFIXES.get(path.suffix.lower())
    problem = f"is {kind}" if kind else None
    if not head:
        problem = "is empty"
    elif head.lstrip()[:5].lower() in (b"<!doc", b"<html"):
        problem = "is a web page, probably of a download that wanted a confirmation"
    elif problem is None and _is_text(head):
        problem = "is a text file, no checkpoint"
    elif head.startswith(b"PK"):
        problem = _zip_problem(path)
    elif head[TAR_MAGIC] == b"ustar":
        problem = "is a tar archive; unpack it and name the file inside"
    if problem:
        raise UserError(f"checkpoint {path} {problem}")


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        cuts_character = error.start >= HEAD_BYTES - 4 and len(head) == HEAD_BYTES
        if not cuts_character:
            return False
        text = head[: error.start].decode()
    return all(c.isprintable() or c in "\r\n\t\f" for c in text)


def _zip_problem(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return "is damaged or cut off, or no PyTorch file"
    names = [entry.filename for entry in entries]
    if any(name.endswith("/constants.pkl") for name in names):
        return "is a TorchScript archive, whose code is never run; save its state_dict alone"
    if not any(name.endswith("/data.pkl") for name in names):
        return "is a zip archive, but no checkpoint; unpack it and name the file inside"
    # PyTorch never compresses: an archive that is larger inside than outside is not its work.
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        return "is damaged or no PyTorch file"
    return None
