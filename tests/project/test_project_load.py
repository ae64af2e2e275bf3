"""Finding a project file and resolving what it refers to: variables, code tables, functions, sources, secrets."""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest

from migrate.errors import UsageError, redact
from migrate.project import Project, load, open_source

SHOP = Path(__file__).parent.parent.parent / "examples" / "shop"
ENVIRON = {"TARGET_URL": "postgresql://loader:s3cr3t%21@db/acme", "ERP_USER": "erp", "ERP_PASSWORD": "p4ss"}
TABLES = "tables: {t: {from: crm.t, columns: {id: a}}}\n"
SOURCES = 'sources: {crm: {files: "*.csv"}}\n'
HEAD = "migration: acme\ntarget: ${env:TARGET_URL}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, rest: str = "", **files: str) -> None:
    (folder / "migrate.yaml").write_text(HEAD + SOURCES + TABLES + rest)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(dedent(text))


def refusal(path: Path | None = None, environ: dict[str, str] = ENVIRON) -> UsageError:
    with pytest.raises(UsageError) as caught:
        load(path, environ)
    return caught.value


def test_the_example_loads() -> None:
    project = load(SHOP, ENVIRON)
    assert project.lookups["country"] == {"DE": "Germany", "FR": "France", "NO": "Norway"}
    shout = project.functions["shout"]
    assert shout.callable(pd.Series(["a", None])).iloc[0] == "A"
    assert "def shout" in shout.source_text
    assert project.base == SHOP


def test_the_file_is_looked_for_here_and_above(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder)
    (folder / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(folder / "a" / "b")
    project = load(None, ENVIRON)
    assert project.base == folder
    assert "the environment variable TARGET_URL is not set" in refusal(environ={}).message
    assert refusal(environ={}).message.startswith("../../migrate.yaml:2:9: ")


def test_no_file_anywhere_says_where_it_was_looked_for(folder: Path) -> None:
    error = refusal()
    assert str(folder) in error.message
    assert str(folder.parent) in error.message
    assert "migrate init" in error.hint


def test_two_files_side_by_side_are_not_chosen_between(folder: Path) -> None:
    write(folder)
    (folder / "migrate.yml").write_text("")
    assert "both migrate.yaml and migrate.yml" in refusal().message


def test_a_file_that_is_missing_or_not_utf8_is_told(folder: Path) -> None:
    assert "No such file" in refusal(Path("other.yaml")).message
    Path("cp1252.yaml").write_bytes("a: 1\nname: Jürgen".encode("cp1252"))
    assert refusal(Path("cp1252.yaml")).message == "cp1252.yaml:2:8: the file is not UTF-8"


def test_all_unset_variables_and_missing_files_are_told_at_once(folder: Path) -> None:
    write(
        folder,
        "lookups: {c: {file: no.csv, key: k, value: v}}\nfunctions: {f: {file: no.py}}\n",
    )
    lines = refusal(environ={}).message.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "migrate.yaml:2:9",
        "migrate.yaml:5:21",
        "migrate.yaml:6:23",
    ]
    assert "no.csv: No such file" in lines[1]
    assert "no.py: No such file" in lines[2]


def test_variables_are_resolved_in_urls_and_globs(folder: Path) -> None:
    text = HEAD + "sources: {crm: {files: '${env:DIR}/*.csv'}, erp: 'mysql://${env:ERP_USER}@erp/x'}\n" + TABLES
    (folder / "migrate.yaml").write_text(text)
    project = load(None, ENVIRON | {"DIR": "in"})
    assert project.target == ENVIRON["TARGET_URL"]
    assert project.sources["crm"].files == {"": ("in/*.csv",)}
    assert project.sources["erp"].url == "mysql://erp@erp/x"
    assert "in" not in project.secrets


def test_a_password_may_hold_any_character(folder: Path) -> None:
    text = HEAD.replace("${env:TARGET_URL}", "postgresql://${env:WHO}:${env:PW}@${env:HOST}:5432/acme")
    (folder / "migrate.yaml").write_text(text + SOURCES + TABLES)
    password = "p@ss/w:rd%?#"
    project = load(None, {"WHO": "a@b", "PW": password, "HOST": "db"})
    split = urlsplit(project.target)
    assert (unquote(split.username or ""), unquote(split.password or "")) == ("a@b", password)
    assert (split.hostname, split.port, split.path) == ("db", 5432, "/acme")
    assert redact(f"{password} {split.password}", project.secrets) == "*** ***"


def test_a_target_that_is_no_url_once_resolved_is_refused_without_showing_it(folder: Path) -> None:
    write(folder)
    error = refusal(environ={"TARGET_URL": "hunter2"})
    assert error.message.startswith("migrate.yaml:2:9: target is no URL once resolved")
    assert "hunter2" not in error.message + error.hint


