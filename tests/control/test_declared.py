"""A declared state: what it changes, that it changes nothing twice, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from states import ANA, control_of, published, state_of

from penstock.control.changes import ModelConfig, Moved, Rules
from penstock.control.control import Control
from penstock.control.declared import Configure, Move, differences, read_declared, steps_to
from penstock.control.state import State
from penstock.errors import ControlError, SettingsError, Unknown
from penstock.routing import Decision, FallbackOptions, ModelLimits, ModelOptions
from penstock.testing import MemoryStore

STATE = state_of(
    published(1), Moved(alias="champion", after=1), published(2), published(3), Moved(alias="blue", after=2)
)  # fmt: skip


def test_everything_that_can_be_declared() -> None:
    """Aliases, laziness, decision, fallback, limits and rules; yes and no are texts, as in YAML 1.2."""
    declared = read_declared(
        """
models:
  churn:
    aliases: {champion: 3, candidate: 2, blue: null}
    lazy: true
    decision: {label: yes, otherwise: no, threshold: 0.4, abstain: [0.3, 0.5]}
    fallback: {kind: version, version: 1}
    limits: {queue_rows: 5000, breaker_failures: 3}
    rules: {Production: {floors: {roc_auc: 0.85}, max_loss: {roc_auc: 0.01}}}
