"""MkDocs hooks: files of the repository that are pages too, and links between them and docs/.

A link in a Markdown file is written as GitHub shows it, relative to that file. Here it becomes relative to
the page that its target is on.
"""

import pathlib
import posixpath
import re

from mkdocs.structure.files import File

# Pages whose text stands outside docs/: file in the repository to page.
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "licence.md",
    "CITATION.cff": "citation.md",
    "dp3_jax/weights/README.md": "model-cards.md",
    "kits/README.md": "kits.md",
}
_SOURCES = {page: source for source, page in OUTSIDE.items()}
_LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")


def on_files(files, config):
    """Adds the pages of OUTSIDE."""
    repository = pathlib.Path(config.config_file_path).parent
    for source, page in OUTSIDE.items():
        text = (repository / source).read_text()
        if not source.endswith(".md"):
            text = f"# {page.removesuffix('.md').title()}\n\n```\n{text}```\n"
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Leads links from place to place in the repository to the pages that show them."""
    own = page.file.src_uri
    folder = posixpath.dirname(_SOURCES.get(own, f"docs/{own}"))

    def led(match):
        target = posixpath.normpath(posixpath.join(folder, match[2]))
        shown = OUTSIDE.get(target) or target.removeprefix("docs/")
        return match[1] + posixpath.relpath(shown, posixpath.dirname(own) or ".") + match[3]

    return _LINK.sub(led, markdown)
