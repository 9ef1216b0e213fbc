"""Settings: layers, origins, refusals, and the documentation made from them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import SettingsError
from penstock.routing import Constant, FallbackOptions
from penstock.settings import (
    Loaded,
    Settings,
    WebhookSettings,
    entries,
    load_settings,
    markdown_table,
    masked,
)

DOCS = Path(__file__).parents[1] / "docs" / "settings.md"


def loaded_from(tmp_path: Path, toml: str) -> Loaded:
    file = tmp_path / "penstock.toml"
    file.write_text(toml, encoding="utf-8")
    return load_settings(file, {}, {})


def refusal(toml: str, tmp_path: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        loaded_from(tmp_path, toml)
    return str(caught.value).replace(str(tmp_path), "")


def test_nothing_given_is_the_defaults() -> None:
    """With no file, variables or flags, every value is the default and says so."""
    loaded = load_settings(None, {"PATH": "/bin"}, {})
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}


def test_later_layers_win(tmp_path: Path) -> None:
    """A flag beats a variable, a variable beats the file, the file beats the default; each origin is kept."""
    file = tmp_path / "penstock.toml"
    file.write_text("home = '/file'\n[server]\nport = 1\nhost = 'file'\nmax_rows = 5\n")
    environ = {"PENSTOCK_SERVER__PORT": "2", "PENSTOCK_SERVER__HOST": "environ", "HOME": "/root"}
    loaded = load_settings(file, environ, {"server.port": 3, "server.max_rows": None})
    server = loaded.settings.server
    assert (loaded.settings.home, server.host, server.port, server.max_rows) == ("/file", "environ", 3, 5)
    assert [loaded.origins[f"server.{name}"] for name in ("port", "host", "max_rows", "drain_s")] == [
        "flag --port",
        "environment PENSTOCK_SERVER__HOST",
        "penstock.toml",
        "default",
    ]


def test_home_has_a_variable_without_section() -> None:
    """PENSTOCK_HOME is the home."""
    assert load_settings(None, {"PENSTOCK_HOME": "/srv/penstock"}, {}).settings.home == "/srv/penstock"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("SERVER__PORT", "0", 0),
        ("SERVER__INSECURE", "true", True),
        ("SERVER__INSECURE", "0", False),
        ("SERVER__DRAIN_S", "2.5", 2.5),
        ("SERVER__DEFAULT_MODEL", "churn", "churn"),
        ("SERVER__DEFAULT_MODEL", "", None),
        ("SERVER__CORS_ORIGINS", "http://a, https://b:3", ("http://a", "https://b:3")),
        ("SERVER__CORS_ORIGINS", "", ()),
        ("AUDIT__DURABILITY", "strict", "strict"),
        ("SKLEARN__TRUSTED", "own.Scaler", ("own.Scaler",)),
    ],
)
def test_variables_are_read_by_type(name: str, text: str, expected: object) -> None:
    """A variable's text becomes the number, truth value or list that the setting is."""
    loaded = load_settings(None, {f"PENSTOCK_{name}": text}, {})
    section, _, leaf = name.lower().partition("__")
    assert getattr(getattr(loaded.settings, section), leaf) == expected


