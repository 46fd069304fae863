"""Runs the commands of `python -m data_prep`; a signal ends it with one sentence from its first import on."""

from codevision_ext.io.stopping import stoppable


def main() -> None:
    """Run the command."""
    with stoppable("data_prep: stopped; nothing was written"):
        from data_prep.cli import app  # noqa: PLC0415  slow: a signal may come meanwhile

        app.main()


if __name__ == "__main__":
    main()
