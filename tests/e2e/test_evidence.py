"""Evidence: it holds what an auditor asks for and nobody's secrets, and whatever is done to it is noticed and named."""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from e2e.rig import Ended, Rig

PROJECT = """\
migration: acme
target: ${env:TARGET_URL}
sources:
  crm: {files: {people: "landing/people*.csv", orders: landing/orders.csv}}
tables:
  people:
    from: crm.people
    key: no
    columns:
      no: {value: no, type: int}
      email: {value: email, type: varchar(30)}
      login: {value: "split_part(email, '@', 1)", type: varchar(30)}
      town: {value: town, type: varchar(10)}
      born: {value: "parse_date(born, 'YYYY-MM-DD')", type: date}
    primary_key: no
    personal: [email, born]
    dedupe: {match: [[email]], keep: first}
  orders:
    from: crm.orders
    key: id
    columns: {id: {value: id, type: int}, total: {value: total, type: "numeric(8,2)"}}
    primary_key: id
"""
FILES = ["MANIFEST", "findings.jsonl", "plan.json", "receipts.jsonl", "report.html", "report.json"]
MARK = "m4rker"  # in every personal value, and in nothing else
SECRET = "s3cret-value"


@pytest.fixture
def shop(rig: Rig) -> Rig:
    """A loaded migration with rejects, duplicates and differences of every kind, all with markers in personal values."""
    rig.write("migrate.yaml", PROJECT)
    people = ["no,email,town,born", *(f"{n},{MARK}{n}@x.org,Köln,1970-01-{n % 27 + 1:02}" for n in range(1, 61))]
    people += [
        f"90,{MARK}7@x.org,Bonn,1980-01-01",
        f"91,{MARK}{'x' * 40}@x.org,Bonn,",
        f"92,{MARK}92@x.org,far too long,",
    ]
    people += [f"93,{MARK}93@x.org,Bonn,1980-01-01,{MARK}", "7,", f'94,"{MARK}94@x.org,Bonn,']
    rig.write("landing/people.csv", "\n".join(people) + "\n")
    rig.write("landing/orders.csv", "id,total\n" + "".join(f"{n},{n}.50\n" for n in range(1, 101)) + "x,1\n")
    rig.environment["SOME_TOKEN"] = SECRET
    rig.migrate("run", "--max-rejects", "50")
    return rig


