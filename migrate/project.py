"""The project: finds the project file, resolves what it refers to, and opens what it names."""

import csv
import inspect
import re
import tokenize
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote, urlsplit

from connectors.secretnames import secret
from mappings.faults import Fault, faults_error, shown, suggest
from mappings.spec import FunctionSpec, LookupSpec, NotifySpec, ProjectSpec, SourceSpec, parse
from migrate.core import Source
from migrate.errors import UsageError, redact

NAMES = ("migrate.yaml", "migrate.yml")
REFERENCE = re.compile(r"\$\{env:(\w+)\}")
_DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True, slots=True)
class UserFunction:
    """A function from a user's Python file; `source_text` is the whole file, for what it calls counts too."""

    name: str
    source_text: str = field(repr=False)
    callable: Callable[..., Any] = field(repr=False)
    arguments: tuple[str, ...] = ("VARCHAR",)
    returns: str = "VARCHAR"
    style: Literal["pandas", "arrow"] = "pandas"


@dataclass(frozen=True, slots=True)
class Notify:
    """Who is told how a run ended, ready to be used; all of it may hold secrets."""

    command: tuple[str, ...] = field(repr=False)
    webhook: str | None = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    on: frozenset[str]


@dataclass(frozen=True, slots=True)
class Project:
    """A project file with everything resolved. `base` is its folder; what may hold a secret stays out of its repr."""

    spec: ProjectSpec
    target: str = field(repr=False)
    sources: Mapping[str, SourceSpec] = field(repr=False)
    lookups: Mapping[str, Mapping[str, str]] = field(repr=False)
    functions: Mapping[str, UserFunction]
    base: Path
    secrets: tuple[str, ...] = field(default=(), repr=False)
    notify: Notify | None = None


def load(path: Path | None, environ: Mapping[str, str]) -> Project:
    """Read the project file; None looks for one here and in the folders above. UsageError lists every fault."""
    return resolved(parsed(path), environ)


def parsed(path: Path | None) -> ProjectSpec:
    """The project file as it is written, found as `load` finds it."""
    file = _find() if path is None else path / _only_name(path) if path.is_dir() else path
    return parse(_text_of(file), file)


def without_target(spec: ProjectSpec) -> ProjectSpec:
    """A project of which only the sources are used: variables that its target alone needs may be missing."""
    there = set(REFERENCE.findall(spec.target))
    own = [each for each in spec.references if each[0] in there and each[1].line == spec.target_mark.line]
    references = tuple(each for each in spec.references if each not in own)
    return replace(spec, target="postgresql://", references=references)


def resolved(spec: ProjectSpec, environ: Mapping[str, str]) -> Project:
    """A project with everything that it refers to. UsageError lists every fault."""
    file = spec.path
    base = file.resolve().parent
    faults: list[Fault] = [
        Fault(mark, f"the environment variable {name} is not set", f"export {name}=… and run the command again.")
        for name, mark in spec.references
        if name not in environ
    ]
    target = _resolved_url(spec.target, environ)
    if not faults and not target.startswith(("postgresql://", "postgres://")):
        faults.append(
            Fault(spec.target_mark, "target is no URL once resolved", "Write postgresql://host:5432/database.")
        )
    elif not faults and target.partition("?")[0].count("@") > 1:
        # Where user and password end would be guessed, and a part of the password be taken for the host.
        hint = "Write an @ in user or password as %40, or take it from the environment: postgresql://user:${env:PW}@host/db."
        faults.append(Fault(spec.target_mark, "target has more than one @", hint))
    sources = {name: _resolved_source(source, environ) for name, source in spec.sources.items()}
    faults += [
        Fault(source.mark, f'the URL of the source "{name}": it cannot be told where user and password end', ESCAPES)
        for name, source in sources.items()
        if source.url and not login_ends(source.url)
    ]
    lookups = {name: _lookup(lookup, base, faults) for name, lookup in spec.lookups.items()}
    functions = dict(_functions(spec.functions.values(), base, faults))
    notify = _notify(spec.notify, environ, faults) if spec.notify else None
    if faults:
        raise faults_error(file, faults)
    urls = [spec.target, *(source.url or "" for source in spec.sources.values())]
    secrets = {*_secrets(urls, environ), *(_secrets_of(spec.notify, environ) if spec.notify else ())}
    for name, source in sources.items():
        if source.kind == "rest":
            faults += _faults_of_api(source)
            secrets |= secrets_of_api(spec.sources[name].options, environ)
    if faults:
        raise faults_error(file, faults)
    return Project(spec, target, sources, lookups, functions, base, tuple(sorted(secrets)), notify)


