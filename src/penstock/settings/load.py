"""Settings from defaults < `penstock.toml` < environment < flags, and where each value came from.

The only module that reads `os.environ`, in `from_environment`, `environment_for_child` and
`notify_environment`.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import get_type_hints

import msgspec
from msgspec import inspect

from penstock.errors import SettingsError
from penstock.settings.sections import Settings

FILE_NAME = "penstock.toml"
PREFIX = "PENSTOCK_"

# A Kubernetes service (or Docker link) whose name begins with "penstock" puts such variables into every container.
_LINK = re.compile(r"PENSTOCK_(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_LINK_ADDRESS = re.compile(r"(tcp|udp|sctp)://")
# Variables of others that say the same; our own wins.
_FOREIGN = {"OTEL_EXPORTER_OTLP_ENDPOINT": "telemetry.otlp_endpoint"}
_LOGIN = re.compile(r"//[^/\s]*@")
_SECRET = re.compile(r"(secret|token|password|api_key)$")


class Loaded(msgspec.Struct, frozen=True):
    """Settings, and for each dotted key where its value came from.

    An origin is `default`, the file's name, `environment PENSTOCK_…` or `flag --…`.
    """

    settings: Settings
    origins: dict[str, str]


class Entry(msgspec.Struct, frozen=True):
    """One line of `--print-settings`: a setting, its value (secrets masked), where it came from, what it means."""

    key: str
    value: object
    origin: str
    meaning: str


class _Known(msgspec.Struct, frozen=True):
    """A setting that exists: its dotted key, its annotated type, its default and what it means."""

    key: str
    annotation: object
    default: object
    meaning: str

    @property
    def variable(self) -> str:
        return PREFIX + self.key.upper().replace(".", "__")

    @property
    def is_table(self) -> bool:
        """Whether it is a table of its own, which no variable or flag can give."""
        return isinstance(self.default, dict)

    @property
    def flag(self) -> str:
        return "--" + self.key.rpartition(".")[2].replace("_", "-")


class _Given(msgspec.Struct, frozen=True):
    """A value that somebody gave: `origin` is kept for printing, `place` is for an error message."""

    key: str
    value: object
    origin: str
    place: str
    is_text: bool = False


def from_environment(*, flags: Mapping[str, object], file: Path | None = None) -> Loaded:
    """Settings of this process: its environment, and `file` or else `penstock.toml` in the working directory.

    Raises `SettingsError` as `load_settings` does. Changes nothing.
    """
    if file is None and Path(FILE_NAME).is_file():
        file = Path(FILE_NAME)
    return load_settings(file, os.environ, flags)


def environment_for_child(**defaults: str) -> dict[str, str]:
    """This process' environment for one that it starts, with `defaults` for what the user has not set."""
    return {**defaults, **os.environ}


def notify_environment() -> tuple[str | None, str | None]:
    """Where systemd wants to be told of this service, and its watchdog's microseconds, as `Notify` takes them."""
    return os.environ.get("NOTIFY_SOCKET"), os.environ.get("WATCHDOG_USEC")