def key_files(folder: Path) -> tuple[str, str]:
    """A key pair as PEM files beside the project."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(private)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "public.pem").write_bytes(public)
    return "key.pem", "public.pem"


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_evidence_holds_report_plan_receipts_and_findings(shop: Rig) -> None:
    shop.migrate("verify")
    said = shop.migrate("report", "--evidence", "proof").out
    assert said.startswith("Wrote proof, not signed: ")
    folder = shop.folder / "proof"
    assert sorted(os.listdir(folder)) == FILES
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["accounted"]
    assert report["proof"].startswith("Proved: source and target are equal row by row")
    receipts = lines(folder / "receipts.jsonl")
    for t in report["tables"]:
        for fate in ("read", "loaded", "merged", "filtered", "rejected"):
            assert t[fate] == sum(r[fate] for r in receipts if r["table"] == t["name"] and r["current"])  # type: ignore[misc]
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    for planned, t in zip(plan["tables"], report["tables"], strict=True):
        tokens = b"".join(hashlib.sha256(c["slice"].encode()).digest() for c in planned["chunks"])
        assert hashlib.sha256(tokens).hexdigest() == planned["plan"] == t["plan"], "the digest is of what stands there"
        assert (planned["digest"], planned["hash"]) == (t["digest"], t["hash"])
    assert report["sentence"] in (folder / "report.html").read_text(encoding="utf-8")


def test_neither_personal_values_nor_secrets_are_in_it(shop: Rig) -> None:
    shop.sql(f"UPDATE people SET email = '{MARK}changed', login = '{MARK}changed', town = 'Rom' WHERE no = 3")
    shop.sql(f"UPDATE people SET login = '{MARK}else' WHERE no = 4")
    shop.sql("UPDATE people SET born = '1911-11-11' WHERE no = 5; UPDATE orders SET total = 77 WHERE id = 5")
    shop.sql(f"INSERT INTO people VALUES (999, '{MARK}new', '{MARK}new', 'Bonn', '1922-02-22')")
    shop.migrate("verify", code=3)
    # What another kind of check says is not known to be masked; nor is what an operator wrote.
    finding = 'migrate_ledger.finding (migration, name, level, "check", severity, message, key, expected, actual)'
    values = (
        f"'acme', 'people', 'rows', 'regex.email', 'error', 'people: {MARK}@x is odd', '{MARK}', '{MARK}', '{MARK}'"
    )
    shop.sql(f"INSERT INTO {finding} VALUES ({values})")
    own = f"'acme', 'orders', 'rows', 'own.sql', 'warning', 'orders: at {shop.url}', NULL, NULL, NULL"
    shop.sql(f"INSERT INTO {finding} VALUES ({own})")
    shop.migrate("report", "--evidence", "proof", code=3)
    raw = shop.sql("SELECT string_agg(encode(raw, 'escape'), '') FROM migrate_ledger.reject")[0][0]
    assert MARK in raw, "there is something to be hidden"
    for name in FILES:
        text = (shop.folder / "proof" / name).read_text(encoding="utf-8")
        for hidden in (MARK, SECRET, shop.url, "1911-11-11", "1922-02-22", "TARGET_URL"):
            assert hidden not in text, (name, hidden)
    found = lines(shop.folder / "proof/findings.jsonl")
    assert {f["table"] for f in found} == {"people", "orders"}
    by_key = {(f["table"], f["key"]): f for f in found}
    assert by_key["orders", "id=5"]["actual"] == "77.00", "what is not personal is there"
    assert any(f["key"] == "no=3" and "town" in str(f["message"]) and f["actual"] == "'Rom'" for f in found)
    assert any(f["check"] == "own.sql" and f["message"] == "orders: at ***" for f in found)


def test_a_database_s_keys_are_not_in_it_where_they_are_personal(rig: Rig) -> None:
    with closing(sqlite3.connect(rig.folder / "legacy.db")) as db, db:
        db.execute("CREATE TABLE people (email TEXT PRIMARY KEY, town TEXT) WITHOUT ROWID")
        towns = [(f"{MARK}{n:03}@x.org", "far too long a town" if n % 50 == 7 else "Köln") for n in range(300)]
        db.executemany("INSERT INTO people VALUES (?, ?)", towns)
    rig.write(
        "migrate.yaml",
        """\
migration: acme
target: ${env:TARGET_URL}
sources: {old: {url: "sqlite:///legacy.db"}}
tables:
  people:
    from: old.people
    columns:
      email: {value: email, type: text}
      town: {value: town, type: varchar(10)}
    personal: [email]