def open_source(project: Project, name: str) -> Source:
    """Open a declared source. UsageError where this version cannot."""
    source = project.sources[name]
    from connectors import registry  # the connectors are heavy, and `migrate --help` must not wait for them

    if source.url is not None:
        scheme = re.match(r"[a-zA-Z0-9]+(?=(\+\w+)?://)", source.url, re.ASCII)
        if scheme is None:
            hint = "Write scheme://user:password@host:port/database."
            raise faults_error(project.spec.path, [Fault(source.mark, f'the source "{name}" is no URL', hint)])
        try:
            return registry.open_url(scheme[0], source.url, source.options, project.base)
        except UsageError as error:
            fault = Fault(source.mark, f'the source "{name}": {error.message}', error.hint)
            raise faults_error(project.spec.path, [fault]) from error
    if source.kind == "rest":
        return registry.open_source(source.kind, source.options, project.base, partial(redact, secrets=project.secrets))
    return registry.open_source(source.kind, source.files, source.options, project.base)


def open_file(project: Project, source: str, table: str, file: Path) -> Source:
    """Open one file in the place of a source's table, read as that source's files are."""
    from connectors import registry  # see open_source

    spec = project.sources[source]
    if spec.url is not None:
        raise UsageError(
            f"{source} is a database: what is wrong in it is mended there",
            hint="Correct the rows at the source, then `migrate rejects replay` without a file.",
        )
    root = table.partition("/")[0]  # of JSON the table may be what an array holds
    if spec.kind == "rest":
        from connectors.restapi import reading

        return registry.open_source("json", {root: (str(file.resolve()),)}, reading(spec.options, root), project.base)
    files = {{"files": table, "json": root}.get(spec.kind, ""): (str(file.resolve()),)}
    partial = {"partial": True} if "trailer" in spec.options else {}
    return registry.open_source(spec.kind, files, {**spec.options, **partial}, project.base)


ESCAPES = "Escape special characters of user and password: @ is %40, / is %2F, ? is %3F, # is %23."


def login_ends(url: str) -> bool:
    """Whether it is certain where user and password of a URL end: if not, a part of the password is taken for the host."""
    rest = url.partition("://")[2]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    path, _, further = rest[len(authority) :].partition("?")
    if not authority:  # the path of a file
        return True
    return authority.count("@") < 2 and "@" not in path and ("@" in authority or "@" not in further)


def passwords(urls: Iterable[str]) -> tuple[str, ...]:
    """The passwords that stand in URLs, as written and as meant."""
    return _secrets(urls, {})


# ------------------------------------------------------------------------------------------------------------- the file


def _find() -> Path:
    here = Path.cwd()
    for folder in (here, *here.parents):
        if any((folder / name).is_file() for name in NAMES):
            return folder / _only_name(folder)
    looked = ", ".join(str(folder) for folder in (here, *here.parents))
    raise UsageError(
        f"no {' or '.join(NAMES)} in {looked}",
        hint="`migrate init` writes a first project file; -c names one that stands elsewhere.",
    )


def _only_name(folder: Path) -> str:
    there = [name for name in NAMES if (folder / name).is_file()]
    if len(there) == 1:
        return there[0]
    if there:
        raise UsageError(
            f"both {' and '.join(NAMES)} are in {shown(folder)}", hint="Name the one that is meant with -c."
        )
    raise UsageError(f"no {' or '.join(NAMES)} in {shown(folder)}", hint="`migrate init` writes a first project file.")


def _text_of(file: Path) -> str:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{shown(file)}: {error.strerror}", hint="Name the project file with -c.") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", "replace")
        place = f"{shown(file)}:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"
        raise UsageError(f"{place}: the file is not UTF-8", hint="Save it as UTF-8.") from error


# ----------------------------------------------------------------------------------------------- references and secrets


def _resolved(text: str, environ: Mapping[str, str]) -> str:
    return REFERENCE.sub(lambda reference: environ.get(reference[1], ""), text)


def _resolved_url(url: str, environ: Mapping[str, str]) -> str:
    """The URL with its variables in place; as user or password their characters are escaped, so that none ends it."""
    before, at, after = url.rpartition("@")
    scheme, slashes, login = before.partition("://")
    if not slashes:
        return _resolved(url, environ)
    login = REFERENCE.sub(lambda reference: quote(environ.get(reference[1], ""), safe=""), login)
    return f"{scheme}{slashes}{login}{at}{_resolved(after, environ)}"


