"""Eight tables with a tenth of duplicates: two reference themselves, two each other; some survivors are refused by the server.

Whatever the partitions, the workers and the interruptions: the same rows live on, and children follow them.
"""

import random

from e2e.rig import Rig

RUN = ("run", "--yes")

PROJECT = """\
migration: family
target: ${env:TARGET_URL}
defaults: {max_rejects: 95%, mode: replace, nullif: ""}
sources:
  old: {files: "old/*.csv", encoding: utf-8, delimiter: comma}
tables:
  regions:
    from: old.regions
    key: code
    columns: {code: code, name: name}
  companies:
    from: old.companies
    key: no
    columns:
      id: uuid(no)
      no: no
      tax: replace(tax, ' ', '')
      name: trim(name)
      phone: phone
      changed: changed
      region: {references: regions, by: region}
      parent: {references: companies, by: parent, orphans: "null"}
    dedupe:
      match: tax
      keep: [latest(changed), most_complete]
      columns: {phone: filled, name: most_complete}
  persons:
    from: old.persons
    key: no
    columns:
      id: uuid(no)
      email: lower(trim(email))
      name: name
      born: born
      company: {references: companies, by: company, orphans: reject}
      manager: {references: persons, by: manager, orphans: reject}
    dedupe: {match: [[email], [name, born]], keep: last}
  departments:
    from: old.departments
    key: code
    columns:
      id: uuid(code)
      name: name
      head: {references: staff, by: head, orphans: reject}
    dedupe: {match: [[name]]}
  staff:
    from: old.staff
    key: no
    columns:
      id: uuid(no)
      department: {references: departments, by: department, orphans: reject}
      badge: badge
  orders:
    from: old.orders
    key: no
    columns:
      no: no
      person: {references: persons, by: person}
  lines:
    from: old.lines
    key: [order_no, line]
    columns:
      order_no: {references: orders, by: order_no}
      line: line
      article: article
  notes:
    from: old.notes
    key: no
    columns:
      no: no
      person: {references: persons, by: person, orphans: keep}
      body: body
"""

TABLES = """
CREATE TABLE regions (code text PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE companies (
    id uuid PRIMARY KEY, no int NOT NULL, tax text, name text NOT NULL CHECK (name !~ 'forbidden'), phone text, changed date,
    region text REFERENCES regions, parent uuid REFERENCES companies
);
CREATE TABLE persons (
    id uuid PRIMARY KEY, email text, name text NOT NULL CHECK (name !~ 'forbidden'), born date,
    company uuid REFERENCES companies, manager uuid REFERENCES persons
);
CREATE TABLE departments (id uuid PRIMARY KEY, name text NOT NULL, head uuid);
CREATE TABLE staff (id uuid PRIMARY KEY, department uuid REFERENCES departments, badge text UNIQUE);
ALTER TABLE departments ADD CONSTRAINT departments_head_fkey FOREIGN KEY (head) REFERENCES staff;
CREATE TABLE orders (no int PRIMARY KEY, person uuid NOT NULL REFERENCES persons);
CREATE TABLE lines (order_no int REFERENCES orders, line int, article text, PRIMARY KEY (order_no, line));
CREATE TABLE notes (no int PRIMARY KEY, person uuid, body text);
"""

REFERENCES = {
    "companies": {"region": ("regions", "code"), "parent": ("companies", "id")},
    "persons": {"company": ("companies", "id"), "manager": ("persons", "id")},
    "departments": {"head": ("staff", "id")},
    "staff": {"department": ("departments", "id")},
    "orders": {"person": ("persons", "id")},
    "lines": {"order_no": ("orders", "no")},
}


