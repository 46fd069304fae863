"""The `codevision` command; a signal ends it with one sentence from its first import on."""

from codevision_ext.io.stopping import stoppable


def main() -> None:
    """Run the command."""
    with stoppable("codevision: stopped"):
        from codevision_ext.cli import app  # noqa: PLC0415  slow: a signal may come meanwhile

        app.main()
