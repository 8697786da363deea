"""What the shop's data scientist does in her notebook: three versions of a classifier, and a ranking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import pandas as pd

    from fairlead.contracts.contract import Contract

__all__ = ["BETTER", "BROKEN", "SIMPLE", "Recipe", "contract_of", "train", "winback_contract", "winback_onnx"]

_HOURS_PER_DAY = 24
_TRAINED_FROM, _TRAINED_UNTIL = "1997-01-20", "1997-09-01"


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """How a version is made."""

    version: str
    features: tuple[str, ...]
    estimator: str
    in_hours: bool = False
    note: str


SIMPLE = Recipe(
    version="v1",
    features=("orders", "days_since_first"),
    estimator="logistic regression",
    note="frequency and age of the customer",
)
_FULL = (
    "orders", "days_since_first", "days_since_last", "mean_gap",
    "order_value", "mean_value", "cds", "total_value",
)  # fmt: skip
BETTER = Recipe(
    version="v2",
    features=_FULL,
    estimator="random forest",
    note="adds rhythm and value of the purchases",
)
BROKEN = Recipe(
    version="v3",
    features=_FULL,
    estimator="random forest",
    in_hours=True,
    note="like v2, but a new export gave the trainer hours where the shop sends days",
)


def training_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The checkouts of the training months; their answers were known before the first live one."""
    return rows[(rows["date"] >= _TRAINED_FROM) & (rows["date"] < _TRAINED_UNTIL)]


def features_of(rows: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """The recipe's columns as floats, in its units."""
    table = rows[list(recipe.features)].astype(float)
    if recipe.in_hours:
        table[["days_since_last", "mean_gap"]] *= _HOURS_PER_DAY
    return table


def train(rows: pd.DataFrame, recipe: Recipe) -> tuple[Any, pd.DataFrame, pd.Series]:
    """The fitted model, and the features and answers that it was fitted on."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known = training_rows(rows)
    table, answers = features_of(known, recipe), known["bought_again"]
    model: Any
    if recipe.estimator == "random forest":
        model = RandomForestClassifier(150, max_depth=7, min_samples_leaf=20, random_state=0)
    else:
        model = make_pipeline(StandardScaler(), LogisticRegression())
    return model.fit(table, answers), table, answers


def contract_of(table: pd.DataFrame) -> Contract:
    """The contract that the training rows suggest, with three ranges stated by somebody who knows.

    A customer only grows older and richer: the largest age, order count and total of the training months are
    no bounds for the months after. For the other features the inferred range stays, and flags.
    """
    from fairlead.contracts.contract import Output
    from fairlead.contracts.infer import infer_contract

    stated = {"days_since_first": 3650.0, "orders": 10_000.0, "total_value": 1e6}
    inferred = infer_contract(table, output=Output(kind="class", classes=(0, 1)))
    fields = tuple(
        msgspec.structs.replace(field, minimum=0.0, maximum=stated[field.name], inferred=())
        if field.name in stated
        else field
        for field in inferred.inputs
    )
    return msgspec.structs.replace(inferred, inputs=fields)


def winback_onnx(rows: pd.DataFrame, top: int = 10) -> tuple[bytes, list[str]]:
    """A ranking as ONNX, and the customers that its positions name: whom to write to on a given day?

    Takes `day` (days since 1997-01-01, a number) and answers the `top` customers by expected value in the
    next 30 days: rate of buying, fading with the silence since the last purchase in units of the customer's
    own rhythm, times the mean value of an order. Everything it knows comes from the training months.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    known = training_rows(rows)
    latest = known.groupby("customer").tail(1)
    start = np.datetime64("1997-01-01")
    last_day = (latest["date"].to_numpy().astype("datetime64[D]") - start).astype(float)
    rhythm = np.clip(latest["days_since_first"].to_numpy(float) / latest["orders"].to_numpy(float), 7, 365)
    rate = latest["orders"].to_numpy(float) / np.maximum(latest["days_since_first"].to_numpy(float), 30.0)
    worth = rate * 30.0 * latest["mean_value"].to_numpy(float)

    def constant(name: str, values: Any) -> Any:
        return numpy_helper.from_array(np.asarray(values, np.float32), name)

    graph = helper.make_graph(
        [
            helper.make_node("Sub", ["day", "last_day"], ["silence"]),
            helper.make_node("Relu", ["silence"], ["silence_so_far"]),
            helper.make_node("Div", ["silence_so_far", "rhythm"], ["missed"]),
            helper.make_node("Neg", ["missed"], ["minus_missed"]),
            helper.make_node("Exp", ["minus_missed"], ["alive"]),
            helper.make_node("Mul", ["alive", "worth"], ["value"]),
            helper.make_node("TopK", ["value", "k"], ["scores", "ids"], axis=1),
        ],
        "winback",
        [helper.make_tensor_value_info("day", TensorProto.FLOAT, ["N", 1])],
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", top]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", top]),
        ],
        [
            constant("last_day", last_day[None, :]),
            constant("rhythm", rhythm[None, :]),
            constant("worth", worth[None, :]),
            numpy_helper.from_array(np.array([top], np.int64), "k"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString(), latest["customer"].tolist()


def winback_contract(customers: list[str], top: int = 10) -> Contract:
    """The data contract of the ranking, as a person would write it."""
    from fairlead.contracts.contract import Contract, Field, Output

    day = Field(
        name="day",
        type="float",
        minimum=0,
        maximum=3650,
        description="Days since 1997-01-01 for which to rank.",
    )
    return Contract(inputs=(day,), output=Output(kind="ranking", length=top, items=tuple(customers)))