def load_settings(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Loaded:
    """Settings from a TOML file, variables named `PENSTOCK_SECTION__NAME` and flags, the later over the earlier.

    `flags` is keyed by dotted key (`server.port`); None stands for a flag that was not given. Variables that do not
    start with `PENSTOCK_`, and those of Kubernetes services and Docker links, are left alone. In a variable, lists are
    separated by commas, and an empty text is the empty list, or None where None is allowed. Only reads `file`.

    Raises `SettingsError` for an unreadable file, an unknown key (naming the nearest right one) or a value that does
    not fit (what was expected, what came, where, what to do).
    """
    known = {setting.key: setting for setting in _catalogue(Settings)}
    values: dict[str, object] = {}
    origins = dict.fromkeys(known, "default")
    for given in (*_from_file(file, known), *_from_variables(environ, known), *_from_flags(flags, known)):
        values[given.key] = _fitted(given, known[given.key])
        origins[given.key] = given.origin
    return Loaded(settings=_built(values), origins=origins)


def entries(loaded: Loaded) -> tuple[Entry, ...]:
    """Each setting with its value and origin, in the order of the documentation; for `--print-settings`."""
    return tuple(
        Entry(
            key=setting.key,
            value=masked(setting.key, _value_of(loaded.settings, setting.key)),
            origin=loaded.origins[setting.key],
            meaning=setting.meaning,
        )
        for setting in _catalogue(Settings)
    )


def masked(key: str, value: object) -> object:
    """`value`, or `"***"` where the key's name says that it is a secret and there is one, or in place of who logs in
    where it is a URL; in a table each by its own name.
    """
    if isinstance(value, msgspec.Struct):
        value = msgspec.to_builtins(value)
    if isinstance(value, dict):
        return {name: masked(f"{key}.{name}", part) for name, part in value.items()}
    if isinstance(value, str):
        value = _LOGIN.sub("//***@", value)
    return "***" if value and _SECRET.search(key) else value


def markdown_table() -> str:
    """The table of `docs/settings.md`: every setting with its variable, default, what it takes and what it means."""
    lines = ["| setting | variable | default | takes | meaning |", "| --- | --- | --- | --- | --- |"]
    for setting in _catalogue(Settings):
        default = msgspec.json.encode(setting.default).decode()
        takes = _expected(inspect.type_info(setting.annotation)).replace("|", "\\|")
        variable = "in the file only" if setting.is_table else f"`{setting.variable}`"
        lines.append(f"| `{setting.key}` | {variable} | `{default}` | {takes} | {setting.meaning} |")
    return "\n".join(lines) + "\n"


def _catalogue(section: type[msgspec.Struct], prefix: str = "") -> Iterator[_Known]:
    hints = get_type_hints(section, include_extras=True)
    for field in msgspec.structs.fields(section):
        annotation = hints[field.name]
        if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
            yield from _catalogue(annotation, f"{prefix}{field.name}.")
        else:
            meaning = next(meta.description for meta in annotation.__metadata__ if meta.description)
            default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
            yield _Known(prefix + field.name, annotation, default, meaning)


def _from_file(file: Path | None, known: Mapping[str, _Known]) -> Iterator[_Given]:
    if file is None:
        return
    text, tree = _read_toml(file)
    sections = {key.partition(".")[0] for key in known if "." in key}
    for name, value in tree.items():
        if name in sections and isinstance(value, dict):
            items = [(f"{name}.{leaf}", leaf_value) for leaf, leaf_value in value.items()]
        elif name in sections:
            raise SettingsError(
                f"Expected a table [{name}], got {value!r} - at {_place(file, text, name)}. "
                f"Write [{name}] on a line of its own and its settings below it."
            )
        else:
            items = [(name, value)]
        for key, leaf_value in items:
            place = _place(file, text, key)
            if key not in known:
                raise _unknown(key, place, (*known, *sections) if isinstance(leaf_value, dict) else known)
            yield _Given(key, leaf_value, file.name, place)


def _read_toml(file: Path) -> tuple[str, dict[str, object]]:
    try:
        text = file.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"The settings file {file} cannot be read: {error.strerror}. Check its path.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"The settings file {file} is not TOML in UTF-8: {error}.") from error


def _place(file: Path, text: str, key: str) -> str:
    """`file`, with the line of `key` where it is written in the plain way (a table's line, then `name = …`)."""
    section, _, leaf = key.rpartition(".")
    current = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[+\s*([^\[\]]+?)\s*\]", line):
            current = header[1]
            if not section and current == leaf:
                return f"{file} line {number}"
        elif current == section and re.match(rf"\s*[\"']?{re.escape(leaf)}[\"']?\s*[.=]", line):
            return f"{file} line {number}"
    return str(file)


def _from_variables(environ: Mapping[str, str], known: Mapping[str, _Known]) -> Iterator[_Given]:
    by_variable = {setting.variable: setting.key for setting in known.values() if not setting.is_table}
    for variable, key in _FOREIGN.items():
        if environ.get(variable):
            yield _Given(key, environ[variable], f"environment {variable}", f"environment {variable}", is_text=True)
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX):
            continue
        if _LINK.fullmatch(variable) or (variable.endswith("_PORT") and _LINK_ADDRESS.match(text)):
            continue
        if variable not in by_variable:
            raise _unknown(variable, "the environment", by_variable)
        origin = f"environment {variable}"
        yield _Given(by_variable[variable], text, origin, origin, is_text=True)


