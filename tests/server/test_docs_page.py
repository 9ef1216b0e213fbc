"""The page at /docs: whole, self-contained, and deaf to what a bundle's texts would like to do to it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from html import unescape
from html.parser import HTMLParser
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.bundle.outputs import OutputSpec
from penstock.server.docs_page import DOCS_HEADERS, docs_page
from penstock.server.openapi import ModelDoc, openapi_document


def document_of(text: str = "plan", row: dict[str, Any] | None = None) -> dict[str, Any]:
    """A document of one model in which `text` stands wherever a bundle may put a text."""
    schema = {
        "type": "object",
        "properties": {text: {"type": "string", "description": text, "enum": [text], "default": text}},
        "required": [text],
    }
    model = ModelDoc(
        name="churn",
        versions=(1,),
        aliases=(text,),
        row_schema=schema,
        example={text: text} if row is None else row,
        outputs=OutputSpec(kind="classification", classes=(text, "other"), has_probabilities=True),
        description=text,
    )
    return openapi_document([model], "0.1")


class Outline(HTMLParser):
    """What a browser would see: tags with attributes, texts, and the content of style and script."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.texts: list[str] = []
        self.feed(page.decode("utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
@example("<script>alert(1)</script>")
@example("</textarea><img src=x onerror=alert(1)>")
@example("</script><script>alert(1)</script>")
@example('" autofocus onfocus="alert(1)')
@example("&lt;b&gt;")
def test_no_text_becomes_markup(text: str) -> None:
    """Whatever names, descriptions, classes and examples say, tags and attributes are those of a harmless page."""
    assert Outline(docs_page(document_of())).tags == Outline(docs_page(document_of(text))).tags


def test_texts_are_shown_as_they_are() -> None:
    """A field called <b> is shown as <b>."""
    assert "instances[].<b>" in Outline(docs_page(document_of("<b>"))).texts


def test_the_page_asks_nobody_else() -> None:
    """Nothing on the page has an address but the document's own and data:, and no tag carries script or style."""
    tags = Outline(docs_page(document_of())).tags
    addresses = {value for _, attributes in tags for name, value in attributes if name in ("src", "href", "action")}
    assert addresses == {"data:,", "/openapi.json"}
    assert [] == [name for _, attributes in tags for name, _ in attributes if name == "style" or name.startswith("on")]


def test_the_policy_allows_the_style_and_script_that_are_there() -> None:
    """The Content-Security-Policy begins with nothing and names the digests of the page's own style and script."""
    page = docs_page(document_of()).decode()
    policy = dict(
        part.strip().split(" ", 1) for part in dict(DOCS_HEADERS)[b"content-security-policy"].decode().split(";")
    )
    found = {}
    for tag in ("style", "script"):
        [content] = re.findall(f"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
        found[f"{tag}-src"] = f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
    assert found == {name: policy[name] for name in found}
    assert (policy["default-src"], policy["connect-src"]) == ("'none'", "'self'")


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8) | st.none() | st.floats(allow_nan=False), max_size=3))
@example({"it's": '$(rm) `x` "y" \\ \n'})
def test_the_curl_line_is_ready(row: dict[str, Any]) -> None:
    """A shell that gets the curl line sends exactly the example, whatever characters are in it."""
    page = docs_page(document_of(row=row)).decode()
    [line] = re.findall(
        r"<pre>(curl <span class=\"origin\">[^<]*</span>/v1/models/churn/predict.*?)</pre>", page, re.DOTALL
    )
    words = shlex.split(unescape(re.sub(r"</?span[^>]*>", "", line)))
    assert words[:4] == [
        "curl",
        "http://127.0.0.1:8080/v1/models/churn/predict",
        "-H",
        "Content-Type: application/json",
    ]
    assert words[4] == "-d"
    assert {"instances": [row]} == json.loads(words[5])


def test_each_operation_is_on_the_page() -> None:
    """Every path of the document is shown, and those without a blank in their path can be tried."""
    document = document_of()
    outline = Outline(docs_page(document))
    assert set(document["paths"]) <= set(outline.texts)
    tried = {dict(attributes)["data-path"] for _, attributes in outline.tags if dict(attributes).get("class") == "try"}
    assert {path for path in document["paths"] if "{" not in path} == tried


def test_a_page_without_models_is_a_page() -> None:
    """Before anything is served the shared routes are shown."""
    assert "/health" in Outline(docs_page(openapi_document([], "0.1"))).texts
