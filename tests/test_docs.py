"""The references are what the code says, and every command is in them."""

import importlib.util
from pathlib import Path

import click

from migrate.assess import MINUTES
from migrate.checksum import FORMS
from migrate.cli import main

DOCS = Path(__file__).parent.parent / "docs"


def test_the_command_reference_is_current() -> None:
    spec = importlib.util.spec_from_file_location("commands", DOCS / "commands.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / "commands.md").read_text() == module.reference(), "run `make docs`"


def test_every_command_has_help_and_says_what_it_does() -> None:
    def walk(group: click.Group) -> None:
        for name, command in group.commands.items():
            assert command.help, name
            if isinstance(command, click.Group):
                walk(command)

    walk(main)


def test_the_readme_names_only_commands_that_exist() -> None:
    text = (DOCS.parent / "README.md").read_text()
    block = text.split("## Use it")[1].split("A project file")[0]
    for line in block.splitlines():
        words = line.split("#")[0].split()
        if words[:1] == ["migrate"]:
            group: click.Command = main
            for word in words[1:]:
                if isinstance(group, click.Group):
                    assert word in group.commands, line
                    group = group.commands[word]


def test_the_canonical_forms_are_documented_as_they_are() -> None:
    text = (DOCS / "verification.md").read_text()
    assert "\n".join(f"| {form.types} | {form.rule} |" for form in reversed(FORMS)) in text


def test_the_effort_of_an_assessment_is_documented_as_it_is() -> None:
    text = (DOCS / "assess.md").read_text()
    assert "\n".join(f"| {kind} | {minutes} | {what} |" for kind, (minutes, what) in MINUTES.items()) in text
