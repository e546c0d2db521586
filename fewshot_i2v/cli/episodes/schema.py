"""`fewshot-i2v episodes schema`: the JSON schema of split files, for editors."""

from __future__ import annotations

from fewshot_i2v.cli._common import echo_json
from fewshot_i2v.cli._help import help_command
from fewshot_i2v.data.splits.split_fields import split_schema


@help_command(
    "Write the JSON schema of split files, for editors.",
    ("episodes schema > split.json", "for an editor"),
)
def command() -> None:
    """Write the JSON schema (draft 2020-12) of split files.

    With it, editors complete keys, explain them, and mark mistakes. For the YAML language server,
    write it to a file and begin a split file with `# yaml-language-server: $schema=split.json`.
    """
    echo_json(split_schema())
