"""Print the requirements of pyproject.toml, extras for development included, one for each word of a shell line."""

import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
groups = [project["dependencies"], *project["optional-dependencies"].values()]
print(" ".join(dict.fromkeys(r for group in groups for r in group if not r.startswith("torch>"))))
