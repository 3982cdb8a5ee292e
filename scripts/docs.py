# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the documentation site into .cache/site/html: `make docs`.

Pages of modules, roles and plugins come from antsibull-docs. The page of playbooks is generated from the comments
at their heads. All others are the Markdown files of this checkout at their own paths, so that links work in both.
Warnings are errors, and a broken link is a warning. Runs in an environment of its own (requirements/docs.txt).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / ".cache" / "site"
SOURCE = SITE / "source"
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CODE_OF_CONDUCT.md",
    "CHANGELOG.md",
    "docs/**/*.md",
    "roles/*/README.md",
    "molecule/*/README.md",
    "tests/**/README.md",
)
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)]*)?\)")
CONF = """\
from docutils import nodes

project = "kaido.ollama"
copyright = "kaido.ollama contributors"
html_title = "kaido.ollama"
html_theme = "sphinx_ansible_theme"
html_theme_options = {"vcs_pageview_mode": "", "documentation_home_url": "", "topbar_links": {}}
extensions = ["myst_parser", "sphinx_antsibull_ext"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
root_doc = "README"
myst_heading_anchors = 4
highlight_language = "yaml"


# References to Ansible's own documentation; intersphinx would need the network at each build.
ANSIBLE = "https://docs.ansible.com/ansible/latest/"
LABELS = {
    "common_return_values": "reference_appendices/common_return_values.html",
    "action_plugins": "plugins/action.html",
    "ansible_configuration_settings": "reference_appendices/config.html",
}


def outside(app, env, node, content):
    label = node["reftarget"]
    page = LABELS.get(label)
    if label.startswith("ansible_collections.ansible.builtin."):
        page = "collections/ansible/builtin/" + label.rsplit(".", 1)[1] + ".html"
    return nodes.reference("", "", content, refuri=ANSIBLE + page) if page else None


def setup(app):
    app.connect("missing-reference", outside)
"""
# Title and pages of each part of the navigation. All other pages directly below docs/ are background.
PARTS = {
    "Use": ["install", "howto/index", "playbooks", "failure-codes", "troubleshooting", "endpoint", "benchmark"],
    "Background": ["security", "architecture", "decisions/index", "scenarios", "scaling", "support"],
}
REFERENCE = ["collection/index", "roles/index"]
PROJECT = ["CONTRIBUTING", "SECURITY", "CODE_OF_CONDUCT", "CHANGELOG", "tests/index"]


def navigation() -> dict[str, list[str]]:
    """Return the pages of each part that exist in the source of the site."""
    parts = {
        title: [f"docs/{name}" for name in names if (SOURCE / "docs" / f"{name}.md").is_file()]
        for title, names in PARTS.items()
    }
    known = {page for pages in parts.values() for page in pages}
    others = sorted(f"docs/{path.stem}" for path in (SOURCE / "docs").glob("*.md"))
    parts["Background"] += [page for page in others if page not in known]
    return {"Use": parts["Use"], "Reference": REFERENCE, "Background": parts["Background"], "Project": PROJECT}


def toctree(pages: list[str], caption: str = "", *, glob: bool = False, hidden: bool = False) -> str:
    """Return a table of contents in MyST's syntax."""
    options = [f":caption: {caption}"] if caption else []
    options += [":glob:"] * glob + [":hidden:"] * hidden + [":maxdepth: 1"]
    return "\n".join(["", "```{toctree}", *options, "", *pages, "```", ""])


def index(path: str, title: str, pages: list[str]) -> None:
    """Write a generated page that lists others."""
    target = SOURCE / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f"# {title}\n{toctree(pages, glob=True)}")


def copy_pages() -> None:
    """Copy the Markdown files, and the files that they link to, to the same paths below the source of the site."""
    pages = sorted({path for pattern in PAGES for path in ROOT.glob(pattern)})
    for page in pages:
        target = SOURCE / page.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)

        def link(match: re.Match[str], page: Path = page) -> str:
            linked = (page.parent / match[1]).resolve()
            if linked.is_dir() and ROOT in linked.parents:
                return f"]({match[1].rstrip('/')}/index.md{match[2] or ''})"
            if linked.is_file() and linked not in pages:
                copied = SOURCE / linked.relative_to(ROOT)
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(linked, copied)
            return match[0]

        target.write_text(LINK.sub(link, page.read_text(encoding="utf-8")))
    index("docs/howto/index.md", "How-to guides", ["*"])
    index("docs/decisions/index.md", "Decisions", ["0*"])
    index("roles/index.md", "Roles in detail", ["*/README"])
    index("tests/index.md", "Tests", ["**/README"])


def playbooks_page() -> str:
    """Return the page of playbooks: the comment at the head of each, or the names of its plays."""
    lines = ["# Playbooks", "", "Call each as `ansible-playbook -i hosts.yml kaido.ollama.NAME`.", ""]
    for path in sorted((ROOT / "playbooks").glob("*.yml")):
        lines += [f"## `kaido.ollama.{path.stem}`", ""]
        content = path.read_text(encoding="utf-8")
        comments = re.match(r"(?:---\n)?((?:#.*\n)+)", content)
        if comments:
            described = [line[1:].removeprefix(" ") for line in comments[1].splitlines() if "SPDX-" not in line]
            lines += ["```text", *described, "```"]
        else:
            lines += [f"- {name}" for name in re.findall(r"^- name: (.*)$", content, re.MULTILINE)]
        lines.append("")
    return "\n".join(lines)


def call(*arguments: str) -> None:
    """Run a program of this environment; ends on failure."""
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache"), "LC_ALL": "C.UTF-8"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(arguments, cwd=ROOT, env=environment, check=False)
    if done.returncode:
        sys.exit(f"docs: {arguments[0]} failed with exit status {done.returncode}")


def main() -> None:
    """Build the site."""
    shutil.rmtree(SITE, ignore_errors=True)
    collection = SOURCE / "collection"
    collection.mkdir(parents=True)
    call(
        "antsibull-docs",
        "collection",
        "--use-current",
        "--squash-hierarchy",
        "--fail-on-error",
        "--dest-dir",
        str(collection),
        "kaido.ollama",
    )
    copy_pages()
    (SOURCE / "docs" / "playbooks.md").write_text(playbooks_page())
    (SOURCE / "conf.py").write_text(CONF)
    with (SOURCE / "README.md").open("a") as start:
        start.writelines(toctree(pages, title, hidden=True) for title, pages in navigation().items())
    call("sphinx-build", "-W", "--keep-going", "-q", "-j", "auto", "-b", "html", str(SOURCE), str(SITE / "html"))
    index_page = SITE / "html" / "index.html"
    index_page.write_text(
        '<!DOCTYPE html><title>kaido.ollama</title><meta http-equiv="refresh" content="0; url=README.html">\n'
    )
    print(f"docs: {index_page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
