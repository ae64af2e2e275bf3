"""The manifest of a folder of evidence: which files are in it, their SHA-256 digests chained in order, and its signature.

    # aurora-migrate evidence, format 1
    # migration: acme
    # signed by: <SHA-256 of the public key, DER>      (where it is signed)
    <SHA-256>  report.json
    # chain: <SHA-256>
    …

Lines are as `sha256sum` writes and checks them, which passes over those with a `#`. A chain value is the SHA-256 of all
that stands above it, so that a file can neither be added, left out nor moved without all that follows being other. The
signature is Ed25519 over the whole manifest, 64 raw bytes.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from migrate.errors import UsageError

FORMAT = 1
MANIFEST, SIGNATURE = "MANIFEST", "MANIFEST.sig"
ALWAYS = ("report.json", "report.html", "plan.json", "receipts.jsonl", "findings.jsonl")
"""The files that evidence always has, in their order."""

_HEAD = f"# aurora-migrate evidence, format {FORMAT}\n"
_ENTRY = re.compile(r"([0-9a-f]{64})  ([\w][\w.-]*)")
_HINT = "Make a key with `openssl genpkey -algorithm ed25519 -out key.pem`."


def write(folder: Path, names: Sequence[str], migration: str, key: Ed25519PrivateKey | None) -> None:
    """Write the manifest of these files, and its signature where there is a key."""
    text = f"{_HEAD}# migration: {' '.join(migration.split())}\n"
    if key is not None:
        text += f"# signed by: {fingerprint(key.public_key())}\n"
    for name in names:
        text += f"{_digest(folder / name)}  {name}\n"
        text += _chain(text)
    data = text.encode()
    (folder / MANIFEST).write_bytes(data)
    if key is not None:
        (folder / SIGNATURE).write_bytes(key.sign(data))


def check(folder: Path, key: Ed25519PublicKey | None) -> list[str]:
    """What is not as it was when the manifest was written, each in a sentence that names the file; [] where all is.

    Raises UsageError for a folder that is none. Without a key it is not known who wrote the manifest.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder", hint="Name the folder that `migrate report --evidence` wrote.")
    return list(_wrong(folder, key))


def signer(folder: Path) -> str | None:
    """The fingerprint of the key that a folder's manifest says it is signed by."""
    return signed_by(_text(folder) or "")


def has_signature(folder: Path) -> bool:
    """Whether there is a signature, whatever it is of."""
    return os.path.lexists(folder / SIGNATURE)


def signed_by(text: str) -> str | None:
    """The fingerprint of the key that a manifest says it is signed by."""
    found = re.match(r"(?:[^\n]*\n){2}# signed by: ([0-9a-f]{64})\n", text)
    return found[1] if found else None


def _wrong(folder: Path, key: Ed25519PublicKey | None) -> Iterator[str]:
    for name in (MANIFEST, SIGNATURE):
        path = folder / name
        if path.is_symlink() or (os.path.lexists(path) and not path.is_file()):
            yield f"{name} is no file of its own"
    text = _text(folder)
    if text is None:
        if not os.path.lexists(folder / MANIFEST):
            yield f"{MANIFEST} is missing"
        return
    if not text.startswith(_HEAD):
        yield f"{MANIFEST} is none of this format: it begins with {text.partition(chr(10))[0][:80]!r}"
        return
    listed: dict[str, str] = {}
    yield from _unchained(text, listed)
    for name, digest in listed.items():
        path = folder / name
        if not os.path.lexists(path):
            yield f"{name} is missing"
        elif path.is_symlink() or not path.is_file():
            yield f"{name} is no file of its own"
        elif _digest(path) != digest:
            yield f"{name} was altered"
    yield from (f"{name} is missing, and not in {MANIFEST} either" for name in ALWAYS if name not in listed)
    known = {*listed, MANIFEST, SIGNATURE}
    yield from (f"{name} was added" for name in sorted(os.listdir(folder)) if name not in known)
    yield from _unsigned(folder, text, key)


def _unchained(text: str, listed: dict[str, str]) -> Iterator[str]:
    """What is wrong with the manifest itself; its entries are added to `listed`, file to digest."""
    lines = re.findall("[^\n]*\n|[^\n]+", text)
    head = 3 if signed_by(text) else 2
    above = "".join(lines[:head])
    for at in range(head, len(lines), 2):
        entry, chain = lines[at], "".join(lines[at + 1 : at + 2])
        found = _ENTRY.fullmatch(entry.removesuffix("\n"))
        if found is None or found[2] in (*listed, MANIFEST, SIGNATURE):
            yield f"{MANIFEST} was altered: {entry.strip()[:100]!r} is no entry"
            return
        listed[found[2]] = found[1]
        above += entry
        expected = _chain(above)
        above += chain
        if chain != expected:
            yield f"{MANIFEST} was altered: the chain breaks at {found[2]}"


def _unsigned(folder: Path, text: str, key: Ed25519PublicKey | None) -> Iterator[str]:
    path, by = folder / SIGNATURE, signed_by(text)
    if not path.is_file():
        if by is not None:
            yield f"{SIGNATURE} is missing: {MANIFEST} says that it is signed"
        elif key is not None:
            yield f"{SIGNATURE} is missing: the evidence was not signed"
        return
    if by is None:
        yield f"{SIGNATURE} was added: {MANIFEST} does not say that it is signed"
    if key is None:
        return
    if by != fingerprint(key):
        yield f"{MANIFEST} is signed by another key: {by}, and not {fingerprint(key)}"
        return
    try:
        key.verify(path.read_bytes(), text.encode())
    except InvalidSignature:
        yield f"{SIGNATURE} is not the signature of {MANIFEST}: one of them was altered"


def _text(folder: Path) -> str | None:
    if not (folder / MANIFEST).is_file():  # a pipe would be waited for
        return None
    try:
        # As bytes, or line ends would be translated.
        return (folder / MANIFEST).read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return None


def _chain(above: str) -> str:
    return f"# chain: {hashlib.sha256(above.encode('utf-8', 'surrogateescape')).hexdigest()}\n"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------------------------------------------------------------------------------------------------------------- keys


def private_key(file: Path) -> Ed25519PrivateKey:
    """The key of a PEM file. Raises UsageError that says what is wrong with it, and nothing of what is in it."""
    try:
        key = load_pem_private_key(_pem(file), None)
    except TypeError as error:
        raise UsageError(f"{file} is encrypted", hint="Decrypt it: openssl pkey -in FILE -out PLAIN") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{file} holds no private key in PEM form", hint=_HINT) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{file} holds a private key of another kind than Ed25519", hint=_HINT)
    return key


def public_key(file: Path) -> Ed25519PublicKey:
    """The key of a PEM file. Raises UsageError that says what is wrong with it."""
    try:
        key = load_pem_public_key(_pem(file))
    except (ValueError, UnsupportedAlgorithm) as error:
        hint = "Make it of the private key: openssl pkey -in key.pem -pubout -out public.pem"
        raise UsageError(f"{file} holds no public key in PEM form", hint=hint) from error
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{file} holds a public key of another kind than Ed25519", hint=_HINT)
    return key


def _pem(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from error


def fingerprint(key: Ed25519PublicKey) -> str:
    """The SHA-256 of a public key, as `openssl pkey -pubin -outform DER | sha256sum` has it."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
