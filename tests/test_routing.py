"""The routing table: which version answers."""

from __future__ import annotations

import pytest

from penstock.errors import NotFound
from penstock.routing import Routes, RoutingTable

CHURN = Routes({1: "sha256:a", 2: "sha256:b"}, {"champion": 1, "candidate": 2})
FRAUD = Routes({7: "sha256:c"}, {"champion": 7})


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (("churn", None, None), ("churn", 1)),
        (("churn", 2, None), ("churn", 2)),
        (("churn", None, "candidate"), ("churn", 2)),
        ((None, None, None), ("fraud", 7)),
    ],
)
def test_choose(asked: tuple[str | None, int | None, str | None], expected: tuple[str, int]) -> None:
    """A version by number, by alias, as champion, and of the default model."""
    assert expected == RoutingTable({"churn": CHURN, "fraud": FRAUD}, "fraud").choose(*asked)


def test_the_only_model_is_the_default() -> None:
    """A call that names no model means the only one."""
    assert ("fraud", 7) == RoutingTable({"fraud": FRAUD}).choose(None)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("chrun", None, None), "no model 'chrun'; there is churn, fraud"),
        (("churn", 9, None), "no version 9 of 'churn'; there is 1, 2"),
        (("churn", None, "blue"), "no alias 'blue' of 'churn'; there is candidate, champion"),
        (
            ("churn", None, "shadow"),
            "'shadow' of 'churn' is a shadow: it scores what the champion answered, and answers no call",
        ),
        ((None, None, None), "the call names no model, and server.default_model is not set; there is churn, fraud"),
    ],
)
def test_what_is_not_there_names_what_is(asked: tuple[str | None, int | None, str | None], message: str) -> None:
    """The message of a wrong name lists the right ones."""
    with pytest.raises(NotFound) as caught:
        RoutingTable({"churn": CHURN, "fraud": FRAUD}).choose(*asked)
    assert message == str(caught.value)