"""
    )
    config = ModelConfig(
        options=ModelOptions(
            is_lazy=True,
            decision=Decision(label="yes", otherwise="no", threshold=0.4, abstain=(0.3, 0.5)),
            fallback=FallbackOptions(kind="version", version=1),
            limits=ModelLimits(queue_rows=5000, breaker_failures=3),
        ),
        rules={"champion": Rules(floors={"roc_auc": 0.85}, max_loss={"roc_auc": 0.01})},
    )
    expected = [
        Configure("churn", ModelConfig(), config),
        Move("churn", "champion", 1, 3),
        Move("churn", "candidate", None, 2),
        Move("churn", "blue", 2, None),
    ]
    assert expected == steps_to(declared, STATE)


def test_what_is_not_said_stays() -> None:
    """An empty entry changes nothing; null takes an option back."""
    assert [] == steps_to(read_declared("models: {churn: }"), STATE)
    assert [] == steps_to(read_declared("models: {churn: {aliases: {champion: 1}}}"), STATE)
    assert [] == steps_to(read_declared("models: {}"), STATE)
    lazy = ModelConfig(options=ModelOptions(is_lazy=True, fallback=FallbackOptions(kind="abstain")))
    [step] = steps_to(read_declared("models: {churn: {fallback: {kind: abstain}, lazy: true}}"), STATE)
    assert Configure("churn", ModelConfig(), lazy) == step


def test_versions_by_name() -> None:
    """The latest version, and a content digest or its beginning."""
    text = f"models: {{churn: {{aliases: {{champion: latest, blue: '{published(1).digest}'}}}}}}"
    assert [Move("churn", "champion", 1, 3), Move("churn", "blue", 2, 1)] == steps_to(read_declared(text), STATE)


def test_differences_are_told() -> None:
    """Each difference says the model, what it is, and its JSON before and after."""
    text = "models: {churn: {lazy: true, rules: {champion: {floors: {f1: 0.5}}}, aliases: {champion: 2, blue: null}}}"
    told = differences(steps_to(read_declared(text), STATE))
    assert ["lazy", "rules", "alias champion: version 1 → version 2", "alias blue: version 2 → nothing"] == [
        one.what for one in told
    ]
    assert (b"false", b"true") == (bytes(told[0].before), bytes(told[0].after))
    assert {"champion": {"floors": {"f1": 0.5}}} == msgspec.json.decode(told[1].after)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modells: {}", "unknown key `modells`: did you mean `models`?"),
        ("models: {churn: {aliasses: {}}}", "models.churn: unknown key `aliasses`: did you mean `aliases`?"),
        (
            "models: {churn: {decision: {treshold: 1}}}",
            "models.churn.decision: unknown key `treshold`: did you mean `thr",
        ),
        (
            "models: {churn: {rules: {champion: {floor: {}}}}}",
            "models.churn.rules.champion: unknown key `floor`: did you",
        ),
        (
            "models: {churn: {fallback: {kind: constant, prediction: {lable: x}}}}",
            "fallback.prediction: unknown key `labl",
        ),
        (
            "models: {churn: {zzz: 1}}",
            "unknown key `zzz`: there is aliases, decision, fallback, key, lazy, limits, rules",
        ),
        ("models: {churn: {aliases: {champion: 0}}}", "models.churn: Expected `int` >= 1"),
        ("models: {churn: {aliases: {champion: 1.5}}}", "models.churn: Expected `int | str | null`, got `float`"),
        ("models: {churn: {lazy: yes}}", "models.churn: Expected `bool`, got `str` - at `$.lazy`"),
        (
            "models: {churn: {decision: {label: 1, otherwise: a, threshold: 0.5}}}",
            "look like numbers or truth values go",
        ),
        (
            "models: {churn: {rules: {champion: {floors: {f1: .nan}}}}}",
            "rules.champion.floors.f1: expected a finite number",
        ),
        ("models: {churn: {decision: {label: a, otherwise: b, threshold: .5, abstain: [.inf, 1]}}}", "a finite number"),
        ("models: {churn: {rules: {champion: {max_loss: {f1: -1}}}}}", "models.churn: Expected `float` >= 0"),
        ("models: {churn: {aliases: {Archived: 1}}}", "'Archived' is the absence of an alias"),
        ("models: {churn: {aliases: {champion: 1, Production: 2}}}", "'champion' is there twice, once as 'Production'"),
        ("models: {churn: {aliases: {'a b': 1}}}", "'a b' cannot name an alias"),
        ("models: {churn: {}, churn: {}}", "line 1, column 21: the key `churn` stands twice"),
        ("models: [churn]", "expected `models`, a mapping of names"),
        ("models: {churn: 3}", "models.churn: Expected `object`, got `int`"),
        ("", "expected a mapping with `models`, got NoneType: write `models:` at the top"),
        ("models: {a: &x {}, b: *x}", "aliases are not read here"),
        ("models: {", "not readable YAML in line 1"),
        ("models: !!python/object/apply:os.system [ls]", "not readable YAML"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    """Unknown keys with the nearest right one, values that do not fit with their place, and YAML that is none."""
    with pytest.raises(SettingsError) as refused:
        read_declared(text)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: {chrun: {}}", "no model 'chrun'; there is churn"),
        ("models: {churn: {aliases: {champion: 9}}}", "no version 9 of 'churn'"),
        ("models: {churn: {aliases: {champion: newest}}}", "'newest' is no version of 'churn'"),
    ],
)
def test_what_is_not_there_is_named(text: str, said: str) -> None:
    """A model, version or digest that there is not changes nothing."""
    with pytest.raises(Unknown, match=said):
        steps_to(read_declared(text), STATE)


def entries() -> st.SearchStrategy[dict[str, object]]:
    """Entries of a model with three versions."""
    versions = st.sampled_from([1, 2, 3, "latest", "sha256:bbbbbbbb"])
    optional = {
        "aliases": st.fixed_dictionaries({}, optional={"champion": versions, "blue": versions | st.none()}),
        "lazy": st.booleans(),
        "fallback": st.none() | st.just({"kind": "abstain"}) | st.just({"kind": "version", "version": 2}),
        "limits": st.none() | st.fixed_dictionaries({"queue_rows": st.integers(1, 9)}),
        "rules": st.dictionaries(
            st.sampled_from(["champion", "Staging"]),
            st.builds(lambda floor: {"floors": {"f1": floor}}, st.floats(0, 1)),
        ),
    }
    return st.fixed_dictionaries({}, optional=optional)


@given(first=entries(), second=entries())
def test_applying_it_twice_changes_nothing_more(first: dict[str, object], second: dict[str, object]) -> None:
    """After a declared state was applied nothing differs from it; the other one brings the other state."""
    control = control_of(MemoryStore())
    for content in ("a" * 8, "b" * 8, "c" * 8):
        control.publish(Path("churn") / content, ANA)
    for entry in (first, second, first):
        text = msgspec.yaml.encode({"models": {"churn": entry}}).decode()
        declared = read_declared(text)
        apply(control, steps_to(declared, control.state()))
        assert [] == steps_to(declared, control.state())


def apply(control: Control, steps: list[Configure | Move]) -> None:
    """Take each step."""
    for step in steps:
        if isinstance(step, Configure):
            control.configure(step.model, step.after, ANA)
        else:
            control.move(step.model, step.alias, step.after, ANA)


def test_states_are_left_alone_by_a_refusal() -> None:
    """A file of which one entry is wrong is refused whole, before anything is changed."""
    before: State = STATE
    with pytest.raises(ControlError):
        steps_to(read_declared("models: {churn: {aliases: {champion: 2}}, iris: {}}"), before)
    assert {"champion": 1, "blue": 2} == STATE.model("churn").aliases
