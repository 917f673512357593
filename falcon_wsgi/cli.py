"""The `falcon` command. Commands import what they need when they run, so that `--help` is quick."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from falcon_wsgi import __version__
from falcon_wsgi.errors import FalconError


class _Group(click.Group):
    """Turns every FalconError into one line and exit code 1. Usage errors keep click's 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FalconError as error:
            click.echo(f"falcon: {error}", err=True)
            ctx.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, package_name="falcon-wsgi", prog_name="falcon")
def cli() -> None:
    """Serve scikit-learn models over HTTP.

    Settings come from the environment and from .env: `falcon config` shows them, docs/SETTINGS.md explains
    them.
    """


@cli.command()
@click.option(
    "--log-stderr", is_flag=True, help="Log to standard error (containers, systemd), not to a file."
)
def serve(log_stderr: bool) -> None:
    """Run an instance in the foreground, with all it needs.

    Starts a Redis and a Postgres of its own where REDIS_URL or DATABASE_URL is not set, trains the sentiment
    model if there is no model yet, and applies the migrations. Ctrl-C or SIGTERM stops everything that it
    started; SIGHUP loads settings and models again.
    """
    from falcon_wsgi import settings
    from falcon_wsgi.launch.supervisor import Supervisor

    sys.exit(Supervisor(settings.load(), log_to_stderr=log_stderr).run())


@cli.command()
@click.argument("name")
@click.option(
    "--data", type=click.Path(path_type=Path), help="CSV file of your own, with columns text,label."
)
def train(name: str, data: Path | None) -> None:
    """Train a model and store it as a new version."""
    from falcon_wsgi.commands import models

    models.train(name, data)


@cli.group("models")
def models_group() -> None:
    """Look at the model store."""


@models_group.command("list")
def models_list() -> None:
    """Every version of every model; the served ones are marked."""
    from falcon_wsgi.commands import models

    models.show_list()


@models_group.command("show")
@click.argument("name")
@click.argument("version", required=False)
def models_show(name: str, version: str | None) -> None:
    """The manifest of a version (the served one by default), as JSON."""
    from falcon_wsgi.commands import models

    models.show(name, version)


@models_group.command("verify")
@click.argument("name", required=False)
def models_verify(name: str | None) -> None:
    """Load every version as a server would: digests, types, golden example."""
    from falcon_wsgi.commands import models

    sys.exit(models.verify(name))


@cli.group("db")
def db_group() -> None:
    """Migrate or prune the request log's database.

    That is the one of DATABASE_URL, else the running instance's own.
    """


@db_group.command("migrate")
def db_migrate() -> None:
    """Apply the migrations that are missing. Safe when several do it at once."""
    from falcon_wsgi.commands import database

    database.migrate()


@db_group.command("prune")
@click.option("--older-than", required=True, metavar="AGE", help="For example 12w, 30d or 48h; at least 1d.")
def db_prune(older_than: str) -> None:
    """Drop the days of the request log that are older than AGE, as whole partitions."""
    from falcon_wsgi.commands import database

    database.prune(older_than)


@cli.command()
def check() -> None:
    """Test settings, models, port, Redis and Postgres.

    A line for each; exit code 1 if an instance could not serve well.
    """
    from falcon_wsgi.commands import check as checks

    sys.exit(checks.run())


@cli.command()
@click.option("--json", "form", flag_value="json", help="As one JSON object.")
@click.option(
    "--markdown", "form", flag_value="markdown", help="The reference of all settings (docs/SETTINGS.md)."
)
def config(form: str | None) -> None:
    """Show the effective settings, passwords masked."""
    from falcon_wsgi.commands import configuration

    click.echo(configuration.rendered(form))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="As one JSON object, passwords included.")
def status(as_json: bool) -> None:
    """What the instance on PORT runs. Exit code 3 if there is none."""
    from falcon_wsgi.commands import status as statuses

    sys.exit(statuses.show(as_json))


def main() -> None:
    cli(prog_name="falcon")


if __name__ == "__main__":
    main()