""",
    )
    rig.migrate("run", "--batch-rows", "100", "--max-rejects", "50")
    spelled = MARK.encode().hex().upper()  # as SQLite's slices spell a text
    assert rig.value("SELECT count(*) FROM migrate_ledger.partition WHERE token LIKE %s", f"%{spelled}%") == 4
    assert rig.value("SELECT count(*) FROM migrate_ledger.reject WHERE locator::text LIKE %s", f"%{MARK}%") == 6
    for text in (rig.migrate("rejects", "list").said, rig.migrate("report").said):
        assert MARK not in text
    rig.migrate("report", "--evidence", "proof")
    for name in FILES:
        text = (rig.folder / "proof" / name).read_text(encoding="utf-8")
        assert MARK not in text, name
        assert spelled not in text.upper(), name
    [planned] = json.loads((rig.folder / "proof/plan.json").read_text())["tables"]
    assert len(planned["chunks"]) >= 3
    assert len(planned["plan"]) == 64


def altered(folder: Path) -> str:
    file = folder / "report.json"
    file.write_text(file.read_text(encoding="utf-8").replace('"loaded": 100', '"loaded": 101'), encoding="utf-8")
    return "report.json was altered"


def one_receipt_less(folder: Path) -> str:
    file = folder / "receipts.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[1:]))
    return "receipts.jsonl was altered"


def missing(folder: Path) -> str:
    (folder / "findings.jsonl").unlink()
    return "findings.jsonl is missing"


def added(folder: Path) -> str:
    (folder / "more.json").write_text("{}")
    return "more.json was added"


def hidden(folder: Path) -> str:
    (folder / ".more").mkdir()
    return ".more was added"


def linked(folder: Path) -> str:
    shutil.move(folder / "plan.json", folder.parent / "plan.json")
    (folder / "plan.json").symlink_to("../plan.json")
    return "plan.json is no file of its own"


def a_linked_manifest(folder: Path) -> str:
    shutil.move(folder / "MANIFEST", folder.parent / "MANIFEST")
    (folder / "MANIFEST").symlink_to("../MANIFEST")
    return "MANIFEST is no file of its own"


def a_linked_signature(folder: Path) -> str:
    shutil.move(folder / "MANIFEST.sig", folder.parent / "MANIFEST.sig")
    (folder / "MANIFEST.sig").symlink_to("../MANIFEST.sig")
    return "MANIFEST.sig is no file of its own"


def left_out_of_the_manifest(folder: Path) -> str:
    missing(folder)
    file = folder / "MANIFEST"
    kept = file.read_text().splitlines(keepends=True)
    file.write_text("".join(kept[:-2]))
    return "MANIFEST.sig is not the signature of MANIFEST"


def reordered(folder: Path) -> str:
    file = folder / "MANIFEST"
    kept = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*kept[:3], *kept[5:7], *kept[3:5], *kept[7:]]))
    return "MANIFEST was altered: the chain breaks at report.html"


def no_manifest(folder: Path) -> str:
    (folder / "MANIFEST").unlink()
    return "MANIFEST is missing"


def no_signature(folder: Path) -> str:
    (folder / "MANIFEST.sig").unlink()
    return "MANIFEST.sig is missing"


def out_of_the_folder(folder: Path) -> str:
    file = folder / "MANIFEST"
    file.write_text(file.read_text().replace("  plan.json", "  ../plan.json"))
    return "MANIFEST was altered"


def another_signature(folder: Path) -> str:
    (folder / "MANIFEST.sig").write_bytes(bytes(64))
    return "MANIFEST.sig is not the signature of MANIFEST"


TAMPERINGS: list[Callable[[Path], str]] = [
    *(altered, one_receipt_less, missing, added, hidden, linked, left_out_of_the_manifest, reordered, no_manifest),
    *(a_linked_manifest, a_linked_signature, no_signature, out_of_the_folder, another_signature),
]


def test_whatever_is_done_to_signed_evidence_is_named(shop: Rig) -> None:
    private, public = key_files(shop.folder)
    assert "signed by" in shop.migrate("report", "--evidence", "proof", "--sign-key", private).out
    whole = shop.migrate("report", "--check", "proof", "--public-key", public).out
    assert whole.startswith("Nothing was altered, added or is missing")
    assert "The signature is good" in whole
    for tamper in TAMPERINGS:
        shutil.copytree(shop.folder / "proof", copy := shop.folder / "copy" / tamper.__name__)
        expected = tamper(copy)
        found = shop.migrate("report", "--check", str(copy), "--public-key", public, code=3)
        assert expected in found.out, tamper.__name__
        assert "not as it was written" in found.err
    for name in ("report.html", "plan.json", "MANIFEST", "MANIFEST.sig"):
        shutil.copytree(shop.folder / "proof", copy := shop.folder / "copy" / f"bit-{name}")
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(content)
        assert name in shop.migrate("report", "--check", str(copy), "--public-key", public, code=3).out


def test_written_anew_by_another_it_is_told_by_the_key_only(shop: Rig) -> None:
    private, public = key_files(shop.folder)
    shop.migrate("report", "--evidence", "proof", "--sign-key", private)
    (shop.folder / "other").mkdir()
    key_files(shop.folder / "other")
    shop.migrate("report", "--evidence", "forged", "--sign-key", "other/key.pem")
    shop.migrate("report", "--evidence", "unsigned")
    said = shop.migrate("report", "--check", "forged").out
    assert "which was not checked: whoever can write the folder could have written all of it anew" in said
    assert "The signature MANIFEST.sig was not looked at" in said
    left = shop.folder / "unsigned" / "MANIFEST"
    kept = left.read_text().splitlines(keepends=True)
    left.write_text("".join(kept[:-2]))
    (shop.folder / "unsigned" / "findings.jsonl").unlink()
    said = shop.migrate("report", "--check", "unsigned", code=3).out
    assert "findings.jsonl is missing, and not in MANIFEST either" in said
    shutil.rmtree(shop.folder / "unsigned")
    shop.migrate("report", "--evidence", "unsigned")
    assert "signed by another key" in shop.migrate("report", "--check", "forged", "--public-key", public, code=3).out
    refused = shop.migrate("report", "--check", "unsigned", "--public-key", public, "--output", "json", code=3)
    assert refused.json()["findings"] == ["MANIFEST.sig is missing: the evidence was not signed"]
    assert shop.migrate("report", "--check", "unsigned", "--output", "json").json() == {
        "ok": True,
        "findings": [],
        "signed_by": None,
        "signature_checked": False,
    }


@pytest.mark.skipif(not all(map(shutil.which, ("openssl", "sha256sum", "bash"))), reason="no sha256sum and openssl")
def test_plain_tools_check_it_as_the_docs_say(shop: Rig) -> None:
    docs = (Path(__file__).parents[2] / "docs/reports.md").read_text(encoding="utf-8")
    script = docs.split("```bash\n# without this tool")[1].split("```")[0].partition("\n")[2]

    def checked(folder: str) -> Ended:
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=shop.folder / folder, capture_output=True, text=True
        )
        return Ended(run.returncode, run.stdout, run.stderr)

    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", "key.pem"], cwd=shop.folder, check=True)
    public = ["openssl", "pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"]
    subprocess.run(public, cwd=shop.folder, check=True)
    shop.migrate("report", "--evidence", "proof", "--sign-key", "key.pem")
    good = checked("proof")
    assert good.code == 0, good.said
    assert good.out.count(": OK") == 5
    assert "Signature Verified Successfully" in good.out
    for tamper in (altered, missing, reordered, another_signature):
        shutil.copytree(shop.folder / "proof", copy := shop.folder / f"copy-{tamper.__name__}")
        tamper(copy)
        assert checked(copy.name).code != 0, tamper.__name__


def test_it_is_written_whole_or_not_at_all_and_over_nothing(shop: Rig) -> None:
    shop.write("full/x", "")
    assert "full is not empty" in shop.migrate("report", "--evidence", "full", code=2).err
    assert "is no folder" in shop.migrate("report", "--evidence", "migrate.yaml", code=2).err
    assert "there is no folder" in shop.migrate("report", "--evidence", "no/where", code=2).err
    (shop.folder / "empty").mkdir()
    shop.migrate("report", "--evidence", "empty")
    assert sorted(os.listdir(shop.folder / "empty")) == FILES
    shop.write("rsa.pem", "no key")
    for arguments, said in (
        (["--evidence", "a", "--sign-key", "rsa.pem"], "holds no private key"),
        (["--evidence", "a", "--sign-key", "nowhere.pem"], "cannot be read"),
        (["--check", "empty", "--public-key", "rsa.pem"], "holds no public key"),
        (["--check", "nowhere"], "is no folder"),
        (["--sign-key", "rsa.pem"], "--evidence DIR"),
        (["--check", "empty", "--evidence", "b"], "one at a time"),
    ):
        assert said in shop.migrate("report", *arguments, code=2).err
    shop.sql("DROP TABLE migrate_ledger.finding")
    shop.try_("report", "--evidence", "broken")
    left = [p.name for p in shop.folder.iterdir()]
    assert not [name for name in left if "broken" in name or name in ("a", "b")], left


def test_an_encrypted_key_is_said_to_be_one(shop: Rig) -> None:
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    shop.write("locked.pem", pem)
    assert "is encrypted" in shop.migrate("report", "--evidence", "a", "--sign-key", "locked.pem", code=2).err
