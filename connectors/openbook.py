"""Opens a workbook by what is in the file, and says what it is where that is none."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

from connectors.ooxml import Xlsx
from connectors.workbook import AGAIN, File, Workbook, readable
from connectors.xlsb import Xlsb
from migrate.errors import SourceError

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")


@contextmanager
def open_workbook(file: File) -> Iterator[Workbook]:
    """The workbook in a file, by its content and not by its name. Raises SourceError for all that is none."""
    file.stream.seek(0)
    head = file.stream.read(4096)
    if head.startswith(_OLE):
        from connectors.xls import Xls  # xlrd is for those alone who have such files

        file.stream.seek(0)
        data = file.stream.read()
        if _ENCRYPTED in data:
            raise SourceError(
                f"{file.name} is protected by a password", hint="open it in Excel and save it without the password"
            )
        if len(data) % 512:  # such a file is made of sectors, and xlrd would read on without the last one
            raise SourceError(f"{file.name} is cut off: its last part is missing", hint=AGAIN)
        yield Xls(data, file.name)
        return
    if not head.startswith(b"PK"):
        raise _no_workbook(file.name, head)
    with readable(file.name):
        archive = zipfile.ZipFile(file.stream)
        parts = set(archive.namelist())
    if "xl/workbook.bin" in parts:
        yield Xlsb(archive, file.name)
    elif "[Content_Types].xml" in parts and any(part.startswith("xl/") for part in parts):
        yield Xlsx(archive, file.name, file.state)
    else:
        what = "an OpenDocument file" if "content.xml" in parts else "a zip archive, but no workbook"
        raise SourceError(f"{file.name} is {what}", hint="save it as .xlsx, in Excel or in LibreOffice")


def _no_workbook(name: str, head: bytes) -> SourceError:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:2048].lower()
    if not head:
        return SourceError(f"{name} is empty", hint="transfer the file again")
    if b"office:spreadsheet" in start:
        return SourceError(f"{name} is an XML spreadsheet of 2003", hint="open it in Excel and save it as .xlsx")
    if start.startswith((b"<!doctype html", b"<html", b"<table", b"<meta", b"<head", b"<body", b"<style", b"<div")):
        return SourceError(
            f"{name} is a web page (HTML), whatever its name says", hint="open it in Excel and save it as .xlsx"
        )
    if b"\0" not in head or head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return SourceError(
            f"{name} is text, not a workbook",
            hint="if it is delimited text, make it a source with files: instead of excel:",
        )
    return SourceError(f"{name} is not a workbook", hint="Excel files (.xlsx, .xlsm, .xlsb, .xls) are read")
