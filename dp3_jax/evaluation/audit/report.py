"""The files of an audit, and what is printed."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from dp3_jax.common import files
from dp3_jax.evaluation.audit import console_table, page


def write(result: Mapping[str, Any], data: pathlib.Path, html: pathlib.Path) -> str:
    """Writes audit.json and audit.html, each at once; returns the JSON.

    Raises:
      UserError: one of them cannot be written.
    """
    text = json.dumps(result, indent=2)
    files.write_bytes(data, (text + "\n").encode())
    files.write_bytes(html, page.render(result).encode())
    return text


def table(result: Mapping[str, Any], folder: pathlib.Path) -> str:
    """What is printed: the table, and where the report is."""
    return f"{console_table.format_report(result)}\nreport: {folder / 'audit.html'}"
