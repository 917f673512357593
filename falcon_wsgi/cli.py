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

    Starts a Redis and a Postgres of its own where REDIS_URL or DATABASE_URL is not set, trains the project's
    own models if there is no model yet, and applies the migrations. Ctrl-C or SIGTERM stops everything that it
    started; SIGHUP loads settings and models again.
    """
    from falcon_wsgi import settings
    from falcon_wsgi.launch.supervisor import Supervisor

    sys.exit(Supervisor(settings.load(), log_to_stderr=log_stderr).run())


@cli.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "--data", type=click.Path(path_type=Path), help="CSV file of your own, with columns text,label."
)
def train(names: tuple[str, ...], data: Path | None) -> None:
    """Train models of the project's own recipes; each is stored as a new version."""
    from falcon_wsgi.commands import models

    if data is not None and len(names) > 1:
        raise click.UsageError("--data is for one model at a time")
    for name in names:
        models.train(name, data)


@cli.group("models")
def models_group() -> None:
    """Look at the model store, and choose what is served."""


@models_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
def models_list(as_json: bool) -> None:
    """Every version of every model.

    Marks the served one and the one that a rollback would return to, and says which are damaged: each file is
    compared with the digest that was recorded.
    """
    from falcon_wsgi.commands import models

    models.show_list(as_json)


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
    """Load every version as a server would: digests, types, golden example.

    Each in a process of its own. Exit code 1 if one cannot be served.
    """
    from falcon_wsgi.commands import models

    sys.exit(models.verify(name))


@models_group.command("add")
@click.argument("name")
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option(
    "--booster", type=click.Path(path_type=Path), help="In place of MODEL: XGBoost's own file, .ubj or .json."
)
@click.option(
    "--transform",
    type=click.Path(path_type=Path),
    help="With --booster: the steps before it, as a skops file.",
)
@click.option("--signature", required=True, type=click.Path(path_type=Path), help="What it takes, as JSON.")
@click.option(
    "--golden",
    required=True,
    type=click.Path(path_type=Path),
    help="An input or a list of them, with or without the expected answers, as JSON.",
)
@click.option(
    "--labels", metavar="JSON", help='What the classes are answered as, for example \'["no", "yes"]\'.'
)
@click.option("--version", help="For example 1.2.0. Default: the next free minor version.")
@click.option("--promote", is_flag=True, help="Also let it be the served version.")
def models_add(**given: Any) -> None:
    """Store a model of your own: MODEL is a file that skops.io.dump wrote.

    It is tried first, in a process of its own: it has to load, give the expected answers, and answer what its
    signature allows. Else nothing is stored. docs/MODELS.md explains both JSON files.
    """
    from falcon_wsgi.commands import add

    add.add(add.Given(**given))


@models_group.command("signature")
@click.argument("examples", type=click.Path(path_type=Path))
@click.option("--target", multiple=True, metavar="COLUMN", help="A column that is no input; may be repeated.")
def models_signature(examples: Path, target: tuple[str, ...]) -> None:
    """Print the signature that a CSV, JSON Lines or Parquet file of example rows tells, as JSON."""
    from falcon_wsgi.commands import add

    click.echo(add.signature(examples, target))


@models_group.command("promote")
@click.argument("name")
@click.argument("version")
@click.option(
    "--allow-signature-change", is_flag=True, help="Also if it refuses inputs that are accepted today."
)
@click.option(
    "--gate",
    "least",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Least agreement with logged answers, for example 0.99.",
)
@click.option(
    "--since",
    default="24h",
    show_default=True,
    metavar="AGE",
    help="With --gate: how far back the log is read.",
)
def models_promote(
    name: str, version: str, allow_signature_change: bool, least: float | None, since: str
) -> None:
    """Let VERSION be the served one, if it loads and gives its golden examples.

    It is tried in a process of its own first; one that fails leaves what is served as it is. Running instances take
    the version with `falcon reload`.

    With --gate it is also run on logged requests (LOG_PAYLOADS), as `falcon models replay` does. It is refused if
    its agreement with the live answers may be lower, that is, if the lower end of the 95 % interval is; and if
    there is nothing to compare with.
    """
    from falcon_wsgi.commands import models, replay

    gate = replay.gate(least, since) if least is not None else None
    models.promote(name, version, allow_signature_change=allow_signature_change, gate=gate)


