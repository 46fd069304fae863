"""What the pages of the site are made of beside this folder: the recipes' READMEs, and the commands' own help."""

import re
from pathlib import Path

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.cli import get_docs_for_click

from codevision_ext.cli import app as cli
from data_prep.cli import app as data_prep

ROOT = Path(__file__).parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds each recipe's README where it stands, and a page with the help of every command."""
    for readme in sorted(ROOT.glob("recipe/*/README.md")):
        files.append(File(str(readme.relative_to(ROOT)), str(ROOT), config.site_dir, config.use_directory_urls))
    helps = (_help(cli.app, "codevision"), _help(data_prep.app, "codevision data"))
    files.append(File.generated(config, "reference/commands.md", content="\n".join(["# Commands", *helps])))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Between docs/ and recipe/, links are those of the checkout; on the site docs/ is the root."""
    away, back = (
        ("](../../docs/", "](../../") if page.file.src_uri.startswith("recipe/") else ("](../recipe/", "](recipe/")
    )
    return markdown.replace(away, back)


def _help(app: typer.Typer, name: str) -> str:
    """The help of a command and of those below it, one heading level down."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name=name)
    return re.sub(r"^#", "##", text, flags=re.MULTILINE)
