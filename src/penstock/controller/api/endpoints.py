"""What the control API answers: an endpoint reads its request, runs one operation in a thread, encodes the answer."""

from __future__ import annotations

from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from fastapi import Path as InPath
from fastapi import Query, Request, Response
from fastapi.responses import StreamingResponse

from penstock.audit.erase import Wanted
from penstock.bundle.manifest import manifest_of
from penstock.control.answers import PublishAnswer
from penstock.control.control import By
from penstock.control.rollout_decisions import Verb
from penstock.controller.api.download import Downloads
from penstock.controller.api.reading import Uploads, by_of, json_body, moment_of
from penstock.controller.api.threads import Threads
from penstock.controller.messages import (
    JSON_MEDIA,
    MAX_REASON_CHARS,
    PLAIN_TEXT,
    TAR_MEDIA,
    ApplyBody,
    EraseBody,
    GarbageBody,
    HealthAnswer,
    ModelsAnswer,
    MoveBody,
    Removal,
    RolloutBody,
    WeighBody,
    Why,
)
from penstock.controller.operations import Operations
from penstock.errors import BundleRefused

Model = Annotated[str, InPath(max_length=64, description="The model's name.")]
Alias = Annotated[str, InPath(max_length=64, description="`champion` or any other; stages' names are taken, too.")]
Number = Annotated[int, InPath(ge=1, le=2**31 - 1, description="The version's number.")]
Text = Annotated[
    str | None,
    Query(max_length=MAX_REASON_CHARS, pattern=PLAIN_TEXT, description="Why; kept in the history."),
]
Force = Annotated[bool, Query(description="Overrule what may be overruled; needs a reason.")]

HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class Endpoints:
    """One per API."""

    def __init__(self, operations: Operations, uploads: Uploads, downloads: Downloads) -> None:
        self._operations = operations
        self._uploads = uploads
        self._downloads = downloads
        self._threads = Threads()

    async def health(self) -> Response:
        """Whether the controller answers. It does so while the state cannot be read, too."""
        return answered(HealthAnswer(penstock=metadata.version("penstock")))

    async def models(self) -> Response:
        """All models: what their aliases mean, what each machine serves, where a rollback would go."""
        return answered(ModelsAnswer(models=await self._threads.look(self._operations.models)))

    async def model(self, name: Model) -> Response:
        """One model. Its revision is the ETag, which `If-Match` takes."""
        found = await self._threads.look(partial(self._operations.model, name))
        return answered(found, {"etag": f'"{found.revision}"'})

    async def history(
        self,
        name: Model,
        at: Annotated[str | None, Query(max_length=64, description="A moment, as in 2026-11-20T18:30:00Z.")] = None,
    ) -> Response:
        """Every event of a model, from when to when each alias meant which version and each machine answered by it;
        with `at`, what held at that moment.
        """
        moment = moment_of(at)
        return answered(await self._threads.look(partial(self._operations.history, name, moment)))

    async def publish(
        self, request: Request, name: Model, *, alias: Annotated[str | None, Query(max_length=64)] = None,
        reason: Text = None, force: Force = False,
    ) -> Response:  # fmt: skip
        """Make the bundle in the body, a `.penstock` file, the next version of its model; the same content is the
        version that it was. The first version of a model becomes its champion; `alias` is given to this one.
        """
        by = by_of(request, Why(reason=reason, force=force))
        async with self._uploads.received(request) as path:
            return answered(await self._threads.change(partial(self._published, path, name, alias, by)))

    async def move(self, request: Request, name: Model, alias: Alias) -> Response:
        """Give an alias to a version, and wait until all workers here serve it. `champion` answers calls that name no
        version: to move it is to deploy.
        """
        body = await json_body(request, MoveBody)
        by = by_of(request, body)
        return answered(await self._threads.change(partial(self._operations.move, name, alias, body.version, by)))

    async def take_away(
        self, request: Request, name: Model, alias: Alias, *, reason: Text = None, force: Force = False
    ) -> Response:
        """Take an alias away from the version that has it."""
        by = by_of(request, Why(reason=reason, force=force))
        return answered(await self._threads.change(partial(self._operations.move, name, alias, None, by)))

    async def rollback(self, request: Request, name: Model) -> Response:
        """Make the champion before this one the champion again, and wait until all workers here serve it."""
        by = by_of(request, await json_body(request, Why))
        return answered(await self._threads.change(partial(self._operations.rollback, name, by)))

    async def weigh(self, request: Request, name: Model) -> Response:
        """Begin an experiment, change the weights of its arms, or end it (null), and wait until all workers here know.
        Callers move only between the champion and the arm whose weight changed.
        """
        body = await json_body(request, WeighBody)
        by = by_of(request, body)
        return answered(await self._threads.change(partial(self._operations.weigh, name, body.experiment, by)))

    async def experiment(self, name: Model) -> Response:
        """How the last experiment of a model stands: of an A/B test each arm's difference to the champion, with an
        interval that holds at any time, and how much more it takes.
        """
        return answered(await self._threads.look(partial(self._operations.experiment, name)))

    async def start_rollout(self, request: Request, name: Model) -> Response:
        """Begin a rollout of a version: what may be champion is replayed, shadowed, and given more and more of the
        calls, as far as the evidence lets it. One at a time for each model.
        """
        body = await json_body(request, RolloutBody)
        work = partial(self._operations.start_rollout, name, body.version, body.plan, by_of(request, body))
        return answered(await self._threads.change(work))

    async def rollout(self, name: Model) -> Response:
        """How the last rollout of a model stands: its stage, its evidence, and what follows from it."""
        return answered(await self._threads.look(partial(self._operations.rollout, name)))

    async def tell_rollout(self, request: Request, name: Model, verb: Verb) -> Response:
        """Hold, resume, approve, abort or promote the rollout that is under way; say why."""
        by = by_of(request, await json_body(request, Why))
        return answered(await self._threads.change(partial(self._operations.tell_rollout, name, verb, by)))

    async def remove(
        self, request: Request, name: Model, version: Number, *, reason: Text = None, force: Force = False
    ) -> Response:
        """Remove a version that no alias names and no rollback would go back to."""
        by = by_of(request, Why(reason=reason, force=force))
        await self._threads.change(partial(self._operations.remove, name, version, by))
        return answered(Removal(model=name, version=version))

    async def apply(self, request: Request) -> Response:
        """Make the state what a declared state says; with `dry_run` only say what would change."""
        body = await json_body(request, ApplyBody)
        by = by_of(request, body)
        work = partial(self._operations.apply, body.declared, by, is_dry=body.dry_run)
        return answered(await (self._threads.look(work) if body.dry_run else self._threads.change(work)))

    async def collect_garbage(self, request: Request) -> Response:
        """Remove versions by rule, and files that nothing refers to; with `dry_run` only name them."""
        body = await json_body(request, GarbageBody)
        work = partial(self._operations.collect_garbage, by_of(request, body), is_dry=body.dry_run)
        return answered(await self._threads.change(work))

    async def seal(self, request: Request) -> Response:
        """Seal the segments of the log that no worker writes, and remove what retention lets go."""
        by = by_of(request, await json_body(request, Why))
        return answered(await self._threads.change(partial(self._operations.seal, by)))

    async def erase(self, request: Request) -> Response:
        """Take payloads of records out of the log for good, by request id or by key; the chain still proves itself."""
        body = await json_body(request, EraseBody)
        wanted = Wanted(frozenset(body.request_ids), frozenset(body.keys))
        return answered(await self._threads.change(partial(self._operations.erase, wanted, by_of(request, body))))

    async def back_up(self, request: Request) -> Response:
        """A copy of the state, the bundles and the log as one tar archive, as `penstock restore` takes it unpacked."""
        by_of(request, await json_body(request, Why))
        folder = self._downloads.fresh()
        try:
            await self._threads.change(partial(self._operations.back_up, folder))
        except BaseException:
            self._downloads.discard(folder)
            raise
        return StreamingResponse(self._downloads.parts(folder), media_type=TAR_MEDIA, headers=HEADERS)

    def _published(self, path: Path, name: str, alias: str | None, by: By) -> PublishAnswer:
        named = manifest_of(path).name
        if named != name:
            raise BundleRefused(
                f"the bundle is of the model {named!r}, the path says {name!r}: publish it under its own"
            )
        return self._operations.publish(path, by, alias)


def answered(value: msgspec.Struct, headers: dict[str, str] | None = None, status: int = 200) -> Response:
    """`value` as a JSON answer."""
    return Response(msgspec.json.encode(value), status, media_type=JSON_MEDIA, headers={**HEADERS, **(headers or {})})


def page(body: bytes, headers: dict[str, str], **more: Any) -> Response:
    """An answer that is no value of ours."""
    return Response(body, headers={**HEADERS, **headers}, **more)
