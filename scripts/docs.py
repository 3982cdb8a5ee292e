"""Build the documentation site into .cache/site/html: `make docs`.

Pages of modules, roles and plugins come from antsibull-docs. The pages of playbooks and failure codes are generated
from their sources. All others are the Markdown files of this checkout at their own paths, so that links work in both.
Warnings are errors, and a broken link is a warning. Runs in an environment of its own (requirements/docs.txt).
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
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
# Title and pages of each part of the navigation; a page that is in none of them is a warning of Sphinx.
PARTS = {
    "Use": [
        "docs/install",
        "docs/howto/index",
        "docs/playbooks",
        "docs/codes",
        "docs/troubleshooting",
        "docs/endpoint",
    ],
    "Reference": ["collection/index", "roles/index"],
    "Background": [
        "docs/security",
        "docs/architecture",
        "docs/decisions/index",
        "docs/scenarios",
        "docs/scaling",
        "docs/support",
    ],
    "Project": ["CONTRIBUTING", "SECURITY", "CODE_OF_CONDUCT", "CHANGELOG", "tests/index"],
}


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
    start = SOURCE / "README.md"
    navigation = "".join(toctree(entries, caption, hidden=True) for caption, entries in PARTS.items())
    start.write_text(start.read_text() + navigation)
    index("docs/howto/index.md", "How-to guides", ["*"])
    index("docs/decisions/index.md", "Decisions", ["0*"])
    index("roles/index.md", "Roles in detail", ["*/README"])
    index("tests/index.md", "Tests", ["**/README"])


def codes() -> dict[str, list[str]]:
    """Failure code -> messages, from each `OllamaError(code, message)` of the plugins; `{…}` stands for a value."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "plugins").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") != "OllamaError" or not node.args:
                continue
            if isinstance(node.args[0], ast.Constant):
                message = text(node.args[1]) if len(node.args) > 1 else ""
                useful = message.replace("{…}", "").strip(" :;,.")
                found[str(node.args[0].value)].update({message} if useful else ())
    return {code: sorted(found[code]) for code in sorted(found)}


def text(node: ast.expr) -> str:
    """Return the fixed text of a message, with `{…}` in the place of each value."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text(part) if isinstance(part, ast.Constant) else "{…}" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text(node.left) + text(node.right)
    return "{…}"


def codes_page() -> str:
    """Return the page of failure codes."""
    lines = [
        "# Failure codes",
        "",
        "A failed module returns `failure.code`, a stable name for programs, and `msg`, one line that names the value",
        "and what is expected instead. This page is generated from the source: it lists the messages of each code,",
        "with `{…}` for values.",
        "",
    ]
    for code, messages in codes().items():
        lines += [f"## `{code}`", ""]
        lines += [f"- {escaped(message)}" for message in messages] or [
            "- The message comes from the system or the peer."
        ]
        lines.append("")
    return "\n".join(lines)


def escaped(message: str) -> str:
    """Return text in which Markdown and MyST find no markup."""
    return re.sub(r"([\\`*_{}<>\[\]$|#])", r"\\\1", message)


def playbooks_page() -> str:
    """Return the page of playbooks: the comment at the head of each, or the names of its plays."""
    lines = ["# Playbooks", "", "Call each as `ansible-playbook -i hosts.yml kaido.ollama.NAME`.", ""]
    for path in sorted((ROOT / "playbooks").glob("*.yml")):
        lines += [f"## `kaido.ollama.{path.stem}`", ""]
        content = path.read_text(encoding="utf-8")
        comments = re.match(r"(?:---\n)?((?:#.*\n)+)", content)
        if comments:
            lines += ["```text", *(line[1:].removeprefix(" ") for line in comments[1].splitlines()), "```"]
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
    (SOURCE / "docs" / "codes.md").write_text(codes_page())
    (SOURCE / "docs" / "playbooks.md").write_text(playbooks_page())
    (SOURCE / "conf.py").write_text(CONF)
    call("sphinx-build", "-W", "--keep-going", "-q", "-j", "auto", "-b", "html", str(SOURCE), str(SITE / "html"))
    start = SITE / "html" / "index.html"
    start.write_text(
        '<!DOCTYPE html><title>kaido.ollama</title><meta http-equiv="refresh" content="0; url=README.html">\n'
    )
    print(f"docs: {start.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
