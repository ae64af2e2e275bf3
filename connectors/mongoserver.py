"""A MongoDB server: how it is reached, what it says of itself and of its collections, and its errors in our words."""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any

from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import MongoClient, errors
from pymongo.client_session import ClientSession
from pymongo.collection import Collection

from connectors.relational import unknown_table
from migrate.core import Notice, View, Watermark
from migrate.errors import RetryableError, SourceError, UsageError

Document = dict[str, Any]

_WAIT = 10_000  # milliseconds until a server that does not answer is given up
_OLDEST = (4, 4)  # of those whose maker's documentation was read
_FORM = "Write mongodb://user:password@host:27017/database; escape special characters of the password (@ is %40)."
_DENIED = (13, 18, 8000)  # Unauthorized, AuthenticationFailed, Atlas's own
_GONE = (43, 237, 239, 246)  # CursorNotFound, CursorKilled, SnapshotTooOld, SnapshotUnavailable
_TOO_OLD = (239, 246)
_LOGIN = re.compile(r"://[^/\s]*@")

CODEC: "CodecOptions[Document]" = CodecOptions(tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO)


@dataclass(frozen=True, slots=True)
class About:
    """A collection as the server lists it. `kind`: collection, view or timeseries; `size`: bytes of a document, on average."""

    name: str
    kind: str
    documents: int
    size: int

    @property
    def sliced(self) -> bool:
        """Whether it has the index on `_id` that slices are cut by."""
        return self.kind == "collection"


