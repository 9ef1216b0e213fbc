"""`serve`: the server."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.screen import console, print_table

if TYPE_CHECKING:
    from penstock.settings import Settings
    from penstock.started import Started


def serve(
    *,
    bundle: Annotated[
        list[Path] | None,
        typer.Option("--bundle", help="A bundle to serve; may be given several times. [default: what is published]"),
    ] = None,
    home: Annotated[str | None, typer.Option(help="Where data live. [default: ./penstock-home]")] = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="The port; 0 takes a free one. [default: 8080]")] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help="The port of gRPC; 0 takes a free one. [default: no gRPC]")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Worker processes that share the port; 0: serve in this one. [default: one a core]"),
    ] = None,
    default_model: Annotated[str | None, typer.Option(help="The model of calls that name none.")] = None,
    watch: Annotated[
        str | None, typer.Option(help="A directory: bundles that appear in it as NAME/ANYTHING are published.")
    ] = None,
    watch_config: Annotated[
        str | None, typer.Option(help="A declared state, as `penstock apply` takes it, applied whenever it changes.")
    ] = None,
    insecure: Annotated[
        bool | None, typer.Option("--insecure", help="Listen where others can reach it, without authentication.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A settings file. [default: ./penstock.toml, if there]")] = None,
    print_settings: Annotated[
        bool, typer.Option("--print-settings", help="Print every setting and where it came from, and exit.")
    ] = False,
) -> None:
    """Serve over HTTP; every answer is in the audit log before it leaves. Stop with Ctrl-C or SIGTERM.

    Without --bundle what is published to the home directory is served, and `penstock deploy` and its kin change it
    while it runs; with it these bundles are, and nothing changes them.

    Examples: `penstock serve --bundle bundles/churn-1 --port 8080`, `penstock serve --home /var/lib/penstock`
    """
    from penstock.settings import entries, from_environment

    flags = {
        "home": home,
        "server.host": host,
        "server.port": port,
        "server.grpc_port": grpc_port,
        "server.default_model": default_model,
        "server.insecure": insecure,
        "server.workers": workers,
        "watch.directory": watch,
        "watch.config": watch_config,
    }
    loaded = from_environment(flags={key: value for key, value in flags.items() if value is not None}, file=config)
    if print_settings:
        rows = [(entry.key, entry.value, entry.origin, entry.meaning) for entry in entries(loaded)]
        print_table("", rows, columns=("setting", "value", "from", "meaning"))
        return
    _serve(loaded.settings, bundle or [])


def _serve(settings: Settings, bundles: list[Path]) -> None:
    """Serve in this process, or by workers, until told to stop."""
    from penstock.cores import workers_of
    from penstock.logs import set_up_logs
    from penstock.notify import Notify
    from penstock.settings import notify_environment

    is_alone = workers_of(settings.server.workers) == 0
    set_up_logs(settings.log, 0 if is_alone else None)
    if not is_alone:
        from penstock.workers.supervisor import supervise as run
    else:
        from penstock.app import serve as run
    announce = partial(_announce, home=None if bundles else settings.home)
    run(settings, bundles, on_start=announce, notify=Notify(*notify_environment()))


def _announce(started: Started, *, home: str | None) -> None:
    """Say what serves, and where; `home` is that of the control plane, None without one."""
    screen = console()
    by = "" if not started.workers else f" by {started.workers} worker{'s' if started.workers > 1 else ''}"
    screen.print(f"penstock serves at [bold]{started.url}[/]{by}   (docs: {started.url}/docs)")
    if started.grpc is not None:
        screen.print(f"gRPC at [bold]{started.grpc}[/]")
    if started.control is not None:
        screen.print(f"control API at [bold]{started.control}[/]")
    elif home is not None:
        screen.print(_UNGOVERNED if started.workers else _ALONE)
    for model in started.models:
        where = ", in a process of its own" if model.is_apart else ""
        cost = f"{model.cost_us:,.0f} µs a row, {model.rows_64_us:,.0f} µs for 64"
        size = f"{model.memory_bytes / 1e6:,.0f} MB"
        screen.print(f"  {model.name} version {model.version}, {model.flavour}{where}: {cost}, {size}")
    screen.print(f"memory of each process that serves: {started.worker_bytes / 1e6:,.0f} MB")
    screen.print(f"records: {started.segment}")
    if started.models:
        screen.print(started.models[0].curl, markup=False)
    else:
        screen.print(f"nothing is published yet: penstock publish BUNDLE --home {home}", markup=False)


_ALONE = "without workers there is no controller: what is deployed meanwhile is served from the next start on"
_UNGOVERNED = "the controller has yet to answer; what was deployed last is served"
