"""`penstock`: the commands put together, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import sys

import typer

from penstock.cli.audit import app as audit
from penstock.cli.bundles import inspect, pack, verify
from penstock.cli.control import alias, apply, backup, deploy, gc, publish, remove, restore, rollback
from penstock.cli.demo import demo
from penstock.cli.doctor import doctor
from penstock.cli.experiment import app as experiment
from penstock.cli.feedback import feedback
from penstock.cli.imports import import_model
from penstock.cli.models import history, model, models
from penstock.cli.predict import predict
from penstock.cli.replay import replay
from penstock.cli.rollout import app as rollout
from penstock.cli.screen import fail
from penstock.cli.serve import serve
from penstock.cli.shadow import shadow
from penstock.cli.training import training_set
from penstock.errors import PenstockError, SettingsError

_NO, _WRONG_USE = 1, 2
_VERSIONS = "Versions: what ought to run, and what does"

app = typer.Typer(
    name="penstock",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Serve trained tabular models with the numbers of training, and a record of every answer.",
)
app.command("demo")(demo)
app.command("pack")(pack)
app.command("import")(import_model)
app.command("inspect")(inspect)
app.command("verify")(verify)
app.command("serve")(serve)
app.command("publish", rich_help_panel=_VERSIONS)(publish)
app.command("models", rich_help_panel=_VERSIONS)(models)
app.command("model", rich_help_panel=_VERSIONS)(model)
app.command("deploy", rich_help_panel=_VERSIONS)(deploy)
app.command("rollback", rich_help_panel=_VERSIONS)(rollback)
app.command("alias", rich_help_panel=_VERSIONS)(alias)
app.command("shadow", rich_help_panel=_VERSIONS)(shadow)
app.command("history", rich_help_panel=_VERSIONS)(history)
app.command("apply", rich_help_panel=_VERSIONS)(apply)
app.command("remove", rich_help_panel=_VERSIONS)(remove)
app.command("gc", rich_help_panel=_VERSIONS)(gc)
app.command("backup", rich_help_panel=_VERSIONS)(backup)
app.command("restore", rich_help_panel=_VERSIONS)(restore)
audit.command("training-set")(training_set)
audit.command("replay")(replay)
app.add_typer(audit, name="audit")
app.add_typer(rollout, name="rollout", rich_help_panel=_VERSIONS)
app.add_typer(experiment, name="experiment", rich_help_panel=_VERSIONS)
app.command("predict")(predict)
app.command("feedback")(feedback)
app.command("doctor")(doctor)


def main() -> None:
    """Run the command line; exits 0, 1 (the answer is no) or 2 (wrong use)."""
    try:
        app(standalone_mode=True)
    except SettingsError as error:
        fail(error)
        sys.exit(_WRONG_USE)
    except PenstockError as error:
        fail(error)
        sys.exit(_NO)
    except FileNotFoundError as error:
        fail(error)
        sys.exit(_WRONG_USE)