def test_secrets_stay_out_of_every_repr_and_are_taken_out_of_texts(folder: Path) -> None:
    text = (
        HEAD + "sources: {crm: {files: x.csv}, erp: 'mysql://u:${env:ERP_PASSWORD}@erp/x', o: 'oracle://a:lit3ral@o'}\n"
    )
    (folder / "migrate.yaml").write_text(text + TABLES)
    project = load(None, ENVIRON)
    for secret in ("s3cr3t", "p4ss", "lit3ral"):
        assert secret not in repr(project) + str(project)
    assert {"p4ss", "s3cr3t%21", "s3cr3t!", "lit3ral", ENVIRON["TARGET_URL"]} <= set(project.secrets)
    told = redact(f"cannot connect to {project.target}: password s3cr3t! or lit3ral refused", project.secrets)
    assert told == "cannot connect to ***: password *** or *** refused"


@pytest.mark.parametrize(
    ("text", "secrets", "told"),
    [
        ("db at a:b@host", ("b", ""), "db at a:***@host"),
        ("port 5432 failed for p: 'p'", ("p",), "port 5432 failed for ***: '***'"),
        ("only 2 of its columns may be read by colu", ("colu",), "only 2 of its columns may be read by ***"),
        (
            "postgresql://colu_ro:xp@p/d?password=xp!&a=p",
            ("colu", "p", "xp"),
            "postgresql://***_ro:***@***/d?password=***!&a=***",
        ),
        ("s3cr3t!x", ("s3cr3t!",), "***x"),
        ("xhunter22y", ("hunter22",), "x***y"),
    ],
)
def test_short_secrets_are_taken_out_in_urls_and_as_words_only(text: str, secrets: tuple[str, ...], told: str) -> None:
    assert redact(text, secrets) == told


def test_what_is_wrong_with_a_database_is_told_where_its_source_stands(folder: Path) -> None:
    text = HEAD + "sources:\n  crm: {url: 'mysql://u:p4ss@erp', quiesced: true}\n" + TABLES
    (folder / "migrate.yaml").write_text(text)
    with pytest.raises(
        UsageError, match=r'migrate.yaml:4:9: the source "crm": the source\'s URL names no database'
    ) as e:
        open_source(load(None, ENVIRON), "crm")
    assert "p4ss" not in e.value.message


# ---------------------------------------------------------------------------------------------------------- code tables


def lookups(folder: Path, codes: str) -> Project:
    write(folder, "lookups: {c: {file: c.csv, key: code, value: name}}\n")
    (folder / "c.csv").write_text(codes, encoding="utf-8", newline="")
    return load(None, ENVIRON)


def test_code_tables_are_read_whatever_separates_them(folder: Path) -> None:
    for delimiter in ",;\t|":
        rows = [["name", "note, or not", "code"], ["Germany", "", "DE"], ['"F""r"', "x", "FR"]]
        text = "\ufeff" + "\r\n".join(delimiter.join(row).replace("note, or not", "note") for row in rows) + "\r\n"
        assert lookups(folder, text).lookups["c"] == {"DE": "Germany", "FR": 'F"r'}


@pytest.mark.parametrize(
    ("codes", "says"),
    [
        ("code,name\nDE,Germany\n\nDE,Deutschland\n", 'c.csv:4: the key "DE" stands there twice, first on line 2'),
        ("code,nam\nDE,Germany\n", 'c.csv:1: no column "name" among code, nam. Did you mean "nam"?'),
        ("", 'c.csv:1: no column "code" among none'),
        ("code,name\nDE\n", "c.csv:2: the row has 1 fields"),
        ('code,name\nDE,"Germany\n', "c.csv:"),
    ],
)
def test_damage_in_a_code_table_is_told_with_its_line(folder: Path, codes: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        lookups(folder, codes)
    assert caught.value.message.startswith('migrate.yaml:5:21: lookup "c": ')
    assert says in caught.value.message


def test_a_code_table_that_is_not_utf8_is_told(folder: Path) -> None:
    write(folder, "lookups: {c: {file: c.csv, key: code, value: name}}\n")
    (folder / "c.csv").write_bytes("code,name\nJ,Jürgen\n".encode("cp1252"))
    assert "c.csv is not UTF-8. Save it as UTF-8." in refusal().message


# ------------------------------------------------------------------------------------------------------------ functions


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def f(x):\n    return (\n", "f.py:2:12: '(' was never closed"),
        ("import os\n\nx = 1 / 0\n", "f.py:3: ZeroDivisionError: division by zero"),
        ("import nothing_of_the_kind\n", "f.py:1: ModuleNotFoundError"),
        ("raise SystemExit(3)\n", "f.py:1: SystemExit: 3"),
        ("def g(x):\n    return x\n", 'f.py defines no function "f"'),
        ("f = 3\n", 'f.py defines no function "f"'),
        ("def f(x, y):\n    return x\n", '"f" cannot take 1 arguments: missing a required argument'),
        ("raise ValueError('two\\nlines')\n", "ValueError: two lines"),
    ],
)
def test_a_broken_python_file_is_told_with_its_line(folder: Path, source: str, says: str) -> None:
    write(folder, "functions: {f: {file: f.py}}\n", f_py=source)
    message = refusal().message
    assert message.startswith('migrate.yaml:5:23: function "f": f.py')
    assert says in message
    assert "\n" not in message


