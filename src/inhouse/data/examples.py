"""Rows to examples: token ids, and which of them carry loss."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from inhouse.errors import BadRows, RowProblem
from inhouse.rows import Row
from inhouse.text.template import ChatTemplate


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation or text as tokens. `trained[i]` says whether predicting ids[i] is learned."""

    ids: tuple[int, ...]
    trained: tuple[bool, ...]

    @property
    def loss_tokens(self) -> int:
        """Trained tokens that have something before them to be predicted from."""
        return sum(self.trained[1:])


def from_rows(rows: Iterable[Row], template: ChatTemplate, *, context: int, name: str) -> list[Example]:
    """An example for every row. Raises BadRows listing rows that do not fit the context or train nothing."""
    examples, problems = [], []
    for row in rows:
        ids, trained = template.example(row.messages)
        example = Example(tuple(ids), tuple(trained))
        if len(ids) > context:
            problems.append(
                RowProblem(
                    row.line,
                    None,
                    f"{len(ids)} tokens, the base's context holds {context}.",
                    "Shorten or split it.",
                )
            )
        elif not example.loss_tokens:
            problems.append(
                RowProblem(
                    row.line,
                    "messages",
                    "no reply token would be trained.",
                    "Add a reply, or remove the row.",
                )
            )
        examples.append(example)
    if problems:
        raise BadRows(name, problems)
    return examples
