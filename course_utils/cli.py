"""The ``course`` command: each one parses its options and calls the module that does the work."""

import errno
import io
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from course_utils.errors import CourseError
from course_utils.paths import other_copy

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Work with the image segmentation course. Example: course doctor",
)
data_app = typer.Typer(no_args_is_help=True, help="Data sets. Example: course data list")
app.add_typer(data_app, name="data")


def _no_folder(path: Path | None) -> Path | None:
    """Refuse a folder where a file is to be written, before any work is done for it."""
    if path is not None and path.is_dir():
        raise CourseError(f"{path} is a folder: name a file.")
    return path


Lessons = Annotated[list[str] | None, typer.Argument(help="Lessons, e.g. 06. Default: all.")]


@app.command()
def doctor() -> None:
    """Tell what this machine has and what that means for the lessons.

    Example: course doctor
    """
    from course_utils.doctor import run

    run()


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(
    context: typer.Context,
    instructor: Annotated[
        bool, typer.Option("--instructor", help="With nbgrader's Create Assignment and Formgrader.")
    ] = False,
) -> None:
    """Open JupyterLab on the first lesson; further options go to JupyterLab.

    Example: course lab --no-browser --port 8899
    """
    from course_utils.lab import run

    run(context.args, instructor)


@app.command()
def status() -> None:
    """Tell how far you are: exercises passed, points so far, tasks against their bounds.

    Example: course status
    """
    from course_utils.status import show

    show()


@data_app.command("list")
def data_list() -> None:
    """List the data sets: what they hold, licence, whether they are on this machine.

    Example: course data list
    """
    from course_utils.data.catalogue import print_catalogue

    print_catalogue()


@data_app.command("fetch")
def data_fetch(name: Annotated[str, typer.Argument(help="A data set, e.g. camvid.")]) -> None:
    """Download a data set into the data folder, checked against its checksum.

    Example: course data fetch camvid
    """
    from course_utils.data.fetching import fetch

    typer.echo(fetch(name))


@data_app.command("path")
def data_path(name: Annotated[str, typer.Argument(help="A data set, e.g. camvid.")]) -> None:
    """Print where a data set lies on this machine.

    Example: course data path camvid
    """
    from course_utils.data.catalogue import find

    typer.echo(find(name))


@data_app.command("stats")
def data_stats(
    name: Annotated[str, typer.Argument(help="A data set, e.g. camvid.")],
    picture: Annotated[
        Path | None,
        typer.Option(help="The PNG to write. Default: NAME-stats.png here.", callback=_no_folder),
    ] = None,
) -> None:
    """Tell what a data set holds: counts, sizes, class shares, traps, odd pairs; with a picture.

    Example: course data stats scenes
    """
    from course_utils.data.stats import print_stats

    print_stats(name, picture)


@data_app.command("floors")
def data_floors(name: Annotated[str, typer.Argument(help="A data set, e.g. scenes.")]) -> None:
    """Print what trivial predictors reach on a data set: any model must beat these.

    Example: course data floors scenes
    """
    from course_utils.data.floors import print_floors

    print_floors(name)


@app.command()
def release(
    check: Annotated[bool, typer.Option(help="Only say whether lessons/ is up to date.")] = False,
) -> None:
    """Make lessons/ from solutions/.

    Example: course release --check
    """
    from course_utils.grading.publishing.release import check_release, make_release

    check_release() if check else make_release()


@app.command()
def solve(
    lessons: Lessons = None,
    keep: Annotated[
        Path | None, typer.Option(help="Folder to leave the executed lessons and models in.")
    ] = None,
) -> None:
    """Run the solution notebooks on fresh kernels; print time, memory, marks and task IoU.

    Example: course solve 06
    """
    from course_utils.grading.publishing.solve import solve

    solve(lessons, keep)


