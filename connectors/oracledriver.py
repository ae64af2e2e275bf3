"""python-oracledb: how a connection is made from a URL, and what its errors mean to people."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import oracledb

from connectors.dburl import DatabaseUrl
from migrate.errors import RetryableError, SourceError, UsageError

URL_OPTIONS = ("schema", "sid", "mode", "protocol", "wallet", "wallet_password", "connect_timeout", "scn")
_MODES = {
    "sysdba": oracledb.AUTH_MODE_SYSDBA,
    "sysoper": oracledb.AUTH_MODE_SYSOPER,
    "sysbackup": oracledb.AUTH_MODE_SYSBKP,
}


def check(url: DatabaseUrl) -> None:
    """Raises UsageError for what is no place of an Oracle database."""
    options = url.options
    if not url.database and not options.get("sid"):
        raise UsageError(
            "the source's URL names no service",
            hint="Write oracle://user:password@host:1521/service, or ?sid=… for a SID.",
        )
    if options.get("mode", "sysdba").lower() not in _MODES:
        raise UsageError(f"no mode {options['mode']!r} in the source's URL", hint=f"There are: {', '.join(_MODES)}.")
    if options.get("protocol", "tcp") not in ("tcp", "tcps"):
        raise UsageError(f"no protocol {options['protocol']!r} in the source's URL", hint="There are: tcp, tcps.")
    for name in ("scn", "connect_timeout"):
        if not re.fullmatch("[0-9]+", options.get(name, "0")):
            raise UsageError(f"{name} in the source's URL is no whole number", hint=f"Write ?{name}=123.")


def connect(url: DatabaseUrl) -> Any:
    """A connection in thin mode. Raises what the driver does: see `explained`."""
    options = url.options
    arguments: dict[str, Any] = {}
    if "mode" in options:
        arguments["mode"] = _MODES[options["mode"].lower()]
    if "wallet" in options:
        arguments |= {"config_dir": options["wallet"], "wallet_location": options["wallet"]}
    if "wallet_password" in options:
        arguments["wallet_password"] = options["wallet_password"]
    if url.host:
        place = {"sid": options["sid"]} if options.get("sid") else {"service_name": url.database}
        arguments |= {"host": url.host, "port": url.port or 1521, "protocol": options.get("protocol", "tcp"), **place}
    else:  # a name of tnsnames.ora, in the wallet's folder or where TNS_ADMIN says
        arguments["dsn"] = url.database
    # No statement cache: in it, a statement that was closed early stays open at the server.
    return oracledb.connect(
        user=url.user,
        password=url.password,
        tcp_connect_timeout=float(options.get("connect_timeout", "10")),
        stmtcachesize=0,
        **arguments,
    )


@contextmanager
def explained(url: DatabaseUrl) -> Iterator[None]:
    """Turn the driver's errors into ours."""
    try:
        yield
    except (oracledb.Error, OSError, ValueError) as error:
        codes = _CODE.findall(str(error))
        final = [code for code in codes if code in _HINTS]
        lost = isinstance(error, OSError) or any(code in _LOST for code in codes) or _recoverable(error)
        message = f"{_place(url)}: {_said(error, url)}"
        if lost and not final:
            hint = next((_LOST[code] for code in codes if _LOST.get(code)), _AGAIN)
            raise RetryableError(message, hint=hint) from error
        raise SourceError(message, hint=_HINTS[final[0]] if final else "") from error


def _place(url: DatabaseUrl) -> str:
    return f"{url.host}:{url.port or 1521}" if url.host else url.database


def _said(error: BaseException, url: DatabaseUrl) -> str:
    """What the driver says, without links to manuals and whatever is secret."""
    lines = [line.strip() for line in str(error).splitlines() if line and not line.startswith("Help:")]
    said = " ".join(lines)[:500]
    for secret in (url.password, url.options.get("wallet_password", "")):
        said = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "…", said) if secret else said
    return said


def _recoverable(error: BaseException) -> bool:
    return bool(error.args) and getattr(error.args[0], "isrecoverable", False) is True


_CODE = re.compile(r"\b(?:ORA|DPY)-\d{4,5}\b")
_AGAIN = "Run the same command again: it goes on from there."
_PLACE = "Check host and port in the source's URL, and whether the server may be reached from here."
_FULL = "The server has no connection left: lower `connections`, or wait."


def _each(codes: str, hint: str = "") -> dict[str, str]:
    return dict.fromkeys((f"ORA-{code}" if code.isdigit() else code for code in codes.split()), hint)


_LOST = {
    **_each(
        "00028 00031 00060 01012 01033 01034 01089 01090 01092 01109 02396 02399 03113 03114 03135 03136 12153 12526"
    ),
    **_each("12527 12528 12537 12547 12560 12571 16456 25401 25402 25408 27101 DPY-1001 DPY-4011 DPY-4024 DPY-6000"),
    **_each("12170 12203 12541 12543 12545 DPY-6005", _PLACE),
    **_each("00018 00020 12516 12518 12519 12520 12521", _FULL),
    "ORA-02391": "The user may have no more sessions (SESSIONS_PER_USER): lower `connections`.",
}
"""What may be otherwise the next time, and what to do if it is not."""

_SERVICE = (
    "Check the service's name in the source's URL; for a SID write ?sid=…. At the server, `lsnrctl status` lists them."
)
_GRANT = "GRANT SELECT, FLASHBACK ON the table TO the source's user."
_GONE = (
    "The server no longer knows what stood there at the SCN of this run. Raise undo_retention (and the undo tablespace), "
    "or load while less is written; then start over: migrate run --restart."
)
_CHANGED = "The table was altered, truncated or made after the SCN of this run. Start over: migrate run --restart."
_THIN = "This program speaks to the server without Oracle's client, in the driver's thin mode."
_HINTS = {
    "ORA-01017": "Check user and password in the source's URL; special characters are escaped there (@ is %40).",
    **_each("01005 DPY-4001", "Give user and password in the source's URL: oracle://user:password@host:1521/service."),
    "ORA-01045": "GRANT CREATE SESSION TO the source's user.",
    "ORA-28000": "The user is locked: ALTER USER … ACCOUNT UNLOCK.",
    "ORA-28001": "The password has expired: ALTER USER … IDENTIFIED BY …, then change the source's URL.",
    **_each("01031 41900", _GRANT),
    "ORA-00942": f"The table is gone, or the user may not read it: {_GRANT}",
    **_each("12514 12505 DPY-6001 DPY-6003", _SERVICE),
    **_each(
        "DPY-4000 DPY-4026 DPY-4027",
        "Without a host, the URL needs `wallet`: the folder whose tnsnames.ora has that name.",
    ),
    "DPY-6002": "The server's certificate is another host's: check the host in the source's URL.",
    "DPY-3001": f"{_THIN} That has no native network encryption: use protocol=tcps, or have the server accept it plain.",
    "DPY-3010": "Only Oracle 12.1 and later can be read.",
    "DPY-3015": f"{_THIN} That needs a verifier of 11G or later: have the user's password set anew.",
    **_each("01555 08180 08181 22924 30052", _GONE),
    **_each("01466 08103", _CHANGED),
    **_each(
        "DPY-3038 DPY-4042", "The column was altered after this run began to read. Start over: migrate run --restart."
    ),
    "ORA-22288": "The server cannot open the file of a BFILE: leave the column out of the mapping, or mend its directory.",
    "ORA-01652": "The server's temporary tablespace is too small to sort the table: enlarge it, or give the table an index.",
    "DPY-8002": "The values of one fetch are too large for memory: leave the column out, or read parts of it through a view.",
}
"""What stays as it is until somebody mends it."""
