"""The control API's page at /docs in a real browser, and what a page of another origin can do to the API: nothing."""

from __future__ import annotations

import json
from pathlib import Path

from browser import SEND, browser_at
from penstock.controller.api import api_of
from planes import ANA, plane_of, served, settings_of

FETCH = """
fetch("%s/v1/apply", {
  method: "POST", mode: "%s", headers: {"Content-Type": "%s"}, body: '{"declared": "models: {iris: {lazy: true}}"}',
})
  .then(answer => `${answer.type} ${answer.status}`, error => "refused")
"""


def test_the_page_and_a_strangers(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Its own page may ask and apply; another origin's can neither read nor change anything."""
    settings = settings_of(tmp_path / "home")
    with (
        browser_at(tmp_path / "profile") as browser,
        plane_of(settings) as plane,
        served(api_of(plane.operations, settings)) as url,
        served(api_of(plane.operations, settings_of(tmp_path / "other"))) as other,
    ):
        plane.operations.publish(bundles["iris"], ANA)
        value = browser.page(f"{url}/docs")
        shown = value(SEND % "/v1/models")
        assert ["iris"] == [model["name"] for model in json.loads(shown.partition("\n\n")[2])["models"]]
        assert value(SEND % "/v1/gc").startswith("200 OK")
        assert [] == value("window.refusals")
        before = plane.operations.history("iris").events
        value = browser.page(f"{other}/nowhere")
        assert "refused" == value(FETCH % (url, "cors", "application/json"))
        assert value(FETCH % (url, "no-cors", "text/plain")) in ("opaque 0", "refused")
        assert before == plane.operations.history("iris").events
        value = browser.page(f"{url}/docs")
        assert "basic 200" == value(FETCH % (url, "cors", "application/json"))
        assert before != plane.operations.history("iris").events