def _resolved_source(source: SourceSpec, environ: Mapping[str, str]) -> SourceSpec:
    files = {table: tuple(_resolved(glob, environ) for glob in globs) for table, globs in source.files.items()}
    options = resolved_texts(source.options, environ) if source.kind == "rest" else source.options
    return replace(
        source, files=files, options=options, url=None if source.url is None else _resolved_url(source.url, environ)
    )


def resolved_texts(given: Any, environ: Mapping[str, str]) -> Any:
    """All texts within, with their variables in place."""
    if isinstance(given, Mapping):
        return {name: resolved_texts(value, environ) for name, value in given.items()}
    if isinstance(given, tuple):
        return tuple(resolved_texts(value, environ) for value in given)
    return _resolved(given, environ) if isinstance(given, str) else given


def _faults_of_api(source: SourceSpec) -> Iterator[Fault]:
    """What keeps a resolved API from being asked; nothing secret is repeated."""
    urls = {"rest": source.options["rest"], "oauth.token_url": source.options.get("oauth", {}).get("token_url")}
    for key, url in urls.items():
        if url is not None:
            for message, hint in _faults_of_url(url, f"sources.{source.name}.{key}"):
                yield Fault(source.mark, message, hint)
    for name, value in source.options.get("headers", {}).items():
        if not value.isprintable() or not value.isascii():
            place = f"sources.{source.name}.headers.{name}"
            yield Fault(source.mark, f"{place} is no header once resolved", "Use plain ASCII text.")


def secrets_of_api(options: Mapping[str, Any], environ: Mapping[str, str]) -> set[str]:
    """Headers' values, whole and without their scheme, the client's secret, secret parameters, and what these are made of."""
    texts = [*options.get("headers", {}).values(), options.get("oauth", {}).get("client_secret", "")]
    for table in options["tables"].values():
        texts += [value for name, value in table.get("params", {}).items() if secret(name)]
    named = {environ.get(name, "") for text in texts for name in REFERENCE.findall(text)}
    whole = {_resolved(text, environ) for text in texts}
    return (whole | {text.rpartition(" ")[2] for text in whole} | named) - {""}


def _notify(spec: NotifySpec, environ: Mapping[str, str], faults: list[Fault]) -> Notify:
    webhook = None if spec.webhook is None else _resolved(spec.webhook, environ)
    headers = {name: _resolved(value, environ) for name, value in spec.headers.items()}
    if not faults and webhook is not None:
        faults += [Fault(spec.mark, message, hint) for message, hint in _faults_of_url(webhook, "notify.webhook")]
    for name, value in headers.items():
        if not value.isprintable() or not value.isascii():
            faults.append(
                Fault(spec.mark, f"notify.headers.{name} is no header once resolved", "Use plain ASCII text.")
            )
    return Notify(tuple(_resolved(word, environ) for word in spec.command), webhook, headers, spec.on)


def _faults_of_url(url: str, place: str) -> Iterator[tuple[str, str]]:
    """What keeps a resolved URL from being asked or posted to; it is not repeated."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = None
        parts = urlsplit("")
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        yield f"{place} is no URL once resolved", "Write https://host/path, in ASCII and without blanks."
    elif parts.username is not None:
        hint = 'Send it as a header: headers: {Authorization: "Basic ${env:HOOK_LOGIN}"}.'
        yield f"{place} holds a user", hint


def _secrets_of(spec: NotifySpec, environ: Mapping[str, str]) -> set[str]:
    """The webhook's whole URL, the headers' values, and what the environment gives to any of them."""
    kept = [*([spec.webhook] if spec.webhook else []), *spec.headers.values()]
    named = {name for text in (*kept, *spec.command) for name in REFERENCE.findall(text)}
    return ({_resolved(text, environ) for text in kept} | {environ[name] for name in named}) - {""}


def _secrets(urls: Iterable[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """What the URLs take from the environment, and the passwords in them, as written and as meant."""
    found: set[str] = set()
    for url in urls:
        found.update(environ.get(name, "") for name in REFERENCE.findall(url))
        resolved = _resolved_url(url, environ)
        try:
            password = urlsplit(resolved).password or ""
        except ValueError:  # no URL after all; then the driver says so
            password = ""
        found.update((password, unquote(password)))
        found.update(
            value
            for each in re.findall(r"[?&]\w*(?:password|passphrase)=([^&#]*)", resolved, re.IGNORECASE)
            for value in (each, unquote(each))
        )
    return tuple(sorted(found - {""}))


# ---------------------------------------------------------------------------------------------- code tables, functions


def _lookup(lookup: LookupSpec, base: Path, faults: list[Fault]) -> Mapping[str, str]:
    if lookup.file is None or lookup.key is None or lookup.value is None:
        return lookup.entries
    try:
        return _code_table(base / lookup.file, lookup.key, lookup.value)
    except UsageError as error:
        faults.append(Fault(lookup.mark, f'lookup "{lookup.name}": {error.message}', error.hint))
        return {}


def _code_table(file: Path, key: str, value: str) -> Mapping[str, str]:
    """Read two columns of a CSV file; whichever usual delimiter makes them columns of the first line is the one."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            header = lines.readline()
            fields, delimiter = max(
                ((next(csv.reader([header], delimiter=each), []), each) for each in _DELIMITERS),
                key=lambda split: ((key in split[0]) + (value in split[0]), len(split[0])),
            )
            for wanted in (key, value):
                if wanted not in fields:
                    raise UsageError(
                        f'{shown(file)}:1: no column "{wanted}" among {", ".join(fields) or "none"}',
                        hint=suggest(wanted, fields),
                    )
            return _codes(
                file, csv.reader(lines, delimiter=delimiter, strict=True), fields.index(key), fields.index(value)
            )
    except OSError as error:
        raise UsageError(f"{shown(file)}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{shown(file)} is not UTF-8", hint="Save it as UTF-8.") from error