@models_group.command("compare")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
def models_compare(name: str | None, as_json: bool) -> None:
    """How the versions in the shadow (SHADOW) compare with the served ones, since the instance started.

    Agreement with a 95 % interval, disagreements by class, score distance, failures and the time of a call. Exit
    code 3 if no instance runs on PORT, 1 if it has no shadow.
    """
    from falcon_wsgi.commands import compare

    sys.exit(compare.show(name, as_json))


@models_group.command("replay")
@click.argument("name")
@click.argument("version")
@click.option("--since", default="24h", show_default=True, metavar="AGE", help="For example 90m, 24h or 7d.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the latest N predictions.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Also write the report there.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@click.option(
    "--exit-under",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Exit code 1 if the lower end of the agreement's 95 % interval is below.",
)
@click.option(
    "--show-inputs", is_flag=True, help="Show the inputs of the largest differences, not only their ids."
)
def models_replay(
    name: str,
    version: str,
    since: str,
    limit: int | None,
    html: Path | None,
    as_json: bool,
    exit_under: float | None,
    show_inputs: bool,
) -> None:
    """Run logged requests of NAME through VERSION and report how its answers differ.

    The requests are those of the request log whose input was kept (LOG_PAYLOADS). They are compared with the logged
    answers, and where another version than the served one had answered, with its answers computed afresh.
    """
    from falcon_wsgi.commands import replay

    sys.exit(
        replay.replay(
            name,
            version,
            since,
            limit,
            html=html,
            as_json=as_json,
            exit_under=exit_under,
            show_inputs=show_inputs,
        )
    )


@models_group.command("rollback")
@click.argument("name")
def models_rollback(name: str) -> None:
    """Return to the version that was served before the present one.

    Once more goes further back: rollbacks undo promotions, the latest first. A version that was removed meanwhile
    is passed over.
    """
    from falcon_wsgi.commands import models

    models.rollback(name)


@models_group.command("remove")
@click.argument("name")
@click.argument("version")
@click.option("--yes", is_flag=True, help="Do not ask, and allow the last version of a model to go.")
def models_remove(name: str, version: str, yes: bool) -> None:
    """Delete a version that is not served."""
    from falcon_wsgi.commands import models

    models.remove(name, version, sure=yes)


@cli.command("score")
@click.argument("model", metavar="MODEL[@VERSION]")
@click.argument("source", metavar="INPUT")
@click.argument("output", metavar="OUTPUT")
@click.option(
    "--input-format", type=click.Choice(["csv", "jsonl", "parquet"]), help="If the suffix does not say."
)
@click.option(
    "--output-format", type=click.Choice(["csv", "jsonl", "parquet"]), help="If the suffix does not say."
)
@click.option(
    "--keep", metavar="A,B,...", help="Columns of the input for the output; '' for none.  [default: all]"
)
@click.option(
    "--text-column", default="text", show_default=True, help="Column with the texts, of a text model."
)
@click.option("--prefix", default="", metavar="TEXT", help="Put before the names of the answers' columns.")
@click.option(
    "--row-number", metavar="NAME", help="Add a column with the number of the row in the input, from 1."
)
@click.option(
    "--rejects",
    type=click.Path(path_type=Path),
    help="Rows that are not in the output, and why.  [default: OUTPUT.rejects.jsonl]",
)
@click.option("--max-rejects", metavar="N|P%", help="Stop when more rows than that are rejected.")
@click.option("--strict", is_flag=True, help="Exit code 1 if a row was rejected.")
@click.option(
    "--resume/--restart",
    "resume",
    default=True,
    help="Go on with an interrupted run (default), or begin anew and replace OUTPUT.",
)
@click.option(
    "--workers", type=click.IntRange(1, 1024), metavar="N", help="Processes.  [default: one for each core]"
)
@click.option(
    "--batch-rows", type=click.IntRange(1, 10_000_000), default=65_536, show_default=True, metavar="N",
    help="Rows that are scored in one call.",
)  # fmt: skip
@click.option(
    "--checkpoint",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Work that a kill may cost.",
)
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--ray-address", metavar="ADDRESS", help="A running Ray cluster; without it Ray runs here.")
@click.option("--json", "as_json", is_flag=True, help="The summary as a JSON object.")
def score_command(model: str, source: str, output: str, resume: bool, **options: Any) -> None:
    """Score a file of any size: CSV, JSON Lines or Parquet.

    The formats are those of the suffixes: .csv, .jsonl, .ndjson (each also .gz), .parquet. `-` is standard input or
    output. Rows are validated as a server would; those that fail go to the reject file and scoring goes on. After
    an interruption the same command goes on where it stopped. docs/SCORING.md says more.
    """
    from falcon_wsgi.commands import score

    sys.exit(score.score(model, source, output, {**options, "restart": not resume}))


