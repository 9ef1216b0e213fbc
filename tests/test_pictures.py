"""Pictures: whatever is drawn, the page is one, loads nothing, and shows every text as text."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from penstock.pictures import Line, bars, escaped, figure, lines, matrix, page, section, table

NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.integers(-5, 5).map(float)
TEXTS = st.text(max_size=20) | st.sampled_from(["<b>", '"', "'", "&amp;", "\ud800", "\x00", "</svg><script>"])


@given(
    st.dictionaries(TEXTS, st.lists(NUMBERS, min_size=3, max_size=3), max_size=4),
    st.lists(TEXTS, min_size=3, max_size=3),
)
def test_any_numbers_and_names_draw(series: dict[str, list[float]], names: list[str]) -> None:
    """Every picture is well-formed XML without a script, whatever the names and numbers are."""
    drawn = [
        bars(names, series, caption=names[0]),
        matrix(names, names, [[abs(one) for one in (1.0, 0.0, 3.0)]] * 3, caption=names[1]),
        lines(
            [Line(name, (0.0, 1.0, 2.0), values, low=(0.0,) * 3, high=(1.0,) * 3) for name, values in series.items()],
            caption=names[2],
            levels={names[0]: 0.5},
        ),
        section(names[0], table(names, [names, [None, 1, 2.5]]), note=names[1]),
    ]
    for one in drawn:
        assert "script" not in {element.tag for element in ElementTree.fromstring(one).iter()}


def test_a_page_loads_nothing() -> None:
    """The policy of a page forbids every source but its own style, whose digest it names; its title is text."""
    made = page("<script>1</script>", bars(["a"], {"x": [1.0]}, caption="c"))
    assert "<script" not in made
    assert re.search(r"default-src 'none'; style-src 'sha256-[A-Za-z0-9+/=]{44}'", made)
    assert not re.findall(r"(?:src|href|url|style)\s*[=(]", made)


def test_figures_are_for_people() -> None:
    """Integers are whole, with thousands apart; others have four digits; what is no number is a dash."""
    assert ["1,234,567", "0.1235", "1e-09", "–", "0"] == [
        figure(value) for value in (1_234_567, 0.123456, 1e-9, float("nan"), 0.0)
    ]
    assert "&lt;a b=&#x27;&quot;&#x27;&gt;\ufffd" == escaped("<a b='\"'>\x1b")
