"""Can model-written code be run safely here? `codevision doctor`: what the machine offers, what the back end does."""

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
    """What was found."""

    primitives: tuple[Primitive, ...]
    isolation: Isolation | None = None
    """What code runs behind; None where the back end didn't start."""
    refused: str = ""
    """Why the back end didn't start, or died under the suite."""
    cases: dict[str, str]
    """The name of every conformance case and what the back end got wrong about it (empty: nothing)."""

    @property
    def ok(self) -> bool:
        lacking = any(primitive.required and primitive.missing for primitive in self.primitives)
        return not (lacking or self.refused or any(self.cases.values()))

    def plain(self) -> dict[str, Any]:
        """The same for JSON."""
        return {"ok": self.ok, **asdict(self)}


def examine(sandbox: Backend, primitives: list[Primitive]) -> Checkup:
    """Start the sandbox, run the whole conformance suite against it, and close it; takes some seconds."""
    found = tuple(primitives)
    isolation = None
    try:
        with sandbox:
            isolation = sandbox.start()
            return Checkup(primitives=found, isolation=isolation, cases=check_backend(sandbox.run))
    except SandboxError as error:
        return Checkup(primitives=found, isolation=isolation, refused=str(error), cases={})


def show_checkup(checkup: Checkup, console: Console) -> None:
    """Two tables, primitives and what went wrong, and a last line."""
    table = Table(title="What this machine has", title_justify="left")
    for name in ("primitive", "present", "what to do"):
        table.add_column(name)
    for primitive in checkup.primitives:
        colour = "green" if primitive.present else "red" if primitive.required else "yellow"
        word = "yes" if primitive.present else f"no: {primitive.missing}"
        remedy = "" if primitive.present else primitive.remedy + ("" if primitive.required else " (not required)")
        table.add_row(primitive.name, f"[{colour}]{escape(word)}[/]", escape(remedy))
    console.print(table)
    faults = {name: fault for name, fault in checkup.cases.items() if fault}
    if faults:
        table = Table("case", "what is wrong", title="What the back end gets wrong", title_justify="left")
        for name, fault in faults.items():
            table.add_row(escape(name), f"[red]{escape(fault)}[/]")
        console.print(table)
    if checkup.refused:
        console.print(f"[red]{escape(checkup.refused)}[/]")
        return
    passed = len(checkup.cases) - len(faults)
    console.print(f"code runs behind: {checkup.isolation}; {passed} of {len(checkup.cases)} conformance cases pass")
