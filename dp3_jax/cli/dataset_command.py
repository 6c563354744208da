"""The command `dp3 dataset`: its options, and what they ask of the library. See docs/cli/dataset.md."""

import argparse
import json
import sys

from dp3_jax.cli.identity_flags import add_identity_options, identity_options
from dp3_jax.common.choices import EXTENTS, METHODS
from dp3_jax.common.errors import UserError

MAX_WORKERS = 10_000
FORMATS = ("folder", "webdataset", "parquet", "lerobot")


def add_parser(commands) -> None:
    """Adds `dataset` to the commands of an argparse parser."""
    parser = commands.add_parser(
        "dataset",
        help="anonymize a data set by many processes: folders, WebDataset, Parquet, LeRobot",
        description="Anonymize a data set of photos and clips by many processes, on this machine or on a Ray "
        "cluster. The output has the format of the input, and manifest.parquet, one row for each record. A "
        "killed run goes on with the same command; no record is there twice. Needs dp3_jax[ray].",
        epilog="Exit status: 0 done; 1 a record was left out or a face covered because no new one could be "
        "made; 2 a mistake in the call, or the output cannot be written.",
    )
    add = parser.add_argument
    add("input", metavar="INPUT", help="folder, or address such as s3://bucket/photos")
    add("-o", "--output", required=True, help="folder or address; nothing else may be in it")
    reading = parser.add_argument_group("how the data set is read")
    reading.add_argument(
        "--format", choices=FORMATS, help="of the data set; default: by what is in INPUT"
    )
    reading.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME",
        help="of Parquet with pictures, as bytes of files; repeatable; default: all that hold some",
    )
    reading.add_argument(
        "--copy",
        action="append",
        default=[],
        metavar="ENDING|COLUMN",
        help="members or columns that hold no pictures, where that cannot be seen; repeatable",
    )
    _add_treatment_options(parser)
    _add_run_options(parser)
    parser.set_defaults(run=_dataset)


def _add_treatment_options(parser) -> None:
    how = parser.add_argument_group("how faces are treated")
    how.add_argument("--method", choices=METHODS, help="default: generate, a new face")
    how.add_argument("--cover", choices=EXTENTS, help="what the other methods cover; default: face")
    how.add_argument(
        "--candidates", type=int, metavar="N", help="draw N faces, take the best fitting"
    )
    how.add_argument(
        "--weights", metavar="FILE", help="generator to use instead of the shipped one"
    )
    how.add_argument(
        "--min-confidence", type=float, metavar="P", help="of a detection; default: 0.5"
    )
    who = parser.add_argument_group("who the new faces are")
    add_identity_options(who, expression=True)
    keys = who.add_mutually_exclusive_group()
    keys.add_argument("--seed", type=int, help="same seed, same faces; anyone can guess it")
    keys.add_argument(
        "--secret-file",
        metavar="FILE",
        help="the master key: same key, same faces; each record has its own",
    )
    who.add_argument(
        "--link-people",
        metavar="COLUMN|FILE",
        help="records with the same ID in this column, or in this CSV or Parquet file with `source` and "
        "`id`, get the same new person",
    )
    how.add_argument("--keep-metadata", action="store_true", help="keep camera, exposure and time")
    how.add_argument(
        "--no-mark",
        action="store_true",
        help="do not write into the files that faces in them were generated",
    )


def _add_run_options(parser) -> None:
    group = parser.add_argument_group("how it is run")
    group.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes, each with its own models; default: one for each core, or GPU",
    )
    group.add_argument(
        "--gpus-per-worker",
        type=float,
        metavar="X",
        help="share of a GPU for each worker; default: 1 where there are some, else 0",
    )
    group.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="of a Ray cluster, such as auto; default: this machine alone",
    )
    group.add_argument(
        "--shard-records",
        type=int,
        default=100,
        metavar="N",
        help="files of a folder that are done at once; default: %(default)s",
    )
    group.add_argument("--redo", action="store_true", help="do again what is done")
    group.add_argument(
        "--retry-failed",
        action="store_true",
        help="do the shards again in which records were left out",
    )
    group.add_argument("--json", action="store_true", help="print the report as JSON")
    group.add_argument("--quiet", action="store_true", help="no progress bar and no summary")


