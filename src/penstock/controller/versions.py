"""Which version of a model is meant, and its bundle on this machine: for jobs, with or without a running server."""

from __future__ import annotations

from pathlib import Path

import msgspec

from penstock.control.aliases import LATEST, alias_of, version_of
from penstock.controller.assemble import control_plane
from penstock.routing import Decision
from penstock.settings import Settings


class FoundVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version: its bundle lies at `path`, verified. `decision` is what is declared of the model now."""

    number: int
    digest: str
    path: Path
    decision: Decision | None


def find_version(settings: Settings, model: str, spelling: str) -> FoundVersion:
    """The version that is meant by a number, `latest`, an alias or a content digest. Only reads the state, beside a
    controller or without one; a bundle that is not on this machine yet is fetched. Raises ControlError (Unknown names
    what there is) and BundleRefused.
    """
    with control_plane(settings) as plane:
        state = plane.control.state().model(model)
        if spelling.isdecimal():
            number = int(spelling)
        elif spelling != LATEST and not spelling.startswith("sha256:") and alias_of(spelling) in state.aliases:
            number = state.aliases[alias_of(spelling) or spelling]
        else:
            digests = {one: state.versions[one].published.digest for one in state.present}
            number = version_of(model, digests, spelling)
        published = state.version(number).published
        return FoundVersion(
            number=number,
            digest=published.digest,
            path=plane.repository.local(published.seal),
            decision=state.config.options.decision,
        )
