"""Guessing the encoding of a file from samples spread over all of it."""

import codecs

from charset_normalizer import from_bytes

from connectors.textfile import TextFile

_WHOLE = 4 << 20  # bytes: a file up to this size is looked at completely
_PIECES, _PIECE = 64, 1 << 14
_WESTERN = frozenset("äöüßÄÖÜéèêëáàâãåæíìîïóòôõøúùûçñýÉÈÊÀÁÂÃÅÆÍÓÔÕØÚÇÑœ")
_CENTRAL = frozenset("ąćęłńóśźżĄĆĘŁŃÓŚŹŻáčďéěíňřšťúůýžÁČĎÉĚÍŇŘŠŤÚŮÝŽäöüőűÖÜŐŰßâăîșțşţĺľŕôđĐ")
_ALPHABETS = {"cp1252": _WESTERN, "cp1250": _CENTRAL, "cp850": _WESTERN, "mac-roman": _WESTERN, "cp852": _CENTRAL}
_OTHER_SCRIPTS = ["cp1251", "koi8_r", "cp866", "cp1253", "cp1255", "cp1256", "iso8859_5", "iso8859_7"]


def guess_encoding(file: TextFile) -> tuple[str, str]:
    """The likely encoding of a file without a byte order mark, and a word on how sure that is."""
    pieces = _samples(file)
    wide = _utf16(pieces[0][:4096])
    if wide:
        return wide, "detected"
    faults = sequences = 0
    for piece in pieces:
        bad, good = _utf8_faults(piece)
        faults, sequences = faults + bad, sequences + good
    if not faults:
        return "utf-8", "detected"
    if sequences > 10 * faults:
        return "utf-8", f"detected, but {faults} invalid byte{'s' * (faults != 1)} in the samples"
    return _single_byte(b"\n".join(pieces)), "detected"


def _samples(file: TextFile) -> list[bytes]:
    size = file.size
    if size <= _WHOLE:
        return [file.read(0, size)]
    starts = [0, *((size - _PIECE) * i // _PIECES for i in range(1, _PIECES + 1))]
    pieces = [file.read(start, start + (_PIECE if start else 1 << 18)) for start in starts]
    return [pieces[0], *(piece[_continuation(piece) :] for piece in pieces[1:])]


def _continuation(piece: bytes) -> int:
    """How many bytes at the start of a piece may belong to a UTF-8 character that began before it."""
    return next((i for i in range(min(3, len(piece))) if piece[i] & 0xC0 != 0x80), 3)


def _utf8_faults(piece: bytes) -> tuple[int, int]:
    """Invalid bytes, and valid characters beyond ASCII; a character cut off by the piece's end is neither."""
    if piece.isascii():
        return 0, 0
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(piece)
    faults = text.count("\ufffd") - piece.count(b"\xef\xbf\xbd")
    return faults, sum(1 for character in text if character > "\x7f") - faults


def _utf16(head: bytes) -> str | None:
    """UTF-16 without a mark: in text every other byte of Latin letters, delimiters and line ends is zero."""
    if len(head) < 4:
        return None
    even, odd = head[0::2].count(0) / len(head[0::2]), head[1::2].count(0) / len(head[1::2])
    if odd > 0.4 and even < 0.05:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 and odd < 0.05 else None


def _single_byte(sample: bytes) -> str:
    """The single-byte encoding that makes the most sense, cp1252 unless something speaks against it."""
    high = [i for i, byte in enumerate(sample) if byte > 0x7F][:20_000]
    if not high:
        return "cp1252"
    beside = sum(1 for i in high if sample[i - 1 : i] > b"\x7f" or sample[i + 1 : i + 2] > b"\x7f") / len(high)
    if beside > 0.8:  # words of high bytes only: not the Latin script
        best = from_bytes(sample[:1_000_000], cp_isolation=_OTHER_SCRIPTS).best()
        return codecs.lookup(best.encoding).name if best else "cp1252"
    inside = [sample[i : i + 1] for i in high if sample[max(i - 1, 0) : i].isalpha() or sample[i + 1 : i + 2].isalpha()]
    if not inside:
        return "cp1252"
    scores = {
        name: sum(byte.decode(name, "replace") in letters for byte in inside) for name, letters in _ALPHABETS.items()
    }
    likeliest = max(scores, key=lambda name: scores[name])
    return likeliest if scores[likeliest] > 1.15 * scores["cp1252"] else "cp1252"
