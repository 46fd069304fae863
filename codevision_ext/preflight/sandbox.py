"""Checks that this machine runs model-written code safely: its kernel features, and the behaviour of the back end."""

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from codevision_ext.errors import SandboxError
from codevision_ext.sandbox import Isolation
from codevision_ext.sandbox.backend import Backend
from codevision_ext.sandbox.conformance import check_backend
from codevision_ext.sandbox.lockdown import Primitive


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkup:
    """The machine's primitives and the back end's conformance."""

    primitives: tuple[Primitive, ...]
    """Features of the kernel and libraries that the sandbox is built on."""
    isolation: Isolation | None = None
    """Isolation that code runs behind; None if the back end didn't start."""
    refused: str = ""
    """Reason that the back end didn't start or died during the suite; empty otherwise."""
    cases: dict[str, str]
    """Deviation of the back end in each conformance case, by the name of the case; empty text for none."""

    @property
    def ok(self) -> bool:
        """True if all required primitives are there and the back end passes every case."""
        lacking = any(primitive.required and primitive.missing for primitive in self.primitives)
        return not (lacking or self.refused or any(self.cases.values()))

    def plain(self) -> dict[str, Any]:
        """Returns all fields and `ok`, for JSON."""
        return {"ok": self.ok, **asdict(self)}


def examine(sandbox: Backend, primitives: list[Primitive]) -> Checkup:
    """Starts the sandbox, runs the whole conformance suite against it, and closes it; takes some seconds."""
    isolation = None
    try:
        with sandbox:
            isolation = sandbox.start()
            return Checkup(primitives=tuple(primitives), isolation=isolation, cases=check_backend(sandbox.run))
    except SandboxError as error:
        return Checkup(primitives=tuple(primitives), isolation=isolation, refused=str(error), cases={})


def show_checkup(checkup: Checkup, console: Console) -> None:
    """Prints a table of primitives, a table of failed cases where there are any, and a last line."""
    table = Table("primitive", "present", "what to do", title="Primitives of this machine", title_justify="left")
    for primitive in checkup.primitives:
        colour = "green" if primitive.present else "red" if primitive.required else "yellow"
        word = "yes" if primitive.present else f"no: {primitive.missing}"
        remedy = "" if primitive.present else primitive.remedy + ("" if primitive.required else " (not required)")
        table.add_row(primitive.name, f"[{colour}]{escape(word)}[/]", escape(remedy))
    console.print(table)
    failed = {name: deviation for name, deviation in checkup.cases.items() if deviation}
    if failed:
        table = Table("case", "deviation", title="Conformance cases that fail", title_justify="left")
        for name, deviation in failed.items():
            table.add_row(escape(name), f"[red]{escape(deviation)}[/]")
        console.print(table)
    if checkup.refused:
        console.print(f"[red]{escape(checkup.refused)}[/]")
        return
    passed = len(checkup.cases) - len(failed)
    console.print(f"code runs behind: {checkup.isolation}; {passed} of {len(checkup.cases)} conformance cases pass")