@cli.group("keys")
def keys_group() -> None:
    """Create, list and revoke API keys.

    They are kept in API_KEYS_FILE, hashed. A running instance follows within two seconds.
    """


@keys_group.command("create")
@click.argument("client")
@click.option("--expires", metavar="AGE", help="For example 90d, 12w or 12h. Without it the key has no end.")
@click.option("--admin", is_flag=True, help="May load and unload models.")
@click.option("--note", default="", help="What the key is for.")
def keys_create(client: str, expires: str | None, admin: bool, note: str) -> None:
    """Make a key for CLIENT and print it, once.

    A client may have several keys; they share its idempotency keys and its rate limit.
    """
    from falcon_wsgi.commands import keys

    keys.create(client, expires, admin=admin, note=note)


@keys_group.command("list")
def keys_list() -> None:
    """Every key with its client, without its secret."""
    from falcon_wsgi.commands import keys

    keys.show_list()


@keys_group.command("revoke")
@click.argument("id_or_client")
@click.option("--all", "every", is_flag=True, help="Every key of the client, if it has several.")
def keys_revoke(id_or_client: str, every: bool) -> None:
    """Remove a key, by its id or by its client's name."""
    from falcon_wsgi.commands import keys

    keys.revoke(id_or_client, every=every)


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


@cli.command("reload")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="For each worker. Default: GRACEFUL_SHUTDOWN_TIMEOUT_SECONDS + 30.",
)
def reload_command(timeout_s: float | None) -> None:
    """Let the instance on PORT serve the store's current versions.

    Its workers are recycled one by one, and no request is lost. A store that cannot be used is refused before any
    worker ends: exit code 1, and the instance keeps what it serves. Exit code 3 if no instance runs.
    """
    from falcon_wsgi.commands import reload

    sys.exit(reload.reload(timeout_s))


@cli.group("stack")
def stack_group() -> None:
    """nginx before several instances on this machine, with what they need: no Docker, no root.

    nginx listens on PORT, the instances on the ports above it. docs/BALANCER.md explains both.
    """


@stack_group.command("start")
@click.option("--instances", type=click.IntRange(1, 64), default=2, show_default=True, metavar="N")
@click.option(
    "--balancer",
    "balancer_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="BALANCER_NAME=value lines in place of those in nginx/defaults.env.",
)
@click.option(
    "--monitoring/--no-monitoring",
    "monitored",
    default=True,
    help="Start Prometheus, Alertmanager and exporters, where installed.  [default: yes]",
)
@click.option(
    "--detach", "detached", is_flag=True, help="Return once it is ready; it runs in the background."
)
def stack_start(instances: int, balancer_file: Path | None, monitored: bool, detached: bool) -> None:
    """Start everything and watch over it until Ctrl-C.

    A process that ends is started again, at growing intervals if that goes on.
    """
    from falcon_wsgi.commands import stack

    sys.exit(stack.start(instances, balancer_file, monitored=monitored, detached=detached))


@stack_group.command("status")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object, passwords included.")
def stack_status(as_json: bool) -> None:
    """Each part with its state, pid and port. Exit code 1 if one is not ready, 3 if no stack runs on PORT."""
    from falcon_wsgi.commands import stack

    sys.exit(stack.status(as_json))


@stack_group.command("restart")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="For each instance. Default: GRACEFUL_SHUTDOWN_TIMEOUT_SECONDS + 60.",
)
def stack_restart(timeout_s: float | None) -> None:
    """Restart the instances one by one; nginx sends the requests to the others, and none is lost."""
    from falcon_wsgi.commands import stack

    sys.exit(stack.restart(timeout_s))


@stack_group.command("stop")
def stack_stop() -> None:
    """End the stack on PORT, with all that it started. Exit code 3 if none runs."""
    from falcon_wsgi.commands import stack

    sys.exit(stack.stop())


def main() -> None:
    cli(prog_name="falcon")


if __name__ == "__main__":
    main()
