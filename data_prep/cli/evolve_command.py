"""Defines the command that makes problems whose solution needs a drawing: `python -m data_prep evolve`."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from codevision_ext.errors import InputError
from codevision_ext.io.atomic_files import whole_folder
from codevision_ext.io.progress import Stages
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.dialects.base import DialectName
from codevision_ext.sandbox import Sandbox
from data_prep.cli.common import Force, Seed, print_error, print_json
from data_prep.evolve.backend import Generator
from data_prep.evolve.dedupe import SeenItems
from data_prep.evolve.endpoint.run import open_endpoint
from data_prep.evolve.endpoint.settings import ROLES, EndpointSettings, GivenOptions, RoleName, read_endpoint_settings
from data_prep.evolve.endpoint.spending import LimitError
from data_prep.evolve.knowledge import Concepts, parse_seeds, read_seeds
from data_prep.evolve.loop import EvolveSettings, Flywheel
from data_prep.evolve.stages import LIMITS, Examiner
from data_prep.evolve.store import ResultStore
from data_prep.evolve.write import EvolveWriter, Origin
from data_prep.parallel.pipeline import cores


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBackend:
    """A back end that is ready."""

    generator: Generator
    prompt: str
    """Hash of all that decides its items beside their arguments: prompts, or the files of a program."""
    concepts: Concepts
    """Knowledge and tools that it knows without a seed file."""


def _open_program() -> OpenBackend:
    """Return the offline back end; a changed file of it makes it another one for the store."""
    from data_prep.evolve import program  # noqa: PLC0415 - only this back end needs it

    digest = blake2b(digest_size=16)
    for path in sorted(Path(program.__path__[0]).rglob("*.py")):
        digest.update(path.read_bytes())
    concepts = parse_seeds(program.seeds(), "the seeds of the back end program")
    return OpenBackend(generator=program.ProgramGenerator(), prompt=digest.hexdigest(), concepts=concepts)


BACKENDS: Final[Mapping[str, Callable[[], OpenBackend]]] = {"program": _open_program}
"""Function that opens each back end that needs no model, by the name that --backend gives."""
ENDPOINT: Final = "endpoint"
"""Back end whose items models write and check."""


def _role(text: str) -> Any:
    return typer.Option(metavar="URL,MODEL", help=text)


def evolve_command(
    out: Annotated[Path, typer.Argument(help="Folder to write; it appears complete at the end, or not at all.")],
    backend: Annotated[
        str, typer.Option(help="Maker of the items: program (offline), or endpoint (models behind URLs).")
    ] = "program",
    items: Annotated[int, typer.Option(help="Number of items to write.")] = 1000,
    seed: Seed = 0,
    store: Annotated[
        Path | None, typer.Option(help="Folder of the results so far, from which a stopped run goes on; OUT.store.")
    ] = None,
    seeds: Annotated[
        Path | None, typer.Option(help="YAML file of knowledge and tools; default: those of the back end.")
    ] = None,
    expand: Annotated[float, typer.Option(help="Share of verified items that get one more drawing.")] = 0.3,
    perception: Annotated[float, typer.Option(help="Share of calls that make perception items.")] = 0.1,
    suite: Annotated[
        list[Path] | None, typer.Option(help="File of a benchmark, whose images and questions no item may have.")
    ] = None,
    dialect: Annotated[DialectName, typer.Option(help="Dialect of sft.parquet.")] = "code_tags",
    workers: Annotated[
        int | None, typer.Option(help="Number of programs that run at once; default: one per core.")
    ] = None,
    shown: Annotated[int, typer.Option(min=0, help="Number of items on inspect.html.")] = 24,
    generator: Annotated[str | None, _role("Model that writes items, for --backend endpoint.")] = None,
    checker: Annotated[str | None, _role("Model that scores items.")] = None,
    solver: Annotated[str | None, _role("Model of the blind solves; default: the checker.")] = None,
    repairer: Annotated[str | None, _role("Model that rewrites wrong answers; default: the generator.")] = None,
    expander: Annotated[str | None, _role("Model that adds drawings; default: the generator.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="Environment variable with the key of the models that options name.")
    ] = None,
    endpoints: Annotated[
        Path | None, typer.Option(help="YAML file of the models, with prices, concurrency and limits.")
    ] = None,
    solves: Annotated[
        int | None, typer.Option(help="Blind solves of each image, with the drawing and without; default: 4.")
    ] = None,
    max_calls: Annotated[int | None, typer.Option(help="Maximum number of calls of models.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Maximum number of tokens of prompts and replies.")] = None,
    max_cost: Annotated[float | None, typer.Option(help="Maximum of money, in the unit of the prices.")] = None,
    force: Force = False,
) -> None:
    """Make problems whose solution needs a drawing, each executed and verified by its pixels.

    The same seed gives the same bytes. A run that was stopped or killed goes on with the same command.
    """
    given = GivenOptions(
        file=endpoints,
        roles=_given(generator=generator, checker=checker, solver=solver, repairer=repairer, expander=expander),
        api_key_env=api_key_env,
        limits={"max_calls": max_calls, "max_tokens": max_tokens, "max_cost": max_cost, "solves": solves},
    )
    if backend != ENDPOINT and backend not in BACKENDS:
        raise InputError(f"--backend must be among {', '.join((*BACKENDS, ENDPOINT))}; not {backend!r}")
    if backend != ENDPOINT and given.names:
        raise InputError(f"{given.names[0]} needs --backend {ENDPOINT}; {backend} asks no model")
    models = read_endpoint_settings(given) if backend == ENDPOINT else None
    settings = EvolveSettings(
        items=items,
        seed=seed,
        expand=expand,
        perception=perception,
        workers=cores() if workers is None else workers,
        threads=models.threads if models else 0,
    )
    opened = BACKENDS["program" if models else backend]()
    concepts = read_seeds(seeds) if seeds else opened.concepts
    seen = SeenItems()
    for path in suite or ():
        rows = seen.add_suite(path)
        print_error(f"{path}: {rows} rows are searched for leaks")
    origin = Origin(
        backend=backend if models is None else _models_text(models),
        seed=seed,
        dialect=dialect,
        suites=tuple(path.name for path in suite or ()),
    )
    with ExitStack() as stack:
        folder = stack.enter_context(whole_folder(out, force=force))
        results = stack.enter_context(ResultStore(store or out.resolve().with_name(f"{out.resolve().name}.store")))
        sandbox = stack.enter_context(Sandbox(LIMITS, live=settings.workers))
        examiner = Examiner(results, CodeTool(sandbox))
        roles = stack.enter_context(open_endpoint(models, results, examiner, seed)) if models else None
        spending = roles.spending if roles else None
        flywheel = Flywheel(
            generator=roles.generator if roles else opened.generator,
            prompt=opened.prompt,
            concepts=concepts,
            seen=seen,
            store=results,
            examiner=examiner,
            settings=settings,
            reviewer=roles.reviewer if roles else None,
        )
        shown_stages = stack.enter_context(Stages(["items", "files"], console=Console(stderr=True)))
        writer = stack.enter_context(EvolveWriter(folder, origin, shown))
        shown_stages.start("items")
        count = 0
        try:
            for count, examined in enumerate(flywheel.accepted(), start=1):
                writer.add(examined)
                cost = f"; {spending.text()}" if spending else ""
                shown_stages.advance(count, items, flywheel.yields.line() + cost)
        except LimitError as error:
            ready = f", or `--items {count}` to write those" if count else ""
            raise LimitError(
                f"{error}; {count} of {items} items are ready, and all replies are kept: raise the limit and give the"
                f" same command again{ready}"
            ) from error
        shown_stages.start("files")
        totals = writer.finish(flywheel.yields, flywheel.rejected)
        shown_stages.done()
    executed = {"executed": examiner.executions, **({"spent": spending.plain()} if spending else {})}
    print_json({"out": str(out), "seed": seed, **totals.plain(), **flywheel.yields.plain(), **executed})


def _given(**roles: str | None) -> dict[RoleName, str]:
    return {name: text for name in ROLES if (text := roles.get(name))}


def _models_text(settings: EndpointSettings) -> str:
    """Return the back end and its models, for the card."""
    return f"{ENDPOINT}: " + ", ".join(f"{name} {settings.role(name).model}" for name in ROLES)