@app.command()
def submit(
    lesson: Annotated[str, typer.Argument(help="The lesson to hand in, e.g. 06.")],
    partial: Annotated[
        bool, typer.Option("--partial", help="Hand in without a model that is still missing.")
    ] = False,
) -> None:
    """Look whether a lesson's hand-in is whole, with the grader's gate for models, and zip it.

    Example: course submit 06
    """
    from course_utils.hand_in.submit import submit

    submit(lesson, partial=partial)


@app.command()
def collect(
    paths: Annotated[list[Path], typer.Argument(help="Zips, or folders that hold them.")],
    lesson: Annotated[str | None, typer.Option(help="Take every hand-in for this lesson.")] = None,
) -> None:
    """Put hand-ins, as a learning platform gives them, into grading/submitted/.

    Example: course collect ~/Downloads/submissions.zip
    """
    from course_utils.grading.collecting.collect import collect

    collect(paths, lesson)


@app.command()
def grade(
    lessons: Lessons = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of images/ and masks/ (255 is void), for models of profile full; "
            "kept for later runs."
        ),
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Submissions at a time.", min=1)] = None,
    require_isolation: Annotated[
        bool, typer.Option(help="Stop rather than run notebooks without a sandbox.")
    ] = False,
    profile: Annotated[
        str | None,
        typer.Option(
            help="Mark models of this profile only (quick or full), or any: of the one that each "
            "states; kept for later runs."
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            help="Mark only this share, e.g. 3/16, as one task of a job array; see docs/cluster.md."
        ),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Put in place what shards have left; mark nothing.")
    ] = False,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Mark on the workers of a dask cluster: the scheduler's address, or its scheduler "
            "file; see docs/cluster.md."
        ),
    ] = None,
) -> None:
    """Mark every collected hand-in and merge the marks into the gradebook.

    Example: course grade 06
    """
    from course_utils.grading.grade import grade

    grade(
        lessons,
        data=data,
        jobs=jobs,
        require_isolation=require_isolation,
        profile=profile,
        shard=shard,
        merge_only=merge,
        cluster=cluster,
    )


@app.command()
def report(
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Print the class table and write it as a page, grading/report.html.

    Example: course report --open
    """
    from course_utils.grading.report import report

    report(open_page=open_)


@app.command()
def export(
    output: Annotated[
        Path | None,
        typer.Argument(help="Default: grading/marks-<for>.csv.", callback=_no_folder),
    ] = None,
    platform: Annotated[str, typer.Option("--for", help="canvas or moodle.")] = "moodle",
    roster: Annotated[
        Path | None, typer.Option(help="The platform's own CSV of its people, to add their ids.")
    ] = None,
) -> None:
    """Write the marks as a CSV that a learning platform's gradebook imports.

    Example: course export --for canvas marks.csv
    """
    from course_utils.grading.export_marks import export_marks

    export_marks(platform, output, roster)


@app.command()
def bundle(
    output: Annotated[Path, typer.Argument(help="The zip to write.", callback=_no_folder)] = Path(
        "course-bundle.zip"
    ),
) -> None:
    """Make what a class is given: lessons, helper package, environment; no solution, no secret.

    Example: course bundle course-bundle.zip
    """
    from course_utils.grading.publishing.bundle import bundle

    bundle(output)


@app.command()
def demo() -> None:
    """Make a class of sample students, grade it and open the report.

    Example: course demo
    """
    from course_utils.grading.demo import demo

    demo()


def main() -> None:
    """Run the command line; a CourseError becomes one line on stderr and exit code 1.

    So does what the machine refuses: a full disk, a file that may not be read.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Whatever the encoding of a pipe, and whoever's name: no print may fail after the work.
        sys.stdout.reconfigure(errors="backslashreplace")
    if other := other_copy():
        typer.echo(f"Warning: {other[0]}. To use its own: {other[1]}", err=True)
    try:
        app()
    except (CourseError, OSError) as error:
        told = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            told = f"{os.fsdecode(error.filename)}: {error.strerror}"
        if getattr(error, "errno", None) == errno.ENOSPC:
            told += ". Free some space on the disk, then run the command again."
        typer.echo(f"error: {told}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