def make(rig: Rig, n: int = 200, seed: int = 5) -> None:
    """Write the files and make the tables; `n` companies, and in proportion the others."""
    dice = random.Random(seed)

    def rare(share: float) -> bool:
        return dice.random() < share

    def write(name: str, header: str, rows: list[list[object]]) -> None:
        text = "\n".join([header, *(",".join(str(v) for v in row) for row in rows)]) + "\n"
        rig.write(f"old/{name}.csv", text)

    write("regions", "code,name", [[f"R{i}", f"Region {i % 11}"] for i in range(12)])
    companies: list[list[object]] = []
    for i in range(1, n + 1):
        tax = f"DE {dice.randint(1, n)}" if rare(0.1) and i > 10 else f"DE{1000 + i}"
        if companies and rare(0.1):
            tax = str(dice.choice(companies)[1]).replace("DE", "DE ")
        name = f"Firma {i} {'GmbH' if rare(0.5) else ''}" + (" forbidden" if rare(0.12) else "")
        parent = dice.choice(["", dice.randint(1, n), dice.randint(1, n), 9999 if rare(0.1) else ""])
        region = f"R{dice.randint(0, 12)}" if rare(0.3) else "R1"
        phone = f"0{dice.randint(100, 999)}" if rare(0.5) else ""
        companies.append([i, tax, name, phone, f"20{dice.randint(10, 20)}-01-{dice.randint(1, 28):02}", region, parent])
    write("companies", "no,tax,name,phone,changed,region,parent", companies)
    persons: list[list[object]] = []
    for i in range(1, 2 * n + 1):
        email, name, born = f"p{i}@x.de", f"Person {i}", f"19{dice.randint(50, 99)}-02-{dice.randint(1, 28):02}"
        if persons and rare(0.07):
            email = f" {str(dice.choice(persons)[1]).upper()}"
        if persons and rare(0.05):
            _, _, name, born, *_ = map(str, dice.choice(persons))
        if rare(0.02):
            name += " forbidden"
        manager = dice.choice(["", "", dice.randint(1, 2 * n), 99999 if rare(0.05) else ""])
        persons.append([i, email, name, born, dice.choice(["", dice.randint(1, n + 2)]), manager])
    write("persons", "no,email,name,born,company,manager", persons)
    write(
        "departments",
        "code,name,head",
        [[f"D{i}", f"Dept {i if not rare(0.1) else 1}", dice.randint(1, n + 3)] for i in range(1, n // 4 + 1)],
    )
    write(
        "staff",
        "no,department,badge",
        [
            [i, f"D{dice.randint(1, n // 4 + 1)}" if rare(0.8) else "", f"B{i if not rare(0.05) else 7}"]
            for i in range(1, n + 1)
        ],
    )
    write("orders", "no,person", [[i, dice.randint(1, 2 * n + 5)] for i in range(1, 3 * n + 1)])
    write(
        "lines",
        "order_no,line,article",
        [[o, line, f"A{dice.randint(1, 9)}"] for o in range(1, 3 * n + 1) for line in range(1, 3) if not rare(0.2)]
        + [[dice.randint(1, 3 * n), 1, "again"] for _ in range(n // 10)],
    )
    write("notes", "no,person,body", [[i, dice.randint(1, 2 * n + 30), f"note {i}"] for i in range(1, n + 1)])
    rig.write("migrate.yaml", PROJECT)
    rig.forget(TABLES)


def orphans(rig: Rig) -> list[tuple[str, str, int]]:
    """(table, column, rows) of references in the target that lead nowhere: there must be none, constraints or not."""
    found = []
    for table, columns in REFERENCES.items():
        for column, (parent, key) in columns.items():
            n = rig.value(
                f"SELECT count(*) FROM {table} c WHERE {column} IS NOT NULL "
                f"AND NOT EXISTS (SELECT FROM {parent} p WHERE p.{key} = c.{column})"
            )
            if n:
                found.append((table, column, n))
    return found


def by_key(rig: Rig) -> dict[str, object]:
    """What must be equal whatever the partitions: contents, fates, and who lives on in whom, by source keys."""
    state: dict[str, object] = {}
    tables = [r[0] for r in rig.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")]
    for table in tables:
        state[f"rows of {table}"] = rig.sql(f"SELECT t::text FROM {table} t ORDER BY 1")
        state[f"fates of {table}"] = rig.fates(table)
    state["crosswalk"] = rig.sql(
        "SELECT name, fate, rule, hash, loser, survivor FROM migrate_ledger.crosswalk ORDER BY 1, 2, 3, 4, 5, 6"
    )
    state["rejects"] = rig.sql(
        "SELECT name, rule, \"column\", convert_from(key, 'UTF8') FROM migrate_ledger.reject ORDER BY 1, 4, 2, 3"
    )
    state["constraints"] = rig.sql(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2"
    )
    return state