def _settings(arguments: argparse.Namespace):
    """What is done with each record, and whether its master key is one that nobody keeps."""
    from dp3_jax.pipelines.anonymize import Anonymizer
    from dp3_jax.pipelines.dataset import links
    from dp3_jax.pipelines.dataset.treatment import Settings
    from dp3_jax.replacement import key_derivation

    linked = None
    fresh = arguments.seed is None and arguments.secret_file is None
    if arguments.link_people is not None:
        if fresh:
            raise UserError(
                "--link-people needs --secret-file FILE: a run that was killed goes on with the same people"
            )
        linked = links.open_links(arguments.link_people)
    if arguments.seed is not None:
        master_key = key_derivation.master_key_from_seed(arguments.seed)
    elif arguments.secret_file is not None:
        master_key = key_derivation.read_master_key(arguments.secret_file)
    else:
        master_key = key_derivation.new_master_key()
    names = ("method", "cover", "candidates", "min_confidence", "weights")
    given = {n: getattr(arguments, n) for n in names if getattr(arguments, n) is not None}
    anonymizer = {**given, "identity": identity_options(arguments)}
    Anonymizer(**anonymizer)  # says what is wrong with them
    settings = Settings(
        anonymizer=anonymizer,
        master_key=master_key,
        links=linked,
        keep_metadata=arguments.keep_metadata,
        mark=not arguments.no_mark,
    )
    return settings, fresh


def _check(arguments: argparse.Namespace) -> None:
    """Raises UserError for numbers out of range."""
    if arguments.workers is not None and not 1 <= arguments.workers <= MAX_WORKERS:
        raise UserError(f"--workers is 1 to {MAX_WORKERS}, not {arguments.workers}")
    if arguments.gpus_per_worker is not None and not 0 <= arguments.gpus_per_worker <= 64:
        raise UserError(f"--gpus-per-worker is 0 to 64, not {arguments.gpus_per_worker:g}")
    if arguments.shard_records < 1:
        raise UserError(f"--shard-records is 1 or more, not {arguments.shard_records}")
    if "" in (arguments.input, arguments.output):
        raise UserError("a name is empty; write . for this folder")


def _dataset(arguments: argparse.Namespace) -> int:
    _check(arguments)
    from dp3_jax.pipelines.dataset import ray_engine

    ray_engine.import_ray()  # says that it is missing, before anything else is done
    from dp3_jax.pipelines.dataset import job
    from dp3_jax.pipelines.dataset.format import Reading

    settings, fresh = _settings(arguments)
    reading = Reading(
        columns=tuple(arguments.column),
        copied=tuple(text.lstrip(".") for text in arguments.copy),
        shard_records=arguments.shard_records,
    )
    engine = ray_engine.Engine(
        workers=arguments.workers, gpus=arguments.gpus_per_worker, address=arguments.cluster
    )
    summary = job.process(
        job.Job(
            source=arguments.input,
            output=arguments.output,
            format=arguments.format,
            reading=reading,
            settings=settings,
            fresh=fresh,
            engine=engine,
            redo=arguments.redo,
            retry_failed=arguments.retry_failed,
            show_progress=not arguments.quiet,
        )
    )
    _print(arguments, summary)
    return 1 if summary["failed"] or summary["fallbacks"] else 0


def _print(arguments: argparse.Namespace, summary) -> None:
    """Prints what became of the data set, in the way that was asked for."""
    if arguments.json:
        print(json.dumps(summary, indent=2))
        return
    if arguments.quiet:
        return
    if summary["instead"]:
        print(f"note: the prior was not used: {summary['instead']}", file=sys.stderr)
    if arguments.link_people and not summary["linked"]:
        print("note: --link-people has no ID for any record", file=sys.stderr)
    if summary["stray"]:
        print(
            f"note: {summary['stray']} files in {arguments.output} are no results and in no row of "
            "the manifest",
            file=sys.stderr,
        )
    done = ", ".join(f"{n} {what}" for what, n in summary["done"].items())
    parts = [
        f"{summary['records'] - summary['failed']} records in {summary['shards']} shards",
        f"{summary['faces']} faces" + (f" ({done})" if done else ""),
    ]
    for name, said in (
        ("failed", "left out"),
        ("copied", "other files copied"),
        ("left_alone", "other files left alone"),
        ("done_before", "done before"),
    ):
        if summary[name]:
            parts.append(f"{summary[name]} {said}")
    print(f"{', '.join(parts)}; {summary['seconds']:.1f} s")
