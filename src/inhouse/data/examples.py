"""Rows to examples: token ids, and which of them carry loss."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from inhouse.errors import BadRows, InvalidRequest, RowProblem
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
    """Every row's examples: one, or one for each reply where the template rewrites earlier ones.

    Raises BadRows listing rows that do not fit the context, train nothing, or are refused by the template.
    """
    examples: list[Example] = []
    problems: list[RowProblem] = []
    for row in rows:
        try:
            made = [Example(tuple(ids), tuple(on)) for ids, on in template.examples(row.messages, row.tools)]
        except InvalidRequest as e:
            problems.append(RowProblem(row.line, None, e.message, "Or leave the row out."))
            continue
        examples += made
        longest = max(len(example.ids) for example in made)
        if longest > context:
            problems.append(
                RowProblem(
                    row.line,
                    None,
                    f"{longest} tokens, the base's context holds {context}.",
                    "Shorten or split it.",
                )
            )
        elif not all(example.loss_tokens for example in made):
            problems.append(
                RowProblem(
                    row.line,
                    "messages",
                    "no reply token would be trained.",
                    "Add a reply, or remove the row.",
                )
            )
    if problems:
        raise BadRows(name, problems)
    return examples