class Server:
    """One database of a server, or of a replica set. Safe to use from several threads."""

    def __init__(self, url: str, connections: int, *, quiesced: bool, snapshot: bool) -> None:
        self._url = url
        self._connections = connections
        self._quiesced = quiesced
        self._snapshot = snapshot
        self._lock = Lock()

    @cached_property
    def client(self) -> "MongoClient[Document]":
        try:
            return self._opened()
        except (UserWarning, ValueError, TypeError) as error:
            raise UsageError(f"cannot read the source's URL: {error}", hint=_FORM) from None

    def _opened(self) -> "MongoClient[Document]":
        with explained("read the source's URL"), warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # the driver only warns of options that it does not know
            return MongoClient(
                self._url,
                appname="migrate",
                document_class=dict,
                tz_aware=True,
                datetime_conversion="DATETIME_AUTO",
                maxPoolSize=self._connections + 1,
                serverSelectionTimeoutMS=_WAIT,
                connectTimeoutMS=_WAIT,
                retryReads=False,  # a chunk that was begun is read again as a whole, or not at all
            )

    @cached_property
    def database(self) -> str:
        try:
            return str(self.client.get_default_database().name)
        except errors.ConfigurationError:
            raise UsageError(
                "the source's URL names no database",
                hint="Write mongodb://user:password@host:27017/database?authSource=admin.",
            ) from None

    def collection(self, name: str) -> "Collection[Document]":
        return self.client[self.database][name]

    def close(self) -> None:
        if "client" in self.__dict__:
            self.client.close()

    # ------------------------------------------------------------------------------------------------------- catalogue

    def names(self, kinds: Sequence[str] = ("collection", "timeseries")) -> list[str]:
        """Collections, without those of the system."""
        return sorted(each for each, kind in self._listed() if kind in kinds)

    def about(self, name: str) -> About:
        """Raises SourceError where there is no such collection."""
        listed = dict(self._listed())
        if name not in listed:
            raise unknown_table(name, list(listed))
        kind, documents, size = listed[name], 0, 0
        if kind != "view":
            with explained(f"ask how large {name} is"):
                documents = int(self.collection(name).estimated_document_count())
            with suppress(errors.PyMongoError):  # not every server tells; then slices go by the number of documents
                told = self.client[self.database].command("collStats", name)
                size = int(told.get("avgObjSize") or int(told.get("size") or 0) // max(documents, 1))
        return About(name, kind, documents, size)

    def _listed(self) -> Iterator[tuple[str, str]]:
        """Names and kinds."""
        with explained("list the collections"):
            for each in self.client[self.database].list_collections():
                if not each["name"].startswith("system."):
                    series = "timeseries" in each.get("options", {})
                    yield each["name"], "timeseries" if series else each.get("type", "collection")

    # --------------------------------------------------------------------------------------------------------- reading

    @cached_property
    def hello(self) -> Mapping[str, Any]:
        with explained("reach the source"):
            return self.client.admin.command("hello")

    @cached_property
    def version(self) -> tuple[int, ...]:
        with explained("reach the source"):
            return tuple(int(part) for part in self.client.server_info().get("versionArray", (0,))[:3])

    @property
    def replicated(self) -> bool:
        """Whether there is a log of changes: in a replica set, and behind mongos."""
        return "setName" in self.hello or self.hello.get("msg") == "isdbgrid"

    @cached_property
    def watermark(self) -> Watermark | None:
        """A change stream's token from before the first read; None where the server has no such stream."""
        if not self.replicated:
            return None
        try:
            with self.client[self.database].watch(max_await_time_ms=1) as stream:
                stream.try_next()
                token = stream.resume_token
        except errors.PyMongoError:
            return None
        return None if token is None else Watermark("resume token", json_util.dumps(token))

    @cached_property
    def _moment(self) -> Any:
        """The moment that all snapshot reads are of."""
        with explained("begin a snapshot"), self.client.start_session(snapshot=True) as session:
            self.collection("migrate.nothing").find_one({}, session=session)
            return session._snapshot_time

    @property
    def snapshots(self) -> bool:
        return self._snapshot and self.replicated and self.version >= (5, 0) and not self._quiesced

    @contextmanager
    def reading(self) -> Iterator["ClientSession | None"]:
        """A session whose reads are of the one moment, where the server has snapshots."""
        if not self.snapshots:
            yield None
            return
        with self._lock:
            moment = self._moment
        with self.client.start_session(snapshot=True) as session:
            session._snapshot_time = moment  # the driver has no public way to give several sessions one moment
            yield session

    def view(self) -> tuple[View, str]:
        """Before anything is read: the watermark comes first."""
        _ = self.watermark
        if self._quiesced:
            return "pinned", "pinned: declared as quiesced"
        if self.snapshots:
            return "live", (
                "live: all connections read one moment, for as long as the server keeps it: "
                "minSnapshotHistoryWindowInSeconds, 5 minutes unless it was raised"
            )
        why = (
            "it is no replica set" if not self.replicated else "snapshot: false" if not self._snapshot else "before 5.0"
        )
        return "live", f"live: what is written meanwhile may be read or not ({why}: there are no snapshot reads)"

    def load(self) -> int | None:
        """Operations of others that run; None where the user may not see them."""
        try:
            found = self.client.admin.aggregate(
                [{"$currentOp": {"allUsers": True}}, {"$match": {"active": True, "op": {"$nin": ["none", ""]}}}]
            )
            return sum(1 for each in found if each.get("ns") and each.get("appName") != "migrate")
        except errors.PyMongoError:
            return None

    def preflight(self, expected: int) -> Iterator[Notice]:
        """What the server is, and what a load from it that takes about so many seconds has to know."""
        release = ".".join(map(str, self.version))
        if self.version < _OLDEST:
            hint = "It was not tried: rehearse with --dry-run, and verify."
            yield Notice("warning", "version", f"MongoDB {release} is older than {'.'.join(map(str, _OLDEST))}", hint)
        else:
            yield Notice("ok", "version", f"MongoDB {release}, database {self.database}")
        view, said = self.view()
        yield Notice("ok" if view == "pinned" or self.snapshots else "warning", "view", said)
        if view == "pinned":
            return
        if self.snapshots:
            yield self._history(expected)
        if self.watermark is None:
            hint = "A replica set of one is enough; else let nobody write, and say quiesced: true."
            said = "the server gives no change stream: changes after the load are not found"
            yield Notice("warning", "log", said, hint)
        else:
            yield self._log(expected)

    def _history(self, expected: int) -> Notice:
        """Whether snapshots are kept for as long as the load takes."""
        name = "minSnapshotHistoryWindowInSeconds"
        try:
            kept = self.client.admin.command({"getParameter": 1, name: 1}).get(name)
        except errors.PyMongoError:
            kept = None
        hint = f"db.adminCommand({{setParameter: 1, {name}: {max(86_400, 4 * expected)}}}), or snapshot: false."
        if kept is None:
            said = f"for how long the server keeps a snapshot may not be asked; 300 s unless {name} was raised"
            return Notice("ok" if 2 * expected < 300 else "warning", "snapshot", said, hint)
        return _kept("snapshot", "kept for", kept, expected, hint)

    def _log(self, expected: int) -> Notice:
        """Whether the log of changes reaches back far enough to go on from the watermark after the load."""
        try:
            log = self.client["local"]["oplog.rs"]
            ends = [log.find_one(sort=[("$natural", way)], projection={"ts": 1}) for way in (1, -1)]
        except errors.PyMongoError:
            ends = [None]
        times = [each["ts"].time for each in ends if each]
        if len(times) < 2:
            return Notice(
                "ok", "log", "how far back the log of changes reaches may not be asked: read on local is missing"
            )
        hint = "Raise the oplog's size, or storage.oplogMinRetentionHours, if the set is not simply young."
        return _kept("log", "the log of changes reaches back", times[1] - times[0], expected, hint)


def _kept(what: str, said: str, kept: int, expected: int, hint: str) -> Notice:
    """Whether something is kept for twice as long as the load takes, both in seconds."""
    said = f"{said} {kept:,} s; the load of these tables takes about {expected:,} s"
    return Notice("ok", what, said) if 2 * expected < kept else Notice("warning", what, said, hint)


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """The driver's errors as ours; what may hold a secret is not repeated."""
    try:
        yield
    except errors.PyMongoError as error:
        raise explain(error, doing) from None


def explain(error: errors.PyMongoError, doing: str) -> SourceError | RetryableError | UsageError:
    code = getattr(error, "code", None)
    text = _said(error)
    if isinstance(error, (errors.ConfigurationError, errors.InvalidURI, errors.InvalidName)):
        return UsageError(f"cannot {doing}: {text}", hint=_FORM)
    if code in _DENIED:
        hint = "Check user, password and authSource in the source's URL, and the user's roles: read on the database."
        return SourceError(f"cannot {doing}: {text}", hint=hint)
    if code in _TOO_OLD:
        hint = (
            "Raise it at the server: db.adminCommand({setParameter: 1, minSnapshotHistoryWindowInSeconds: 86400}), or read "
            "without one: snapshot: false; then start over: `migrate run --restart`."
        )
        return SourceError(
            f"cannot {doing}: the server does not keep the snapshot's moment any more ({text})", hint=hint
        )
    if code in _GONE or isinstance(error, (errors.AutoReconnect, errors.NetworkTimeout, errors.WaitQueueTimeoutError)):
        hint = "Is the source up and reachable? Run the same command again: it goes on where it stopped."
        return RetryableError(f"cannot {doing}: {text}", hint=hint)
    return SourceError(f"cannot {doing}: {text}")


def _said(error: errors.PyMongoError) -> str:
    """The first sentence: what follows repeats the topology, and commands with values."""
    text = " ".join(str(error).split()).partition(", full error:")[0]
    text = re.split(r"(?:, Timeout: |, Topology Description: | \(configured timeouts)", text)[0]
    return _LOGIN.sub("://***@", text)[:300]
