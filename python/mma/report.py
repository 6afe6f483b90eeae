"""The angles of a model's layers: a table for a person, JSON and pandas for programs. Angles in degrees."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas


class Report:
    """What Regularizer.report() gives: print it for a table.

    layers: a dict a layer, such as {"name": "fc", "rows": 10, "minimal_angle_degrees": 71.2, ..., "note": "frozen"};
    None where there is no angle. left_out: the matrices that no rule takes; Regularizer.add() does.
    """

    def __init__(self, table: str, text: str) -> None:
        self._table, self._text = table, text
        content = json.loads(text)
        self.layers: list[dict[str, Any]] = content["layers"]
        self.left_out: list[dict[str, Any]] = content["left_out"]

    def __str__(self) -> str:
        return self._table

    def __repr__(self) -> str:
        return self._table

    def json(self) -> str:
        """{"layers": [...], "left_out": [...]}."""
        return self._text

    def to_pandas(self) -> pandas.DataFrame:
        """A row a layer, by its name; needs pandas."""
        import pandas

        return pandas.DataFrame(self.layers).set_index("name") if self.layers else pandas.DataFrame()
