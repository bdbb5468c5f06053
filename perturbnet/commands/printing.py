"""How commands print: tables and facts for people, the same as JSON for machines.

Every command with `--json FILE` keeps one rule: FILE gets the JSON beside what is printed; `-` prints the
JSON on standard output and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

TO_STDOUT = "-"
JSON_HELP = "Also write it as JSON; '-' prints that instead."


def write_json(data: object, json_file: str | None) -> None:
    """Write what `--json` asked for; nothing where it asked for nothing."""
    if json_file is not None:
        write_text(json.dumps(data, indent=2, ensure_ascii=False), json_file)


def write_text(text: str, json_file: str | None) -> None:
    """The same of a text that is JSON already.

    Raises:
        OutputError: the file cannot be written.

    """
    from perturbnet.errors import OutputError

    if json_file == TO_STDOUT:
        click.echo(text)
    elif json_file is not None:
        try:
            Path(json_file).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{json_file} was not written: {error.strerror}") from None


def print_facts(facts: Mapping[str, Any], json_file: str | None = None) -> None:
    """Print names and values, a line each, a list with commas; then what `--json` asked for."""
    if json_file != TO_STDOUT:
        for name, value in facts.items():
            click.echo(f"{name:<15} {', '.join(value) if isinstance(value, list) else value}")
    write_json(facts, json_file)


def print_table(rows: Sequence[Mapping[str, str | None]], columns: Sequence[str]) -> None:
    """Print rows under the names of `columns`."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(row[column] if row[column] is not None else "–" for column in columns))
    Console().print(table)