def _from_flags(flags: Mapping[str, object], known: Mapping[str, _Known]) -> Iterator[_Given]:
    for key, value in flags.items():
        if key not in known:
            raise _unknown(key, "the flags", known)
        if value is not None:
            origin = f"flag {known[key].flag}"
            yield _Given(key, value, origin, origin)


def _unknown(name: str, place: str, known: Iterable[str]) -> SettingsError:
    nearest = _nearest(name, tuple(known))
    mend = f"Did you mean `{nearest}`?" if nearest else f"Known are: {', '.join(sorted(known))}."
    return SettingsError(f"Expected a setting that exists, got `{name}` - at {place}. {mend}")


def _nearest(name: str, known: tuple[str, ...]) -> str | None:
    """The known name most like `name`: with its section first, else (a wrong or missing section) by its last part."""
    if close := difflib.get_close_matches(name, known, n=1, cutoff=0.75):
        return close[0]
    by_leaf = {key.rpartition(".")[2]: key for key in reversed(known)}  # of several the first: `server.port`
    close = difflib.get_close_matches(name.rpartition(".")[2], tuple(by_leaf), n=1, cutoff=0.75)
    return by_leaf[close[0]] if close else None


def _fitted(given: _Given, setting: _Known) -> object:
    kind = inspect.type_info(setting.annotation)
    value = _parted(given.value, kind) if given.is_text and isinstance(given.value, str) else given.value
    try:
        # Only a variable's text may be read as a number or truth value; in a file and in flags "1" is not 1.
        return msgspec.convert(value, setting.annotation, strict=not given.is_text)
    except msgspec.ValidationError as error:
        got = f"but: {error}" if setting.is_table else f"got {masked(given.key, given.value)!r}"
        raise SettingsError(
            f"Expected {_expected(kind)}, {got} - at `{given.key}` ({given.place}). "
            f"Correct it, or remove it for the default {setting.default!r}."
        ) from None


def _parted(text: str, kind: inspect.Type) -> object:
    if isinstance(kind, inspect.Metadata):
        return _parted(text, kind.type)
    if isinstance(kind, inspect.VarTupleType):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return None if isinstance(kind, inspect.UnionType) and not text.strip() else text


def _expected(kind: inspect.Type) -> str:
    """What a setting takes, in words; a kind without words here is a mistake in this module, found by the tests."""
    match kind:
        case inspect.Metadata(extra_json_schema={"title": str(words)}):
            return words
        case inspect.Metadata():
            return _expected(kind.type)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"a whole number from {kind.ge} to {kind.le}"
        case inspect.FloatType():
            return f"a number from {kind.ge} to {kind.le}"
        case inspect.StrType():
            return "a text that is not empty"
        case inspect.LiteralType():
            return "one of " + ", ".join(f"`{value}`" for value in kind.values)
        case inspect.VarTupleType():
            return f"a list, each {_expected(kind.item_type)}"
        case inspect.UnionType():
            return _expected(next(part for part in kind.types if not isinstance(part, inspect.NoneType)))
    raise TypeError(f"no words for {kind!r}")


def _built(values: Mapping[str, object]) -> Settings:
    tree: dict[str, object] = {}
    sections: dict[str, dict[str, object]] = {}
    for key, value in values.items():
        section, _, leaf = key.rpartition(".")
        (sections.setdefault(section, {}) if section else tree)[leaf] = value
    return msgspec.convert({**tree, **sections}, Settings)


def _value_of(settings: Settings, key: str) -> object:
    value: object = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value