@given(
    port=st.integers(0, 65535), drain_s=st.floats(0, 3600), trusted=st.lists(st.from_regex(r"[a-z.]+", fullmatch=True))
)
def test_a_variable_means_what_a_flag_means(port: int, drain_s: float, trusted: list[str]) -> None:
    """The same value given as text in a variable and typed in a flag gives the same settings."""
    environ = {
        "PENSTOCK_SERVER__PORT": str(port),
        "PENSTOCK_SERVER__DRAIN_S": repr(drain_s),
        "PENSTOCK_SKLEARN__TRUSTED": ",".join(trusted),
    }
    flags = {"server.port": port, "server.drain_s": drain_s, "sklearn.trusted": trusted}
    assert load_settings(None, environ, {}).settings == load_settings(None, {}, flags).settings


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (
            "[server]\nprot = 9",
            "Expected a setting that exists, got `server.prot` - at /penstock.toml line 2. Did you mean `server.port`?",
        ),
        (
            "# my file\nport = 9",
            "Expected a setting that exists, got `port` - at /penstock.toml line 2. Did you mean `server.port`?",
        ),
        (
            "[servr]\nport = 9",
            "Expected a setting that exists, got `servr` - at /penstock.toml line 1. Did you mean `server`?",
        ),
        (
            "[server]\nport = '9'",
            "Expected a whole number from 0 to 65535, got '9' - at `server.port` (/penstock.toml line 2). "
            "Correct it, or remove it for the default 8080.",
        ),
        (
            "[log]\nlevel = 'loud'",
            "Expected one of `debug`, `error`, `info`, `warning`, got 'loud' - at `log.level` (/penstock.toml line 2). "
            "Correct it, or remove it for the default 'info'.",
        ),
        (
            "server = 9",
            "Expected a table [server], got 9 - at /penstock.toml line 1. "
            "Write [server] on a line of its own and its settings below it.",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(toml: str, message: str, tmp_path: Path) -> None:
    """The refusal says what was expected, what came, in which file and line, and what to do."""
    assert message == refusal(toml, tmp_path)


@pytest.mark.parametrize(
    "toml",
    [
        "[server]\nport = true",
        "[server]\nport = 65536",
        "[server]\nport = 80.5",
        "[server]\ndrain_s = nan",
        "[server]\ndrain_s = inf",
        "[server]\ninsecure = 1",
        "[server]\ncors_origins = ['*']",
        "[server]\ncors_origins = 'http://a'",
        "[server]\ndefault_model = 'Not A Name'",
        "[server]\nhost = ''",
        "[audit]\nsegment_bytes = 1",
        "home = 2026-01-01",
    ],
)
def test_wrong_types_and_ranges_in_a_file_are_refused(toml: str, tmp_path: Path) -> None:
    """In a file nothing is converted: a truth value is no number, a text no list, and bounds hold."""
    setting = toml.rpartition("\n")[2].partition(" ")[0]
    assert f"{setting}` (/penstock.toml line {len(toml.splitlines())})" in refusal(toml, tmp_path)


def test_every_unknown_key_in_any_section_is_refused(tmp_path: Path) -> None:
    """A key that resembles nothing is refused with the list of what there is."""
    for toml in ("zzz = 1", "[zzz]\na = 1", "[server]\nzzz = 1", "[log.zzz]\na = 1"):
        assert " Known are: audit" in refusal(toml, tmp_path)


def test_the_collectors_own_variable_counts() -> None:
    """OTEL_EXPORTER_OTLP_ENDPOINT gives the endpoint and is named as its origin; our own variable wins."""
    theirs = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    loaded = load_settings(None, theirs, {})
    assert "http://collector:4318" == loaded.settings.telemetry.otlp_endpoint
    assert "environment OTEL_EXPORTER_OTLP_ENDPOINT" == loaded.origins["telemetry.otlp_endpoint"]
    for ours in ("http://other:4318", ""):
        both = load_settings(None, {**theirs, "PENSTOCK_TELEMETRY__OTLP_ENDPOINT": ours}, {})
        assert (ours or None) == both.settings.telemetry.otlp_endpoint
    assert load_settings(None, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, {}).settings.telemetry.otlp_endpoint is None


def test_a_collector_with_a_password_in_its_address_is_refused() -> None:
    """Addresses are shown; what is secret goes into the exporter's headers."""
    with pytest.raises(SettingsError, match=r"http://\*\*\*@collector:4318.*OTEL_EXPORTER_OTLP_ENDPOINT") as caught:
        load_settings(None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://me:secret@collector:4318"}, {})
    assert "secret" not in str(caught.value)


def test_an_unknown_variable_is_refused() -> None:
    """A PENSTOCK_ variable that is no setting is refused with the nearest right one."""
    with pytest.raises(SettingsError, match=r"got `PENSTOCK_SERVER_PORT` .* Did you mean `PENSTOCK_SERVER__PORT`\?"):
        load_settings(None, {"PENSTOCK_SERVER_PORT": "8080"}, {})


def test_an_unknown_flag_is_refused() -> None:
    """A flag's key that is no setting is refused, also when it was not given."""
    with pytest.raises(SettingsError, match=r"Did you mean `server.port`\?"):
        load_settings(None, {}, {"server.prot": None})


def test_variables_of_a_kubernetes_service_are_left_alone() -> None:
    """What Kubernetes sets in each container for services named penstock and penstock-server stops no start."""
    environ = {
        "PENSTOCK_SERVICE_HOST": "10.0.0.1",
        "PENSTOCK_SERVICE_PORT_HTTP": "8080",
        "PENSTOCK_PORT": "tcp://10.0.0.1:8080",
        "PENSTOCK_PORT_8080_TCP_ADDR": "10.0.0.1",
        "PENSTOCK_SERVER_PORT": "tcp://10.0.0.1:8080",
        "PENSTOCK_SERVER_PORT_8080_TCP": "tcp://10.0.0.1:8080",
    }
    assert load_settings(None, environ, {}).settings == Settings()


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    """A file that is missing, not TOML or not UTF-8 is an error that names it."""
    with pytest.raises(SettingsError, match=r"none\.toml cannot be read: No such file"):
        load_settings(tmp_path / "none.toml", {}, {})
    assert refusal("[server", tmp_path).startswith("The settings file /penstock.toml is not TOML in UTF-8: ")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"home = '\xff'")
    with pytest.raises(SettingsError, match=r"binary\.toml is not TOML in UTF-8"):
        load_settings(binary, {}, {})


@given(
    st.dictionaries(
        st.sampled_from(["home", "server", "log", "PENSTOCK_SERVER__PORT", "PENSTOCK_LOG__LEVEL", "PENSTOCK_X"]),
        st.text(max_size=20),
    )
)
def test_any_environment_gives_settings_or_a_settings_error(environ: dict[str, str]) -> None:
    """Whatever texts the variables hold, the outcome is settings or a SettingsError."""
    try:
        settings = load_settings(None, environ, {}).settings
    except SettingsError:
        return
    assert 0 <= settings.server.port <= 65535


def test_settings_are_frozen() -> None:
    """Nobody changes settings after they are made."""
    with pytest.raises(AttributeError):
        Settings().server.port = 1  # type: ignore[misc]


def test_entries_show_every_setting_once() -> None:
    """What --print-settings shows has each setting with its value, origin and meaning."""
    shown = {entry.key: entry for entry in entries(load_settings(None, {"PENSTOCK_SERVER__PORT": "9"}, {}))}
    leaves = [
        f"{name}.{leaf}" if leaf else name
        for name, section in msgspec.to_builtins(Settings()).items()
        if name != "home"
        for leaf in section or [""]
    ]
    assert list(shown) == ["home", *leaves]
    port = shown["server.port"]
    assert (port.value, port.origin) == (9, "environment PENSTOCK_SERVER__PORT")
    assert all(entry.meaning.endswith(".") for entry in shown.values())


def test_secrets_in_tables_are_masked() -> None:
    """A receiver's secret is not shown, whatever the receiver is called; its URL is."""
    hooks = {"ops": WebhookSettings(url="https://ops.example/x", secret="sixteen or longer")}
    assert {"ops": {"url": "https://ops.example/x", "secret": "***", "kinds": ()}} == masked("webhooks", hooks)


def test_secrets_are_masked() -> None:
    """A value whose key says that it is a secret is not shown; one that is not set shows as not set."""
    assert [masked("s3.secret", "x"), masked("db.password", None), masked("server.port", 8080)] == ["***", None, 8080]


def test_the_documentation_is_up_to_date() -> None:
    """The table in docs/settings.md is the one that the module generates."""
    written = DOCS.read_text(encoding="utf-8").partition("<!-- settings: begin -->\n")[2]
    assert written.partition("<!-- settings: end -->")[0] == markdown_table()


def test_a_process_reads_its_environment_and_working_directory(tmp_path: Path) -> None:
    """from_environment takes penstock.toml of the working directory and the process's own variables."""
    (tmp_path / "penstock.toml").write_text("[server]\nport = 7\nmax_rows = 7\n")
    code = (
        "from penstock.settings import from_environment\n"
        "server = from_environment(flags={'server.drain_s': 1}).settings.server\n"
        "print(server.port, server.max_rows, server.drain_s)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PENSTOCK_SERVER__PORT": "8"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "8 7 1.0\n"


def test_fallbacks_are_tables_of_the_file(tmp_path: Path) -> None:
    """Each model has a table of its own; what is in it is kept as it was written."""
    toml = "[fallback.churn]\nkind = 'constant'\nprediction = { label = 1, probabilities = { 0 = 0.5, 1 = 0.5 } }\n"
    loaded = loaded_from(tmp_path, toml + "[fallback.iris]\nkind = 'version'\nversion = 2\n")
    expected = {
        "churn": FallbackOptions(kind="constant", prediction=Constant(label=1, probabilities={"0": 0.5, "1": 0.5})),
        "iris": FallbackOptions(kind="version", version=2),
    }
    assert (expected, "penstock.toml") == (loaded.settings.fallback, loaded.origins["fallback"])


def test_a_fallback_that_does_not_fit_says_what_is_wrong(tmp_path: Path) -> None:
    """The message names the place inside the table, and no variable can give one."""
    assert (
        "Expected a table per model, as in `[fallback.churn]` with `kind`, but: Object contains unknown field `knd` - "
        "at `$[...]` - at `fallback` (/penstock.toml). Correct it, or remove it for the default {}."
    ) == refusal("[fallback.churn]\nknd = 'constant'\n", tmp_path)
    with pytest.raises(SettingsError, match="a setting that exists, got `PENSTOCK_FALLBACK`"):
        load_settings(None, {"PENSTOCK_FALLBACK": "{}"}, {})