def _codes(file: Path, rows: Any, key: int, value: int) -> Mapping[str, str]:
    codes: dict[str, str] = {}
    places: dict[str, int] = {}
    try:
        for row in rows:
            place = f"{shown(file)}:{rows.line_num + 1}"
            if not row:
                continue
            if len(row) <= max(key, value):
                raise UsageError(f"{place}: the row has {len(row)} fields, too few for its key and value")
            if row[key] in codes:
                raise UsageError(f'{place}: the key "{row[key]}" stands there twice, first on line {places[row[key]]}')
            codes[row[key]], places[row[key]] = row[value], rows.line_num + 1
    except csv.Error as error:
        raise UsageError(f"{shown(file)}:{rows.line_num + 1}: {error}", hint="Check the quotes.") from error
    return codes


def _functions(specs: Iterable[FunctionSpec], base: Path, faults: list[Fault]) -> Iterator[tuple[str, UserFunction]]:
    """Load each Python file once, and take the functions from it."""
    modules: dict[Path, tuple[str, Mapping[str, Any]]] = {}
    for spec in specs:
        file = base / spec.file
        try:
            if file not in modules:
                modules[file] = _module(file)
            text, module = modules[file]
            function = _callable(file, module, spec)
        except UsageError as error:
            faults.append(Fault(spec.mark, f'function "{spec.name}": {error.message}', error.hint))
            continue
        yield spec.name, UserFunction(spec.name, text, function, spec.arguments, spec.returns, spec.style)


def _module(file: Path) -> tuple[str, Mapping[str, Any]]:
    """A Python file's text and what it defines. Nothing is written beside it and nothing enters `sys.modules`."""
    try:
        with tokenize.open(file) as lines:
            text = lines.read()
    except OSError as error:
        raise UsageError(f"{shown(file)}: {error.strerror}") from error
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UsageError(f"{shown(file)}: {error}", hint="Save it as UTF-8.") from error
    module: dict[str, Any] = {"__name__": file.stem, "__file__": str(file)}
    try:
        exec(compile(text, str(file), "exec", dont_inherit=True), module)
    except SyntaxError as error:
        raise UsageError(f"{shown(file)}:{error.lineno}:{error.offset}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        within = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        place = f"{shown(file)}:{within[-1]}" if within else shown(file)
        raise UsageError(f"{place}: {type(error).__name__}: {error}", hint="Correct the Python file.") from error
    return text, module


def _callable(file: Path, module: Mapping[str, Any], spec: FunctionSpec) -> Callable[..., Any]:
    function: Callable[..., Any] | None = module.get(spec.function)
    if function is None or not callable(function):
        names = [name for name, value in module.items() if callable(value) and not name.startswith("_")]
        raise UsageError(f'{shown(file)} defines no function "{spec.function}"', hint=suggest(spec.function, names))
    try:
        inspect.signature(function).bind(*spec.arguments)
    except TypeError as error:
        message = f'"{spec.function}" cannot take {len(spec.arguments)} arguments: {error}'
        raise UsageError(f"{shown(file)}: {message}", hint="List the type of each under `arguments`.") from error
    except ValueError:  # a builtin without a signature: calling it will tell
        return function
    return function