def test_functions_of_one_file_share_it_and_nothing_is_left_behind(folder: Path) -> None:
    code = "seen = []\ndef f(x):\n    return x\ndef g(x, y):\n    seen.append(x)\n    return seen\n"
    write(folder, "functions: {f: {file: f.py}, h: {file: f.py, function: g, arguments: [DATE, BIGINT]}}\n", f_py=code)
    project = load(None, ENVIRON)
    assert project.functions["h"].arguments == ("DATE", "BIGINT")
    assert project.functions["h"].callable(1, 2) is project.functions["h"].callable.__globals__["seen"]
    assert project.functions["f"].callable.__globals__ is project.functions["h"].callable.__globals__
    assert sorted(path.name for path in folder.iterdir()) == ["f.py", "migrate.yaml"]


def test_reading_a_project_file_loads_no_heavy_library() -> None:
    code = "import sys, mappings.spec; print([m for m in ('pyarrow', 'pandas', 'duckdb', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_source_of_files_is_opened_with_its_options() -> None:
    source = open_source(load(SHOP, ENVIRON), "crm")
    assert sorted(source.tables()) == ["customers", "orders"]
    schema = source.schema("customers").schema
    assert schema.names == ["CustomerID", "First Name", "Surname", "Email", "Born", "Country", "Status"]


# -------------------------------------------------------------------------------------------------------- notifications

HOOK = {**ENVIRON, "HOOK": "https://hooks.example.com/services/T0/B0/xyz", "TOKEN": "t0k3n", "WHO": "ops; rm -rf /"}


def test_who_is_told_is_resolved_word_by_word_and_kept_secret(folder: Path) -> None:
    write(
        folder,
        "notify:\n  command: ./tell.sh --to ${env:WHO} 'two words'\n  webhook: ${env:HOOK}\n"
        "  headers: {Authorization: 'Bearer ${env:TOKEN}', X-Team: blue}\n  on: failure\n",
    )
    project = load(None, HOOK)
    assert project.notify is not None
    assert project.notify.command == ("./tell.sh", "--to", "ops; rm -rf /", "two words"), (
        "no shell, no second splitting"
    )
    assert project.notify.webhook == HOOK["HOOK"]
    assert project.notify.headers == {"Authorization": "Bearer t0k3n", "X-Team": "blue"}
    assert project.notify.on == {"failure"}
    assert {"t0k3n", "Bearer t0k3n", HOOK["HOOK"]} <= set(project.secrets)
    for secret in ("t0k3n", "services/T0"):
        assert secret not in repr(project) + str(project)
    assert redact(f"cannot post to {HOOK['HOOK']}", project.secrets) == "cannot post to ***"


def test_nobody_is_told_unless_the_file_says_so(folder: Path) -> None:
    write(folder)
    assert load(None, ENVIRON).notify is None
    write(folder, "notify: {command: ./tell.sh}\n")
    told = load(None, ENVIRON).notify
    assert told is not None
    assert told.on == {"success", "failure"}
    assert told.webhook is None


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("ftp://example.com/x", "no URL once resolved"),
        ("file:///etc/passwd", "no URL once resolved"),
        ("https://", "no URL once resolved"),
        ("https://example.com/ö", "no URL once resolved"),
        ("https://example.com:99999/x", "no URL once resolved"),
        ("https://me:s3cret@example.com/x", "holds a user"),
    ],
)
def test_a_webhook_that_cannot_be_posted_to_is_refused_and_not_repeated(folder: Path, hook: str, said: str) -> None:
    write(folder, "notify: {webhook: '${env:HOOK}'}\n")
    error = refusal(environ={**ENVIRON, "HOOK": hook})
    assert said in error.message
    assert hook == "https://" or hook not in error.message
    assert "s3cret" not in error.message


def test_a_header_that_would_begin_another_is_refused(folder: Path) -> None:
    write(folder, "notify: {webhook: 'https://example.com/', headers: {X: '${env:TOKEN}'}}\n")
    assert "notify.headers.X is no header" in refusal(environ={**ENVIRON, "TOKEN": "a\r\nX-Evil: b"}).message
    assert "TOKEN is not set" in refusal().message
