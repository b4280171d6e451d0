"""Training rows: files and iterables in, canonical conversations out, each fault with its line and cure.

`rows.prompts` reads the same sources as questions to be answered.

It knows files, formats and what a trainable conversation is. It knows no tokens, no templates and no models:
whether a row fits a base's context is judged later, by those who hold the tokenizer.
"""

from inhouse.errors import BadRows, RowProblem
from inhouse.rows.formats import FACT_LABELS, FORMATS
from inhouse.rows.reading import MAX_LINE_BYTES, Report, Source, check, load, name_of, read
from inhouse.rows.row import Row, write_jsonl

__all__ = [
    "FACT_LABELS",
    "FORMATS",
    "MAX_LINE_BYTES",
    "BadRows",
    "Report",
    "Row",
    "RowProblem",
    "Source",
    "check",
    "load",
    "name_of",
    "read",
    "write_jsonl",
]
