"""`parley-server`: serve, check a configuration before it is served, ask for health, list models, make keys.

What a command needs is imported when it runs: `health` is run every few seconds, and needs little.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parley_server import __version__
from parley_server.config_sources import ConfigError

if TYPE_CHECKING:
    from parley_server.config import Config

app = typer.Typer(
    help="One gRPC API for every language model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # plain tracebacks: no values of variables, which may be credentials
)
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="PARLEY_CONFIG", help="YAML file; without one the usual providers are used."),
]


@app.command()
def serve(config: ConfigFile = None) -> None:
    """Serve until SIGTERM or SIGINT; a second signal stops at once. SIGHUP reads the configuration again."""
    from parley_server.config_watch import Source

    source = Source(config)
    settings = _load(config, source.read)
    from parley_server.app import serve as run  # the whole gateway, not needed to find a file wrong

    try:
        run(settings, source)
    except OSError as error:
        typer.echo(f"parley-server: {error}", err=True)
        raise typer.Exit(1) from None


@app.command()
def check(config: ConfigFile = None) -> None:
    """Say whether the configuration can be served, or everything that is wrong with it."""
    settings = _load(config)
    providers = ", ".join(sorted(settings.providers)) or "none"
    routes = f"; routes: {', '.join(sorted(settings.routes))}" if settings.routes else ""
    typer.echo(f"ok: listens on {settings.server.address}; providers: {providers}{routes}")


@app.command()
def health(
    name: Annotated[str, typer.Argument(help="Name of what is asked for: readiness, liveness, startup, stores, …")] = (
        "readiness"
    ),
    address: Annotated[
        str, typer.Option("--address", envvar="PARLEY_ADMIN__ADDRESS", help="host:port of the admin port.")
    ] = "127.0.0.1:50052",
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=60, help="Seconds to wait.")] = 2,
) -> None:
    """Ask a running gateway's admin port for its health.

    Exits with 0 if it is SERVING, with 1 if it is not or does not answer, with 2 if it knows no such name.
    """
    from parley_server.api.probe import NoAnswerError, UnknownNameError, health_of

    try:
        said = health_of(name, address, timeout)
    except UnknownNameError as error:
        typer.echo(f"parley-server: {error}", err=True)
        raise typer.Exit(2) from None
    except NoAnswerError as error:
        typer.echo(f"parley-server: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(said)
    if said != "SERVING":
        raise typer.Exit(1)


@app.command()
def models(
    config: ConfigFile = None,
    provider: Annotated[list[str] | None, typer.Option("--provider", help="Only of this provider; repeatable.")] = None,
    operation: Annotated[str, typer.Option("--operation", help="Only for chat, embed or rerank.")] = "",
) -> None:
    """List models with limits, prices and states, from configuration and catalogue: no provider is asked."""
    settings = _load(config)
    wanted = provider or []
    for name in wanted:
        if name not in settings.providers:
            there = ", ".join(sorted(settings.providers)) or "none"
            typer.echo(f"parley-server: no provider {name}; providers: {there}", err=True)
            raise typer.Exit(2)
    if operation not in ("", "chat", "embed", "rerank"):
        typer.echo(f"parley-server: operation {operation} is none of chat, embed, rerank", err=True)
        raise typer.Exit(2)
    from parley_server.assembly import models_offline  # the whole gateway, not needed to check a file
    from parley_server.catalog.table import table

    found = [
        model
        for model in models_offline(settings)
        if (not wanted or model.provider in wanted) and (not operation or operation in model.operations)
    ]
    typer.echo(table(found))


@app.command()
def new_key() -> None:
    """Make a key for a caller: the key itself for the caller, its digest for the gateway's configuration."""
    key = f"sk-parley-{secrets.token_urlsafe(32)}"
    typer.echo(f"key: {key}\nsha256:{hashlib.sha256(key.encode()).hexdigest()}")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _load(path: Path | None, load: Callable[[], Config] | None = None) -> Config:
    from parley_server.config import read

    try:
        return load() if load is not None else read(path)
    except ConfigError as error:
        for problem in error.problems:
            typer.echo(f"{path or 'environment'}: {problem}", err=True)
        raise typer.Exit(2) from None


def main() -> None:
    """Entry point of the console script."""
    app()
