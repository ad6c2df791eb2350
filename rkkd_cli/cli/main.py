"""The ``rkkd`` program: its commands, and the exit status of each error."""

import sys
from collections.abc import Iterable

import typer

from rkkd_cli import __version__
from rkkd_cli.api.ending import ignore_signals
from rkkd_cli.cli.commands import (
    bench,
    compare,
    doctor,
    evaluate,
    export,
    findings,
    grid,
    init,
    ls,
    plot,
    predict,
    presets,
    report,
    resume,
    run,
    show,
    table,
    teacher,
    watch,
)
from rkkd_cli.cli.flags.completion import join_words_of_bash
from rkkd_cli.cli.flags.usage import USAGE_ERROR, usage_sentence
from rkkd_cli.cli.output.encoding import write_any_text
from rkkd_cli.cli.runtime import torchrun
from rkkd_cli.config.overrides import check_encoding
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.records.account import help_libraries

app = typer.Typer(
    name="rkkd",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Ablation studies of knowledge distillation: what does a ranking loss do when it is only "
        "logged (arm kd), and when it is backpropagated (arm kd_rank)?\n\n"
        "[bold]rkkd run[/bold] without arguments trains both on scikit-learn's digits, in about "
        "a minute, without a GPU or a download."
    ),
)

STUDY, LOOK, SETUP = "Run a study", "Look at runs and presets", "Set up"
USE = "Use a trained student"
app.command("run", rich_help_panel=STUDY)(run.run)
app.command("init", rich_help_panel=STUDY)(init.init)
app.command("grid", rich_help_panel=STUDY)(grid.grid)
app.command("resume", rich_help_panel=STUDY)(resume.resume)
app.command("table", rich_help_panel=LOOK)(table.table)
app.command("plot", rich_help_panel=STUDY)(plot.plot)
app.command("watch", rich_help_panel=LOOK)(watch.watch)
app.command("report", rich_help_panel=LOOK)(report.report)
app.command("compare", rich_help_panel=LOOK)(compare.compare)
app.command("findings", rich_help_panel=LOOK)(findings.findings)
app.command("show", rich_help_panel=LOOK)(show.show)
app.command("ls", rich_help_panel=LOOK)(ls.ls)
app.command("cat", rich_help_panel=LOOK)(presets.cat)
app.command("cp", rich_help_panel=LOOK)(presets.cp)
app.command("export", rich_help_panel=USE)(export.export)
app.command("predict", rich_help_panel=USE)(predict.predict)
app.command("evaluate", rich_help_panel=USE)(evaluate.evaluate)
app.command("doctor", rich_help_panel=SETUP)(doctor.doctor)
app.command(
    "bench",
    rich_help_panel=SETUP,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(bench.bench)
app.add_typer(teacher.app, name="teacher", rich_help_panel=SETUP)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"rkkd {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Show the version."
    ),
) -> None:
    del version


def main() -> None:
    """Run the program.

    Exit status: 2 for an error of the user, 1 for a failure, 128 + the number of a signal.
    """
    write_any_text()
    help_libraries()
    join_words_of_bash()
    with torchrun.this_rank() as connect:
        try:
            for word in sys.argv[1:]:
                check_encoding(word)
            # The name that shells complete, also if this was started as `python -m rkkd_cli`.
            sys.exit(app(obj=connect(), prog_name="rkkd", standalone_mode=False))
        except USAGE_ERROR as error:
            _exit_with(usage_sentence(error), 2)
        except typer.Abort:
            _exit_with("aborted", 1)
        except UserError as error:
            _exit_with(str(error), 2, getattr(error, "__notes__", ()))
        except RunError as error:
            _exit_with(str(error), 1)
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            _exit_with(f"{error.strerror or error}{where}", 1)
        finally:
            ignore_signals()


def _exit_with(message: str, status: int, lines_to_copy: Iterable[str] = ()) -> None:
    from rkkd_cli.cli.output.console import err, print_line

    if message:
        print_line(err, f"rkkd: error: {message}", style="red")
    for line in lines_to_copy:
        print_line(err, line)
    sys.exit(status)
