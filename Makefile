# The only commands anyone needs. Each does all of its set-up: a Python ≥ 3.11 with venv is enough.
PYTHON ?= python3
UV := .venv/bin/uv
RUN := .venv/bin/python
DEMO ?= demo
PACKAGES := migrate mappings connectors validators reports

.PHONY: help setup demo test check lint types cover browser mariadb soak mutants bench docs clean

help:            ## list these targets
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

setup: .venv/installed ## the environment, exactly as locked

.venv/installed: pyproject.toml uv.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	test -x $(UV) || { $(PYTHON) -m venv .venv && .venv/bin/pip install --quiet 'uv==0.13.8'; }
	$(UV) sync --quiet --frozen --inexact
	@touch $@

demo: setup      ## everything on made-up legacy data, into an embedded PostgreSQL, in ./demo
	.venv/bin/migrate demo --dir $(DEMO)

check: lint types ## what can be said without running anything

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: setup
	.venv/bin/mypy

test: check browser mariadb ## all tests, two files at a time
	$(RUN) -m pytest -m 'not soak' -n 2 --dist loadfile

cover: setup browser mariadb ## the same with branch coverage, which takes longer
	rm -f .coverage .coverage.*
	.venv/bin/coverage run -m pytest -m 'not soak' -n 2 --dist loadfile
	.venv/bin/coverage combine --quiet
	.venv/bin/coverage report

browser:         ## Chromium for the tests of the HTML report, where root and apt can install it
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
		|| echo "no Chromium: the tests of the HTML report are skipped; install it, or name one in CHROMIUM"

mariadb:         ## MariaDB for the tests of relational sources, where root and apt can install it
	@command -v mariadbd >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mariadb-server >/dev/null; } \
		|| echo "no MariaDB: the tests of relational sources are skipped; install mariadb-server"

soak: setup      ## long campaigns: more kills, more damage, more hypothesis examples
	$(RUN) -m pytest -m soak

mutants: setup   ## mutation testing of the commit protocol
	$(RUN) tests/mutants.py

bench: setup     ## speed, side by side with the server's own COPY and with other tools
	$(RUN) benchmarks/bench.py

docs: setup      ## regenerate the references from the code
	$(RUN) -m mappings.schema > docs/project-file.md
	$(RUN) -m mappings.reference docs/mapping.md
	$(RUN) docs/commands.py > docs/commands.md
	$(RUN) -m reports.schema > docs/report.schema.json

clean:
	rm -rf .venv demo dist .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis
